"""The picture of transferred attacks: a matrix of substitutes and targets for each attack."""

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.absum.evaluations.transfer_tables import ATTACKS
from experiments.absum.figures.words import display, display_epsilon
from experiments.harness.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READABLE = 12  # networks, up to which each entry is written out


def matrices(numbers: dict[str, Any]) -> "Figure":
    """Accuracy of each target, a column, on what was made on each substitute, a row; on one colour scale.

    Args:
        numbers: of the comparison.
    """
    names = [
        f"{display(name)}, seed {seed}" for name, seed in zip(numbers["networks"], numbers["seeds"], strict=True)
    ]
    side = 1.6 + 0.35 * len(names)
    figure, panels = new_figure(1, len(ATTACKS), figsize=(len(ATTACKS) * side + 1.5, side), sharey=True)
    for axes, (attack, words) in zip(panels, ATTACKS.items(), strict=True):
        accuracy = np.asarray(numbers["accuracy"][attack])
        image = axes.imshow(accuracy, vmin=0, vmax=1, cmap="viridis")
        axes.set_title(f"{words}\nepsilon {display_epsilon(numbers['epsilon'][attack])}", fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xlabel("target", fontsize=9)
        if len(names) <= READABLE:
            for (row, column), value in np.ndenumerate(accuracy):
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    panels[0].set_ylabel("substitute", fontsize=9)
    figure.colorbar(image, ax=list(panels), label="accuracy of the target", shrink=0.8)
    figure.suptitle(f"Attacks made on the substitute, {numbers['images']} test images", fontsize=10, y=1.03)
    return figure
