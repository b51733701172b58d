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

    Solid: under the worst frequency of each epsilon, with bars from the lowest to the highest seed or, for one
    seed, of the 95 % interval. Dashed: mean over all frequencies.
    """
    figure, axes = new_figure(figsize=(6.5, 4.4))
    first = next(iter(sweeps.values()))
    for index, ((name, runs), look) in enumerate(zip(sweeps.items(), looks(sweeps).values(), strict=True)):
        epsilons = np.concatenate([[0.0], runs[0].epsilons])
        # Side by side, where bars of several regularisers would hide each other.
        places = epsilons + (index - (len(sweeps) - 1) / 2) * 0.008 * epsilons.max()
        worst = np.stack([_with_clean(run, run.worst_accuracy) for run in runs])
        mean = np.mean([_with_clean(run, run.mean_accuracy) for run in runs], axis=0)
        low, high = _spread(worst, int(runs[0].total))
        bars = np.maximum([worst.mean(axis=0) - low, high - worst.mean(axis=0)], 0)  # of roundings, below 0
        axes.errorbar(places, worst.mean(axis=0), bars, label=display(name), capsize=2, elinewidth=1, **look.solid)
        axes.plot(epsilons, mean, linestyle="--", color=look.color, marker=look.marker, markersize=3)
    seeds = f"{len(first)} seeds, bars: lowest to highest" if len(first) > 1 else "1 seed, bars: 95 % interval"
    axes.set(xlabel="epsilon (largest change of a pixel; pixels in [0, 1])", ylabel="accuracy", ylim=(0, 1))
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

    Over several seeds the error is their mean. Mean and worst accuracy are those of the tables: the mean of each
    seed's worst, which need not be at one frequency.
    """
    first = next(iter(sweeps.values()))
    largest = int(np.argmax(first[0].epsilons))
    accuracies = {
        name: np.stack([np.asarray(run.accuracy)[largest] for run in runs]) for name, runs in sweeps.items()
    }
    top = max(1 - accuracy.mean(axis=0).min() for accuracy in accuracies.values())
    figure, all_axes = new_figure(1, len(sweeps), figsize=(3 * len(sweeps) + 1, 3.4), squeeze=False, sharey=True)
    height, width = image_size
    # Pixel centres lie on the frequencies, from -height // 2 and -width // 2.
    first_row, first_column = -(height // 2) - 0.5, -(width // 2) - 0.5
    extent = (first_column, first_column + width, first_row + height, first_row)
    for axes, (name, accuracy) in zip(all_axes[0], accuracies.items(), strict=True):
        heatmap = fourier_heatmap(1 - accuracy.mean(axis=0), first[0].frequencies, image_size)
        image = axes.imshow(heatmap, vmin=0, vmax=top, cmap="magma", extent=extent)
        worst = accuracy.min(axis=1).mean()
        title = f"{display(name)}\nmean accuracy {accuracy.mean():.3f}\nworst accuracy {worst:.3f}"
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("horizontal cycles per image", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    all_axes[0, 0].set_ylabel("vertical cycles per image", fontsize=9)
    epsilon = float(first[0].epsilons[largest])
    figure.colorbar(image, ax=all_axes[0], label=f"error at epsilon {epsilon:g}", shrink=0.8)
    return figure


def attacked_images(examples: Mapping[str, Mapping[str, np.ndarray]], sweeps: Sweeps) -> "Figure":
    """Images under the worst attack of the first seed; both classes and a dashed frame where the class is wrong.

    Args:
        examples: name -> ``example_images`` [columns, N, H, W, C] (the first column is clean), ``example_labels``
            [N], ``example_classes`` [columns, N].
        sweeps: name -> the sweeps, for epsilons and frequencies.
    """
    columns, count = next(iter(examples.values()))["example_images"].shape[:2]
    count = min(count, max(1, 12 // columns))  # as many as can be read on a page
    # Between the images of two epsilons is an empty column.
    widths = ([1.0] * count + [0.3]) * columns
    size = (sum(widths) * 0.9, len(examples) * 1.35 + 0.6)
    options = {"width_ratios": widths[:-1], "hspace": 0.45, "wspace": 0.1}
    shape = len(examples), len(widths) - 1
    figure, grid = new_figure(*shape, figsize=size, squeeze=False, gridspec_kw=options)
    for (name, arrays), row in zip(examples.items(), grid, strict=True):
        for column in range(columns):
            first = column * (count + 1)
            for i in range(count):
                right, found = arrays["example_labels"][i], arrays["example_classes"][column, i]
                _draw_example(row[first + i], arrays["example_images"][column, i], found, right)
            title = "clean" if column == 0 else _attack_name(sweeps[name][0], column - 1)
            row[first].set_title(title, fontsize=9, loc="left")
            if column:
                row[first - 1].set_axis_off()
        row[0].set_ylabel(display(name), rotation=0, ha="right", va="center", fontsize=10, labelpad=8)
    figure.suptitle(
        "Images under the worst frequency (vertical, horizontal) of each epsilon.\n"
        "Below each: the predicted class; where it is wrong, \u2260 and the right one, and a dashed frame",
        fontsize=10,
    )
    figure.subplots_adjust(top=1 - 0.85 / size[1], bottom=0.3 / size[1])
    return figure


def display(name: str) -> str:
    """A name of the table as it is shown to readers."""
    known = {"l1": "L1", "none": "no regulariser", "absum": "Absum", "absum_penalty": "Absum penalty"}
    return known.get(name, name.replace("_", " "))


def _draw_example(axes: Any, picture: np.ndarray, found: int, right: int) -> None:
    is_gray = picture.shape[-1] == 1
    axes.imshow(picture.squeeze(-1) if is_gray else picture, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    wrong = found != right
    axes.set_xlabel(f"{found} \u2260 {right}" if wrong else f"{found}", fontsize=9, labelpad=2)
    axes.spines[:].set(color="#D55E00" if wrong else "#0072B2", linewidth=2, linestyle="--" if wrong else "-")


def _attack_name(sweep: FourierSweep, index: int) -> str:
    vertical, horizontal = np.asarray(sweep.worst_frequency)[index].tolist()
    return f"{float(sweep.epsilons[index]):g} at ({vertical},{horizontal})"


def _with_clean(run: FourierSweep, accuracies: Array) -> np.ndarray:
    return np.concatenate([[float(run.clean_accuracy)], np.asarray(accuracies)])


def _spread(worst: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the bars; the images are the same for all seeds, so counts are not pooled."""
    if len(worst) > 1:
        return worst.min(axis=0), worst.max(axis=0)
    low, high = accuracy_interval(np.rint(worst[0] * total), total)
    return np.asarray(low), np.asarray(high)
