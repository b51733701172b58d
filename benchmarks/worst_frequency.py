"""The search for the worst frequency against the sweep over all of them, on networks of the experiment.

They are trained on the embedded images, and attacked on the embedded test images or, with ``--data-dir``, on all
of Fashion-MNIST's.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import WorstFrequency, find_worst_frequency, fourier_sweep, frequency_grid
from benchmarks.measure import Row, paired_times
from experiments.absum.config import Settings, Training
from experiments.absum.datasets import load_dataset
from experiments.absum.run import Classifier, variables
from experiments.absum.task import predict_fn
from experiments.data.images import load_images, to_float
from experiments.harness.run import Run

CONFIDENCE, TOLERANCE = 0.999, 0.01
SWEPT = 8  # frequencies of the sweep that is timed; all 394 take as much longer


class Case(NamedTuple):
    """A network and an epsilon, with the bars of the share of the forward passes.

    Args:
        regularizer, epsilon: how it is trained, and how far it is attacked.
        of_10000, of_1000: bars by the number of test images: to tell frequencies apart takes so many images, and
            so a smaller share of more.
    """

    regularizer: str
    epsilon: float
    of_10000: float
    of_1000: float


CASES = (Case("none", 0.3, 0.05, 0.35), Case("none", 0.1, 0.3, 0.8), Case("absum", 0.3, 0.1, 0.45))


class Attacked(NamedTuple):
    """The arguments that search and sweep have in common."""

    predict_fn: Any
    params: Any
    images: Any
    labels: Any


def worst_frequency(tiny: bool = False, data_dir: Path | None = None) -> Iterator[Row]:
    """Forward passes of the search / of the sweep, and its time per image / that of the sweep."""
    images, labels = _images(tiny, data_dir)
    networks = {name: Attacked(*_network(name, tiny), images, labels) for name in ("none", "absum")}
    for case in CASES:
        worst = _search(networks[case.regularizer], case.epsilon, tiny)
        bar = case.of_10000 if len(labels) >= 10_000 else case.of_1000
        label = f"search / sweep, images, {case.regularizer}, epsilon {case.epsilon}"
        yield Row(label, float(worst.forward_share), bar, details=_described(worst))
    yield _time_per_image(networks["none"], CASES[0].epsilon, tiny)


def _search(attacked: Attacked, epsilon: float, tiny: bool) -> WorstFrequency:
    return find_worst_frequency(
        *attacked, epsilon, confidence=CONFIDENCE, tolerance=TOLERANCE, key=jax.random.key(0),
        frequencies=frequency_grid(28, 28, half=True)[: 3 if tiny else None],
    )  # fmt: skip


def _time_per_image(attacked: Attacked, epsilon: float, tiny: bool) -> Row:
    """Of the search by that of the sweep: its share of the sweep's time by its share of the forward passes."""
    swept = frequency_grid(28, 28, half=True)[: 2 if tiny else SWEPT]
    forward_images = int(_search(attacked, epsilon, tiny).forward_images)
    times = paired_times(
        lambda: _search(attacked, epsilon, tiny),
        lambda: fourier_sweep(*attacked, epsilon, frequencies=swept),
        pairs=2 if tiny else 5,
    )
    of_the_sweep = (1 + len(swept)) * len(attacked.labels)  # which counts the clean images too
    details = f"{forward_images} against {of_the_sweep} images, {times}"
    return Row("search / sweep, time per image", times.ratio * of_the_sweep / forward_images, 1.2, details=details)


def _described(worst: WorstFrequency) -> str:
    row, column = np.asarray(worst.frequency).tolist()
    rounds = worst.survivors.shape[0] - 1
    return (
        f"{int(worst.forward_images)} of {int(worst.survivors[0] * worst.total)} in {rounds} rounds: "
        f"({row}, {column}) leaves {int(worst.correct)} of {int(worst.total)} correct"
    )


def _images(tiny: bool, data_dir: Path | None) -> tuple[Any, Any]:
    """The test images, in [0, 1], and labels."""
    dataset = load_images("embedded") if data_dir is None else load_images("fashion_mnist", data_dir)
    count = 20 if tiny else None
    return jnp.asarray(to_float(dataset.test_images[:count])), jnp.asarray(dataset.test_labels[:count])


def _network(regularizer: str, tiny: bool) -> tuple[Any, Any]:
    """LeNet with its parameters, trained as the experiment does by default."""
    settings = Settings(training=Training(), regularizer=regularizer)
    subject = Classifier(settings, load_dataset(settings.training))
    if tiny:
        return predict_fn(subject.model), subject.model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    with tempfile.TemporaryDirectory() as directory:
        run = Run(subject, Path(directory))
        run.prepare()
        return predict_fn(subject.model), variables(run.train())
