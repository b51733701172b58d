"""The pictures of a comparison: learning curves and spectra of the log-probability matrices."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

Lines = Sequence[dict[str, Any]]


def learning_curves(runs: dict[str, list[Lines]]) -> Figure:
    """Validation perplexity after each epoch, one line for each seed of each network; training dotted.

    Args:
        runs: network -> the metrics lines of each of its seeds.
    """
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    for color, (name, seeds) in zip(_colors(), runs.items(), strict=False):
        for index, lines in enumerate(seeds):
            epochs = [line["epoch"] for line in lines]
            validation = np.exp([line["validation_loss"] for line in lines])
            training = np.exp([line["train_loss"] for line in lines])
            axes.plot(epochs, validation, color=color, marker=".", label=name if index == 0 else None)
            axes.plot(epochs, training, color=color, linestyle=":", alpha=0.6)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.set_title(
        "Perplexity of the validation split (solid) and, with dropout, of training (dotted)", fontsize=10
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def spectra(rows: Sequence[dict[str, Any]]) -> Figure:
    """Singular values of the log-probability matrices over their largest, and the tolerance of the rank."""
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    for color, row in zip(_colors(), rows, strict=False):
        indices, values = np.array(row["rank"]["singular_values"]).T
        label = f"{row['network']}: rank {row['rank']['rank']}"
        axes.plot(indices, values / values[0], color=color, label=label)
        axes.axhline(row["rank"]["tolerance"] / values[0], color=color, linestyle=":", alpha=0.6)
    first = rows[0]["rank"]
    axes.set(xlabel="index", ylabel="singular value / largest", xscale="log", yscale="log")
    axes.set_title(
        f"{first['contexts']} test contexts x {first['vocabulary']} words; tolerances dotted", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _colors() -> list[str]:
    return [f"C{index}" for index in range(10)]
