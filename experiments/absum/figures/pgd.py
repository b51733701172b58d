"""The picture of projected gradient descent: accuracy over epsilon and over steps, and what it has to beat."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.absum.figures.curves import draw_curves, seeds_in_words
from experiments.absum.figures.words import display_epsilon
from experiments.harness.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"pgd": "PGD", "worst_case": "worst of PGD and Fourier, each image", "noise": "random noise"}


def accuracy_panels(numbers: Mapping[str, Sequence[dict[str, Any]]]) -> "Figure":
    """A panel for each kind of attack over epsilon, and one over the steps.

    Args:
        numbers: of the evaluation, name -> those of each seed.
    """
    first = next(iter(numbers.values()))[0]
    figure, panels = new_figure(1, len(TITLES) + 1, figsize=(15.5, 3.6), sharey=True)
    for axes, (kind, title) in zip(panels[:-1], TITLES.items(), strict=True):
        curves = {
            name: [[each["clean_accuracy"], *each["accuracy"][kind]] for each in seeds]
            for name, seeds in numbers.items()
        }
        draw_curves(axes, [0, *first["epsilons"]], curves, title=title)
        axes.set_xlabel("epsilon (L-infinity, pixels in [0, 1])", fontsize=9)
    steps = first["over_steps"]
    curves = {name: [each["over_steps"]["accuracy"] for each in seeds] for name, seeds in numbers.items()}
    title = f"PGD at epsilon {display_epsilon(steps['epsilon'])}"
    draw_curves(panels[-1], steps["steps"], curves, title=title)
    panels[-1].set_xlabel("steps", fontsize=9)
    panels[-1].set_xscale("log")
    panels[-1].set_xticks(steps["steps"], [str(number) for number in steps["steps"]])
    panels[-1].minorticks_off()
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize=8)
    losses = ", ".join(first["by_loss"]).replace("_", " ")
    words = f"{first['images']} images, {seeds_in_words(curves)}, worst of the losses: {losses}"
    figure.suptitle(f"Projected gradient descent\n{words}", fontsize=10, y=1.04)
    return figure
