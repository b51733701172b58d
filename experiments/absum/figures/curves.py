"""Curves of accuracy: one for each regulariser, with a band over its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.absum.figures.words import display
from experiments.harness.figures import looks

Curves = Mapping[str, Sequence[Sequence[float]]]  # what is compared -> for each seed a value at every place


def draw_curves(axes: Any, places: Sequence[float], curves: Curves, *, title: str) -> None:
    """Draw the mean over the seeds of each, and from the lowest to the highest seed a band.

    Args:
        axes: of matplotlib.
        places: [X], of the horizontal axis.
        curves: name -> accuracies [seeds, X].
        title: of the panel.
    """
    order = np.argsort(places)
    for (name, seeds), look in zip(curves.items(), looks(curves).values(), strict=True):
        ordered = np.asarray(places)[order], np.asarray(seeds, float)[:, order]
        axes.plot(
            ordered[0], ordered[1].mean(axis=0),
            label=display(name), linestyle=look.line, markersize=4, **look.solid,
        )  # fmt: skip
        if len(seeds) > 1:
            low, high = ordered[1].min(axis=0), ordered[1].max(axis=0)
            axes.fill_between(ordered[0], low, high, color=look.color, alpha=0.15, linewidth=0)
    axes.set(ylim=(0, 1))
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)


def seeds_in_words(curves: Curves) -> str:
    """What a caption says of the bands."""
    count = len(next(iter(curves.values())))
    return f"mean of {count} seeds, bands: lowest to highest" if count > 1 else "1 seed"
