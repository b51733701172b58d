"""The pictures of the single Fourier attack: accuracy curves, heat maps, attacked images."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from absum_jax import FourierSweep, fourier_heatmap
from experiments.absum.figures.words import NORMS, display, display_epsilon
from experiments.harness.figures import Look, looks, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]  # as evaluations/fourier_results.py makes them
Sweeps = Mapping[str, Sequence[FourierSweep]]  # what is compared -> one sweep for each seed
_EPSILON = {"linf": "largest change of a pixel", "l2": "L2 norm of the change of an image"}


class _Curve(NamedTuple):
    """One accuracy of one network, from epsilon 0 on, with its 95 % interval where it is of one attack."""

    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def accuracy_curves(numbers: Mapping[str, Sequence[Numbers]]) -> "Figure":
    """Accuracy against epsilon for each regulariser, averaged over seeds; a panel for each meaning of "worst".

    Bars go from the lowest to the highest seed or, for one seed, over the 95 % interval of the accuracy at that
    frequency.

    Args:
        numbers: name -> those of each seed.
    """
    first = next(iter(numbers.values()))
    panels = _panels(first[0])
    rows, columns = (len(panels) + 1) // 2, 2
    size = (9.5, 3.4 * rows + 0.6)
    figure, grid = new_figure(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axes, title in zip(grid.flat, panels, strict=False):
        for index, (name, look) in enumerate(looks(numbers).items()):
            # Side by side, where bars of several regularisers would hide each other.
            shift = (index - (len(numbers) - 1) / 2) * 0.008
            _draw_curve(axes, [_panels(each)[title] for each in numbers[name]], first[0], look, (name, shift))
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    seeds = f"{len(first)} seeds, bars: lowest to highest seed"
    if len(first) == 1:
        seeds = "1 seed, bars: 95 % interval of the accuracy at that frequency; a mean has none"
    figure.suptitle(f"Single Fourier attack in the {NORMS[first[0]['norm']]} norm\n{seeds}", fontsize=10)
    figure.supxlabel(f"epsilon ({_EPSILON[first[0]['norm']]}; pixels in [0, 1])", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    grid[0, 0].set_ylim(0, 1)
    grid[0, 0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def _panels(numbers: Numbers) -> dict[str, _Curve]:
    """What is drawn of one network, by what it is."""
    count, binary = _attacks(numbers), numbers["binary_attacks"]
    images, clean = f"{numbers['images']} {numbers['split']} images", numbers["clean_accuracy"]
    found = {
        f"worst of all {count}, {images}": _worst_curve(numbers, clean),
        f"worst without the {binary} binary ones, {images}": _worst_curve(numbers["without_binary"], clean),
        f"mean of all {count}, {images}": _Curve(*[np.array([clean, *numbers["mean_accuracy"]])] * 3),
    }
    if chosen := numbers.get("chosen_on_validation"):
        title = f"worst for {chosen['validation_images']} validation images, on {chosen['images']} test images"
        found[title] = _curve(chosen["accuracy"], chosen["accuracy_interval"], chosen["clean_accuracy"])
    return found


def _attacks(numbers: Numbers) -> str:
    phases = len(numbers["phases"])
    return f"{numbers['frequencies']} frequencies" + (f" in {phases} phases" if phases > 1 else "")


def _worst_curve(found: Numbers, clean: float) -> _Curve:
    return _curve(found["worst_accuracy"], found["worst_accuracy_interval"], clean)


def _curve(accuracy: Sequence[float], interval: Sequence[Sequence[float]], clean: float) -> _Curve:
    low, high = zip(*interval, strict=True)
    return _Curve(*(np.array([clean, *values]) for values in (accuracy, low, high)))


def _draw_curve(
    axes: Any, seeds: Sequence[_Curve], numbers: Numbers, look: Look, label_and_shift: tuple[str, float]
) -> None:
    label, shift = label_and_shift
    epsilons = np.array([0.0, *numbers["epsilons"]])
    order = np.argsort(epsilons, stable=True)
    accuracy = np.stack([each.accuracy for each in seeds])  # [seeds, epsilons]
    low, high = (accuracy.min(axis=0), accuracy.max(axis=0)) if len(seeds) > 1 else seeds[0][1:]
    mean = accuracy.mean(axis=0)
    bars = np.maximum([mean - low, high - mean], 0)  # of roundings, below 0
    places = (epsilons + shift * epsilons.max())[order]
    axes.errorbar(
        places, mean[order], bars[:, order], label=display(label), capsize=2, elinewidth=1, markersize=4,
        **look.solid,
    )  # fmt: skip


def heatmaps(sweeps: Sweeps, image_size: tuple[int, int], norm: str) -> "Figure":
    """Error at every frequency for the largest epsilon, on one colour scale, five in a row; zero in the centre.

    Over several seeds the error is their mean, and of several phases it is the largest. Circles are around the
    worst frequency of each seed and its conjugate, which is the same wave. Mean and worst accuracy are those of
    the tables: the mean of each seed's worst, which need not be at one frequency.
    """
    first = next(iter(sweeps.values()))
    largest = int(np.argmax(first[0].epsilons))
    # [seeds, attacks], and [seeds, frequencies].
    attacks = {
        name: np.stack([np.asarray(run.accuracy)[largest].reshape(-1) for run in runs])
        for name, runs in sweeps.items()
    }
    count = len(first[0].frequencies)
    errors = {name: 1 - each.reshape(len(each), -1, count).min(axis=1) for name, each in attacks.items()}
    top = max(each.mean(axis=0).max() for each in errors.values())
    num_rows = math.ceil(len(sweeps) / 5)
    num_columns = math.ceil(len(sweeps) / num_rows)
    size = (3 * num_columns + 1, 3.7 * num_rows)
    figure, all_axes = new_figure(num_rows, num_columns, figsize=size, squeeze=False, sharey=True)
    used, unused = all_axes.flat[: len(sweeps)], all_axes.flat[len(sweeps) :]
    for axes in unused:
        axes.remove()
    for axes, (name, error) in zip(used, errors.items(), strict=True):
        heatmap = fourier_heatmap(error.mean(axis=0), first[0].frequencies, image_size)
        image = axes.imshow(heatmap, vmin=0, vmax=top, cmap="magma", extent=_extent(image_size))
        for run in sweeps[name]:
            _circle_worst(axes, np.asarray(run.worst_frequency)[largest], image_size)
        accuracy = attacks[name]
        title = f"mean accuracy {accuracy.mean():.3f}\nworst accuracy {accuracy.min(axis=1).mean():.3f}"
        axes.set_title(f"{display(name)}\n{title}", fontsize=9)
        axes.set_xlabel("horizontal cycles per image", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    for axes in all_axes[:, 0]:
        axes.set_ylabel("vertical cycles per image", fontsize=9)
    label = f"error at {NORMS[norm]} norm {display_epsilon(float(first[0].epsilons[largest]))}"
    figure.colorbar(image, ax=list(used), label=label, shrink=0.8 / num_rows)
    seeds = f"frequency of each seed; {len(first)} seeds" if len(first) > 1 else "frequency; 1 seed"
    note = f"circles: worst {seeds}, {first[0].total} images"
    below = {"xycoords": "axes fraction", "textcoords": "offset points"}
    all_axes[-1, 0].annotate(note, (0, 0), xytext=(0, -42), fontsize=8, **below)
    return figure


def _extent(image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, right, bottom, top: pixel centres lie on the frequencies, from -height // 2 and -width // 2."""
    height, width = image_size
    top, left = -(height // 2) - 0.5, -(width // 2) - 0.5
    return left, left + width, top + height, top


def _circle_worst(axes: Any, frequency: np.ndarray, image_size: tuple[int, int]) -> None:
    size, half = np.array(image_size), np.array(image_size) // 2
    both = (np.stack([frequency, -frequency]) + half) % size - half  # [2, (vertical, horizontal)], in cycles
    look = {"s": 70, "facecolors": "none", "linewidths": 1.2, "clip_on": False}
    axes.scatter(both[:, 1], both[:, 0], edgecolors="#56B4E9", marker="o", **look)


def attacked_images(examples: Mapping[str, Mapping[str, np.ndarray]], sweeps: Sweeps, norm: str) -> "Figure":
    """Images under the worst attack of the first seed; both classes and a dashed frame where the class is wrong.

    Args:
        examples: name -> ``example_images`` [columns, N, H, W, C] (the first column is clean), ``example_labels``
            [N], ``example_classes`` [columns, N].
        sweeps: name -> the sweeps, for epsilons and frequencies.
        norm: of the epsilons.
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
        f"Images under the worst frequency (vertical, horizontal) of each {NORMS[norm]} norm.\n"
        "Below each: the predicted class; where it is wrong, \u2260 and the right one, and a dashed frame",
        fontsize=10,
    )
    figure.subplots_adjust(top=1 - 0.85 / size[1], bottom=0.3 / size[1])
    return figure


def _draw_example(axes: Any, picture: np.ndarray, found: int, right: int) -> None:
    is_gray = picture.shape[-1] == 1
    axes.imshow(picture.squeeze(-1) if is_gray else picture, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    wrong = found != right
    axes.set_xlabel(f"{found} \u2260 {right}" if wrong else f"{found}", fontsize=9, labelpad=2)
    axes.spines[:].set(color="#D55E00" if wrong else "#0072B2", linewidth=2, linestyle="--" if wrong else "-")


def _attack_name(sweep: FourierSweep, index: int) -> str:
    vertical, horizontal = np.asarray(sweep.worst_frequency)[index].tolist()
    return f"{display_epsilon(float(sweep.epsilons[index]))} at ({vertical},{horizontal})"
