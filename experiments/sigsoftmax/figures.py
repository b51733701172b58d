"""The pictures of a comparison: learning curves and spectra of the log-probability matrices."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.harness.figures import looks, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[Sequence[float]]  # (epoch, training loss, validation loss) of each epoch


def learning_curves(curves: Mapping[str, Sequence[Curve]]) -> "Figure":
    """Validation perplexity after each epoch, one line for each seed of each network; training dotted.

    Args:
        curves: network -> the curve of each of its seeds.
    """
    figure, axes = new_figure(figsize=(6.5, 4.2))
    for (name, seeds), look in zip(curves.items(), looks(curves).values(), strict=True):
        for index, curve in enumerate(seeds):
            epochs, training, validation = np.reshape(curve, (-1, 3)).T
            label = display(name) if index == 0 else None
            axes.plot(epochs, np.exp(validation), color=look.color, marker=look.marker, label=label)
            axes.plot(epochs, np.exp(training), color=look.color, linestyle=":", alpha=0.7)
    axes.set(xlabel="epoch, those of fine-tuning counted on", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_minor_formatter("{x:.0f}")
    axes.set_title(
        "Perplexity of the validation split (solid) and, with dropout, of training (dotted)", fontsize=10
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def spectra(ranks: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Singular values of the log-probability matrices over their largest, and the tolerance of the rank.

    Args:
        ranks: network -> the numbers of its rank.
    """
    figure, axes = new_figure(figsize=(6.5, 4.2))
    tolerances = []
    for (name, rank), look in zip(ranks.items(), looks(ranks).values(), strict=True):
        indices, values = np.array(rank["singular_values"]).T
        label = f"{display(name)}: rank {rank['rank']}"
        axes.plot(indices, values / values[0], color=look.color, linestyle=look.line, label=label)
        tolerances.append(rank["tolerance"] / values[0])
    first = next(iter(ranks.values()))
    # 0.5 sqrt(m + n + 1) eps of the largest singular value: one line for all matrices of a shape and dtype.
    axes.axhspan(min(tolerances), max(tolerances), color="gray", alpha=0.6, label="tolerance of the rank")
    axes.set(xlabel="index", ylabel="singular value / largest", xscale="log", yscale="log")
    axes.set_title(
        f"Log-probabilities of {first['contexts']} test contexts x {first['vocabulary']} words", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def display(name: str) -> str:
    """A name of the table as it is shown to readers."""
    return {"mos": "MoS", "moss": "MoSS", "relu": "ReLU"}.get(name, name)
