"""The picture of a choice of strength: the score of each that was tried, over its seeds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.absum.figures.words import display
from experiments.harness.figures import looks, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def score_panel(
    strengths: Sequence[float], scores: Sequence[Sequence[float]], best: float, *, regularizer: str, by: str
) -> "Figure":
    """The mean score over the strength, a point for each seed, and the strength that is chosen.

    Args:
        strengths: [S], that were tried.
        scores: [S, seeds], the larger the better.
        best: the strength that is chosen.
        regularizer: whose strengths they are.
        by: the evaluation that gave the scores.
    """
    order = np.argsort(strengths)
    places, values = np.asarray(strengths)[order], np.asarray(scores, float)[order]
    look, chosen = looks(dict.fromkeys(("scores", "chosen"))).values()
    figure, axes = new_figure(figsize=(5, 3.6))
    axes.plot(places, values.mean(axis=1), label="mean over seeds", linestyle=look.line, **look.solid)
    axes.plot(
        np.repeat(places, values.shape[1]), values.reshape(-1),
        linestyle="", marker=".", color=look.color, alpha=0.4, label="a seed",
    )  # fmt: skip
    axes.axvline(best, color=chosen.color, linestyle=":", label=f"chosen: {best:g}")
    # Strengths are tried in powers; 0 has a place of its own.
    if (positive := places[places > 0]).size:
        axes.set_xscale("symlog", linthresh=positive.min())
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel(f"strength of {display(regularizer)}", fontsize=9)
    axes.set_ylabel(f"score by {by} on validation images", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    count = values.shape[1]
    axes.set_title(f"{display(regularizer)}: {count} seed{'s' if count > 1 else ''}", fontsize=10)
    return figure
