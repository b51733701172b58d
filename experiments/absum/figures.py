"""The pictures of the single Fourier attack: accuracy curves, heat maps, attacked images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import Array

from absum_jax import FourierSweep, accuracy_interval, fourier_heatmap
from experiments.harness.figures import looks, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sweeps = Mapping[str, Sequence[FourierSweep]]  # what is compared -> one sweep for each seed


def accuracy_curves(sweeps: Sweeps) -> "Figure":
    """Accuracy against epsilon for each regulariser, averaged over seeds.

    Solid: under the worst frequency of each epsilon; shaded: lowest to highest seed or, for one seed, the 95 %
    interval. Dashed: mean over all frequencies.
    """
    figure, axes = new_figure(figsize=(6.5, 4.4))
    for (name, runs), look in zip(sweeps.items(), looks(sweeps).values(), strict=True):
        epsilons = np.concatenate([[0.0], runs[0].epsilons])
        worst = np.stack([_with_clean(run, run.worst_accuracy) for run in runs])
        mean = np.mean([_with_clean(run, run.mean_accuracy) for run in runs], axis=0)
        axes.plot(epsilons, worst.mean(axis=0), label=display(name), color=look.color, marker=look.marker)
        axes.fill_between(epsilons, *_spread(worst, int(runs[0].total)), color=look.color, alpha=0.15)
        axes.plot(epsilons, mean, linestyle="--", color=look.color, marker=look.marker, markersize=3)
    first = next(iter(sweeps.values()))
    seeds = f"{len(first)} seeds, band: lowest to highest" if len(first) > 1 else "1 seed, band: 95 % interval"
    axes.set(xlabel="epsilon (L-infinity, pixels in [0, 1])", ylabel="accuracy", ylim=(0, 1))
    axes.set_title(
        "Single Fourier attack: worst frequency (solid), mean over frequencies (dashed)\n"
        f"{int(first[0].total)} images, {seeds}",
        fontsize=9,
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def heatmaps(sweeps: Sweeps, image_size: tuple[int, int]) -> "Figure":
    """Error at every frequency for the largest epsilon, side by side on one colour scale; zero in the centre.

    Over several seeds the error is their mean; "worst" is the mean of each seed's worst, as in the tables.
    """
    first = next(iter(sweeps.values()))
    largest = int(np.argmax(first[0].epsilons))
    errors = {
        name: 1 - np.stack([np.asarray(run.accuracy)[largest] for run in runs]) for name, runs in sweeps.items()
    }
    top = max(error.mean(axis=0).max() for error in errors.values())
    figure, all_axes = new_figure(1, len(sweeps), figsize=(3 * len(sweeps) + 1, 3.4), squeeze=False, sharey=True)
    height, width = image_size
    # Pixel centres lie on the frequencies, from -height // 2 and -width // 2.
    first_row, first_column = -(height // 2) - 0.5, -(width // 2) - 0.5
    extent = (first_column, first_column + width, first_row + height, first_row)
    for axes, (name, runs) in zip(all_axes[0], sweeps.items(), strict=True):
        heatmap = fourier_heatmap(errors[name].mean(axis=0), runs[0].frequencies, image_size)
        image = axes.imshow(heatmap, vmin=0, vmax=top, cmap="magma", extent=extent)
        worst = errors[name].max(axis=1).mean()
        axes.set_title(f"{display(name)}\nmean {errors[name].mean():.2f}, worst {worst:.2f}", fontsize=10)
        axes.set_xlabel("horizontal cycles per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    all_axes[0, 0].set_ylabel("vertical cycles per image")
    epsilon = float(first[0].epsilons[largest])
    figure.colorbar(image, ax=all_axes[0], label=f"error at epsilon {epsilon:g}", shrink=0.8)
    return figure


def attacked_images(examples: Mapping[str, Mapping[str, np.ndarray]], sweeps: Sweeps) -> "Figure":
    """Images under the worst attack of the first seed; a cross and a dashed frame where the class is wrong.

    Args:
        examples: name -> ``example_images`` [columns, N, H, W, C] (the first column is clean), ``example_labels``
            [N], ``example_classes`` [columns, N].
        sweeps: name -> the sweeps, for epsilons and frequencies.
    """
    columns, count = next(iter(examples.values()))["example_images"].shape[:2]
    size = (columns * count * 0.75, len(examples) * 1.25)
    figure, grid = new_figure(len(examples), columns * count, figsize=size, squeeze=False)
    for (name, arrays), row in zip(examples.items(), grid, strict=True):
        sweep = sweeps[name][0]
        for column in range(columns):
            for i in range(count):
                right, found = arrays["example_labels"][i], arrays["example_classes"][column, i]
                _draw_example(row[column * count + i], arrays["example_images"][column, i], found, right)
            title = "clean" if column == 0 else _attack_name(sweep, column - 1)
            row[column * count].set_title(title, fontsize=7, loc="left")
        row[0].set_ylabel(display(name), rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(
        "Below each image: the predicted class; \u2717 and a dashed frame where it is wrong", fontsize=9
    )
    figure.subplots_adjust(hspace=0.6)
    return figure


def display(name: str) -> str:
    """A name of the table as it is shown to readers."""
    return {"l1": "L1", "none": "no regulariser"}.get(name, name.replace("_", " "))


def _draw_example(axes: Any, picture: np.ndarray, found: int, right: int) -> None:
    is_gray = picture.shape[-1] == 1
    axes.imshow(picture.squeeze(-1) if is_gray else picture, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    wrong = found != right
    axes.set_xlabel(f"{found} \u2717" if wrong else f"{found}", fontsize=7, labelpad=1)
    axes.spines[:].set(color="#D55E00" if wrong else "#0072B2", linewidth=2, linestyle="--" if wrong else "-")


def _attack_name(sweep: FourierSweep, index: int) -> str:
    vertical, horizontal = np.asarray(sweep.worst_frequency)[index].tolist()
    return f"epsilon {float(sweep.epsilons[index]):g}, ({vertical},{horizontal})"


def _with_clean(run: FourierSweep, accuracies: Array) -> np.ndarray:
    return np.concatenate([[float(run.clean_accuracy)], np.asarray(accuracies)])


def _spread(worst: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of the shade; the images are the same for all seeds, so counts are not pooled."""
    if len(worst) > 1:
        return worst.min(axis=0), worst.max(axis=0)
    low, high = accuracy_interval(np.rint(worst[0] * total), total)
    return np.asarray(low), np.asarray(high)
