"""What a finished comparison leaves behind: result.json, a table on the terminal and three pictures."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from absum_jax import FourierSweep, fourier_perturbation
from experiments import results
from experiments.absum import figures
from experiments.absum.config import to_json
from experiments.absum.network import Network
from experiments.data.images import to_float
from experiments.storage import write_json
from experiments.training.step import TrainState

PANEL_IMAGES = 4

Finished = tuple[Network, TrainState, dict[str, Any], FourierSweep]


def write_report(directory: Path, config: Any, finished: list[Finished]) -> None:
    """Write result.json and the pictures into ``directory``, and print the table."""
    network = finished[0][0]
    dataset = network.dataset
    result = {
        "experiment": "absum",
        # Without what names places on this machine or does not bear on the numbers.
        "config": {k: v for k, v in to_json(config).items() if k not in ("out", "data_dir", "download", "force")},
        "dataset": {
            "name": dataset.name,
            "train_images": len(dataset.train_labels) - network.config.validation_size,
            "validation_images": network.config.validation_size,
            "test_images": len(dataset.test_labels),
            "image_shape": list(dataset.image_shape),
            "num_classes": dataset.num_classes,
        },
        "model": network.config.model,
        "versions": results.versions(),
        "rows": [row for _, _, row, _ in finished],
    }
    write_json(directory / "result.json", result)
    sweeps: dict[str, list[FourierSweep]] = {}
    for each, _, _, sweep in finished:
        sweeps.setdefault(each.config.regularizer, []).append(sweep)
    results.save_figure(figures.accuracy_curves(sweeps), directory / "accuracy.png")
    results.save_figure(figures.heatmaps(sweeps, dataset.image_shape[:2]), directory / "heatmaps.png")
    results.save_figure(_panel(finished), directory / "attacked_images.png")
    print_tables(result)
    print(f"\nwrote result.json, accuracy.png, heatmaps.png and attacked_images.png to {directory}")


def print_tables(result: results.Result) -> None:
    """Print a line for each network and, for several seeds, one for each regulariser."""
    row = result["rows"][0]
    results.print_table(
        f"test: accuracy on all {row['test_images']} test images; the rest on the {row['attack_images']} attacked,"
        " worst with its (l,m) and [95 % interval at that frequency]",
        results.absum_rows(result),
    )
    if len({row["seed"] for row in result["rows"]}) > 1:
        results.print_table("mean ± standard deviation over seeds", results.absum_summary(result))


def _panel(finished: list[Finished]) -> Any:
    """The first seed of each regulariser: a few images, clean and under its worst frequency of every epsilon."""
    first = {each.config.regularizer: (each, state, sweep) for each, state, _, sweep in reversed(finished)}
    images, predictions = {}, {}
    for each, state, sweep in reversed(first.values()):
        clean = to_float(each.dataset.test_images[:PANEL_IMAGES])
        attacked = np.stack([clean, *(_attack(clean, sweep, i) for i in range(len(sweep.epsilons)))])
        flat = attacked.reshape(-1, *clean.shape[1:])
        images[each.config.regularizer] = attacked
        predictions[each.config.regularizer] = each.predictions(state, flat).reshape(len(attacked), -1)
    labels = each.dataset.test_labels[: len(clean)]
    titles = ["clean", *(f"epsilon {epsilon:g}" for epsilon in sweep.epsilons)]
    return figures.attacked_images(images, predictions, labels, titles)


def _attack(images: np.ndarray, sweep: FourierSweep, index: int) -> np.ndarray:
    frequency, epsilon = np.asarray(sweep.worst_frequency)[index], float(sweep.epsilons[index])
    pattern = fourier_perturbation(frequency, images.shape[1:], epsilon)
    return np.asarray(jnp.clip(images + pattern[None], 0, 1))
