"""PGD against the gradients that it cannot do without, and against foolbox.

All rows attack the same trained LeNet, 40 steps of 0.01 within 0.1 in L-infinity from a random start.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from absum_jax import accuracy_interval, cross_entropy_loss, pgd
from benchmarks.measure import Row, bar, paired_times
from benchmarks.table import NotAvailableError
from experiments.absum.models import LeNet
from experiments.data.images import load_images

EPSILON, STEP_SIZE = 0.1, 0.01
EPSILONS = (0.02, 0.05, 0.1, 0.2)


class Problem(NamedTuple):
    """A trained classifier, and images to attack."""

    predict_fn: Callable[[Any, Array], Array]
    params: Any
    images: Array
    labels: Array
    num_steps: int

    def attack(self, epsilon: float | Array = EPSILON) -> Array:
        """The attack as a user calls it."""
        return pgd(
            self.predict_fn, self.params, self.images, self.labels, epsilon=epsilon, step_size=STEP_SIZE,
            num_steps=self.num_steps, key=jax.random.key(0),
        )  # fmt: skip


def gradient_attacks(tiny: bool = False) -> Iterator[Row]:
    """PGD-40 / 40 separately jitted gradients; 4 epsilons at once / one by one."""
    problem, pairs = _problem(tiny), 2 if tiny else 9

    @jax.jit
    def gradient(params: Any, images: Array, labels: Array) -> Array:
        return jax.grad(lambda x: jnp.sum(cross_entropy_loss(problem.predict_fn(params, x), labels)))(images)

    def gradients() -> list[Array]:
        return [gradient(problem.params, problem.images, problem.labels) for _ in range(problem.num_steps)]

    times = paired_times(problem.attack, gradients, pairs=pairs)
    yield Row(f"{_title(problem)} / its gradients", times.ratio, 1.2, details=str(times))

    epsilons = jnp.array(EPSILONS)
    together = functools.partial(jax.vmap(problem.attack), epsilons)
    times = paired_times(together, lambda: [problem.attack(epsilon) for epsilon in EPSILONS], pairs=pairs)
    name = f"{_title(problem)}, {len(EPSILONS)} epsilons at once / one by one"
    yield Row(name, times.ratio, bar(cpu=1.0, accelerator=0.25), details=str(times))


def gradient_attacks_foolbox(tiny: bool = False) -> Iterator[Row]:
    """Foolbox's LinfPGD / PGD-40, time and success, on the same model and images."""
    if importlib.util.find_spec("foolbox") is None:
        raise NotAvailableError("python3 -m pip install foolbox")
    problem, pairs = _problem(tiny), 2 if tiny else 5

    def plain(images: Array) -> Array:
        return problem.predict_fn(problem.params, images)

    theirs = {"a jitted": _foolbox_attack(problem, jax.jit(plain)), "a plain": _foolbox_attack(problem, plain)}
    for (kind, attack), lowest in zip(theirs.items(), (1.5, 4.0), strict=True):
        times = paired_times(attack, problem.attack, pairs=pairs)
        name = f"foolbox with {kind} model / {_title(problem)}"
        yield Row(name, times.ratio, lowest, higher_is_better=True, details=str(times))
    yield _success(problem, theirs["a jitted"])


def _success(problem: Problem, theirs: Callable[[], Array]) -> Row:
    """How far our success is from theirs, in lengths of their interval's half on that side."""
    total = len(problem.images)

    def fooled(images: Array) -> int:
        predicted = problem.predict_fn(problem.params, images).argmax(axis=-1)
        return int(jnp.sum(predicted != problem.labels))

    found, expected = fooled(problem.attack()), fooled(theirs())
    low, high = (float(bound) * total for bound in accuracy_interval(expected, total))
    distance = (
        (found - expected) / (high - expected) if found > expected else (expected - found) / (expected - low)
    )
    return Row("success, distance / Wilson interval", distance, 1.0, details=f"{found} and {expected} of {total}")


def _foolbox_attack(problem: Problem, predict: Callable[[Array], Array]) -> Callable[[], Array]:
    """Adversarial images by foolbox."""
    foolbox: Any = importlib.import_module("foolbox")
    model = foolbox.models.JAXModel(predict, bounds=(0, 1), data_format="channels_last")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=problem.num_steps, random_start=True)
    return lambda: attack(model, problem.images, problem.labels, epsilons=[EPSILON])[1][0]


def _title(problem: Problem) -> str:
    return f"PGD-{problem.num_steps}, LeNet, {len(problem.images)}"


def _problem(tiny: bool) -> Problem:
    """LeNet after 200 steps of Adam on the embedded images; some of the test images."""
    count = 8 if tiny else 100 if jax.default_backend() == "cpu" else 1_000
    dataset = load_images("embedded")
    statistics = dataset.channel_mean.tolist(), dataset.channel_std.tolist()
    model = LeNet(dataset.num_classes, *statistics, (2, 3, 8) if tiny else (20, 50, 500))
    predict: Any = model.apply
    images, labels = dataset.train_images / np.float32(255), dataset.train_labels
    params = jax.jit(model.init)(jax.random.key(0), images[:1])
    optimizer = optax.adam(1e-3)

    @jax.jit
    def step(params: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
        gradients = jax.grad(lambda p: jnp.mean(cross_entropy_loss(predict(p, images), labels)))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state, rng = optimizer.init(params), np.random.default_rng(0)
    for _ in range(2 if tiny else 200):
        chosen = rng.integers(len(images), size=64)
        params, state = step(params, state, images[chosen], labels[chosen])
    test_images = jnp.asarray(dataset.test_images[:count] / np.float32(255))
    return Problem(predict, params, test_images, jnp.asarray(dataset.test_labels[:count]), 3 if tiny else 40)
