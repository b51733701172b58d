"""The pictures of noise: accuracy over its bandwidth and over its norm."""

from typing import TYPE_CHECKING

from experiments.absum.figures.curves import draw_curves, seeds_in_words
from experiments.harness.evaluation import Group
from experiments.harness.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def noise_panels(group: Group, places: str, part: str) -> "Figure":
    """A panel for each kind of noise, with a curve for each thing that is compared.

    Args:
        group: what the evaluation gave.
        places: the name of the numbers of the horizontal axis: bandwidths or epsilons.
        part: that of the accuracies at them: over_bandwidth or over_norm.
    """
    first = next(iter(group.values()))[0].numbers
    kinds = list(first[part])
    figure, panels = new_figure(1, len(kinds), figsize=(4 * len(kinds) + 0.5, 3.6), squeeze=False, sharey=True)
    for kind, axes in zip(kinds, panels[0], strict=True):
        curves = {name: [each.numbers[part][kind] for each in measured] for name, measured in group.items()}
        title = {"low": "lowest frequencies", "high": "highest frequencies", "white": "all (white noise)"}[kind]
        draw_curves(axes, first[places], curves, title=title)
    if part == "over_bandwidth":
        fixed, label = f"L2 norm {first['epsilon']:g}", "bandwidth (cycles per image, in each direction)"
    else:
        fixed, label = f"bandwidth {first['bandwidth']}", "L2 norm of the noise (pixels in [0, 1])"
    for axes in panels[0]:
        axes.set_xlabel(label, fontsize=9)
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].legend(fontsize=8)
    words = f"{first['images']} images, {first['draws']} draws each, {seeds_in_words(curves)}"
    figure.suptitle(f"Gaussian noise in a square of the spectrum, {fixed}\n{words}", fontsize=10, y=1.04)
    return figure
