"""The pictures of a comparison: accuracy curves, Fourier heat maps, attacked images."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from absum_jax import FourierSweep, accuracy_interval, fourier_heatmap


def accuracy_curves(sweeps: dict[str, list[FourierSweep]]) -> Figure:
    """Accuracy against epsilon for each regulariser, averaged over seeds.

    Solid: under the worst frequency of each epsilon; shaded: lowest to highest seed or, for one seed, the 95 %
    interval. Dashed: mean over all frequencies.
    """
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    for name, runs in sweeps.items():
        epsilons = np.concatenate([[0.0], runs[0].epsilons])
        worst = np.stack([_with_clean(run, run.worst_accuracy) for run in runs])
        mean = np.mean([_with_clean(run, run.mean_accuracy) for run in runs], axis=0)
        (line,) = axes.plot(epsilons, worst.mean(axis=0), marker="o", label=name)
        axes.fill_between(epsilons, *_spread(worst, int(runs[0].total)), color=line.get_color(), alpha=0.15)
        axes.plot(epsilons, mean, linestyle="--", color=line.get_color())
    axes.set(xlabel="epsilon (L-infinity, pixels in [0, 1])", ylabel="accuracy", ylim=(0, 1))
    axes.set_title("Single Fourier attack: worst frequency (solid), mean over frequencies (dashed)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _with_clean(run: FourierSweep, accuracies: Array) -> np.ndarray:
    return np.concatenate([[float(run.clean_accuracy)], np.asarray(accuracies)])


def _spread(worst: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of the shade; the images are the same for all seeds, so counts are not pooled."""
    if len(worst) > 1:
        return worst.min(axis=0), worst.max(axis=0)
    low, high = accuracy_interval(np.rint(worst[0] * total), total)
    return np.asarray(low), np.asarray(high)


def heatmaps(sweeps: dict[str, list[FourierSweep]], image_size: tuple[int, int]) -> Figure:
    """Error at every frequency for the largest epsilon, side by side on one colour scale; zero in the centre."""
    largest = int(np.argmax(next(iter(sweeps.values()))[0].epsilons))
    errors = {
        name: 1 - np.mean([np.asarray(run.accuracy)[largest] for run in runs], axis=0)
        for name, runs in sweeps.items()
    }
    top = max(error.max() for error in errors.values())
    figure, all_axes = plt.subplots(1, len(sweeps), figsize=(3 * len(sweeps) + 1, 3.4), squeeze=False, sharey=True)
    height, width = image_size
    # Pixel centres lie on the frequencies, from -height // 2 and -width // 2.
    first_row, first_column = -(height // 2) - 0.5, -(width // 2) - 0.5
    extent = (first_column, first_column + width, first_row + height, first_row)
    for axes, (name, runs) in zip(all_axes[0], sweeps.items(), strict=True):
        heatmap = fourier_heatmap(errors[name], runs[0].frequencies, image_size)
        image = axes.imshow(heatmap, vmin=0, vmax=top, cmap="magma", extent=extent)
        axes.set_title(f"{name}\nmean {errors[name].mean():.2f}, worst {errors[name].max():.2f}", fontsize=10)
        axes.set_xlabel("m")
    all_axes[0, 0].set_ylabel("l")
    epsilon = float(next(iter(sweeps.values()))[0].epsilons[largest])
    figure.colorbar(image, ax=all_axes[0], label=f"error at epsilon {epsilon:g}", shrink=0.8)
    return figure


def attacked_images(
    images: dict[str, np.ndarray],
    predictions: dict[str, np.ndarray],
    labels: np.ndarray,
    titles: Sequence[str],
) -> Figure:
    """Images under the worst attack of each network, framed green where still right and red where fooled.

    Args:
        images: name -> [columns, N, H, W, C]; the first column is clean.
        predictions: name -> [columns, N] classes.
        labels: [N].
        titles: of the columns.
    """
    names, columns, count = list(images), len(titles), len(labels)
    figure, grid = plt.subplots(
        len(names), columns * count, figsize=(columns * count * 0.75, len(names) * 0.95), squeeze=False
    )
    for name, row in zip(names, grid, strict=True):
        for column in range(columns):
            for i in range(count):
                axes = row[column * count + i]
                picture = images[name][column][i]
                axes.imshow(
                    picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1
                )
                axes.set(xticks=[], yticks=[])
                is_right = predictions[name][column][i] == labels[i]
                axes.spines[:].set(color="tab:green" if is_right else "tab:red", linewidth=2)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for column, title in enumerate(titles):
        grid[0][column * count].set_title(title, fontsize=8, loc="left")
    return figure
