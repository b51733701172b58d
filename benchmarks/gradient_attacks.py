"""PGD against the gradients that it cannot do without, and against foolbox.

40 steps of 0.01 within 0.1 in L-infinity from a random start, on a trained LeNet; against foolbox on a narrow one
too: how much one attack can gain on another depends on the share of the gradients, which both take.
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
IMAGES = 64  # whose attack is timed
WIDE, NARROW, TINY = (20, 50, 500), (8, 16, 64), (2, 3, 8)  # features of LeNet


class Problem(NamedTuple):
    """A trained classifier, and images to attack."""

    predict_fn: Callable[[Any, Array], Array]
    params: Any
    images: Array
    labels: Array
    num_steps: int

    def first(self, count: int) -> "Problem":
        """The same with fewer images."""
        return self._replace(images=self.images[:count], labels=self.labels[:count])

    def attack(self, epsilon: float | Array = EPSILON) -> Array:
        """The attack as a user calls it."""
        return pgd(
            self.predict_fn, self.params, self.images, self.labels, epsilon=epsilon, step_size=STEP_SIZE,
            num_steps=self.num_steps, key=jax.random.key(0),
        )  # fmt: skip


def gradient_attacks(tiny: bool = False) -> Iterator[Row]:
    """PGD-40 / 40 separately jitted gradients; 4 epsilons at once / one by one."""
    problem, pairs = _problem(TINY if tiny else WIDE).first(4 if tiny else IMAGES), 2 if tiny else 9

    @jax.jit
    def gradient(params: Any, images: Array, labels: Array) -> Array:
        return jax.grad(lambda x: jnp.sum(cross_entropy_loss(problem.predict_fn(params, x), labels)))(images)

    def gradients() -> list[Array]:
        return [gradient(problem.params, problem.images, problem.labels) for _ in range(problem.num_steps)]

    times = paired_times(problem.attack, gradients, pairs=pairs)
    yield Row(f"{_title(problem)} / its gradients", times.ratio, 1.2, details=str(times))

    # As many attacked images at once as above, and as many times more.
    for count in (len(problem.images) // len(EPSILONS), len(problem.images)):
        yield _all_epsilons(problem.first(count), pairs)


def _all_epsilons(problem: Problem, pairs: int) -> Row:
    together = functools.partial(jax.vmap(problem.attack), jnp.array(EPSILONS))
    times = paired_times(together, lambda: [problem.attack(epsilon) for epsilon in EPSILONS], pairs=pairs)
    name = f"{_title(problem)}, {len(EPSILONS)} epsilons at once / one by one"
    return Row(name, times.ratio, bar(cpu=1.0, accelerator=0.25), details=str(times))


def gradient_attacks_foolbox(tiny: bool = False) -> Iterator[Row]:
    """Foolbox's LinfPGD / PGD-40, time and success, on the same models and images."""
    if importlib.util.find_spec("foolbox") is None:
        raise NotAvailableError("python3 -m pip install foolbox")
    for kind, features in {"tiny": TINY}.items() if tiny else {"narrow": NARROW, "whole": WIDE}.items():
        yield from _against_foolbox(kind, _problem(features), 4 if tiny else IMAGES, pairs=2 if tiny else 9)


def _against_foolbox(kind: str, whole: Problem, count: int, pairs: int) -> Iterator[Row]:
    """Times on the first ``count`` images, success on all."""
    problem = whole.first(count)

    def plain(images: Array) -> Array:
        return problem.predict_fn(problem.params, images)

    jitted = jax.jit(plain)
    for form, predict, lowest in (("jitted", jitted, 1.5), ("plain", plain, 4.0)):
        times = paired_times(_foolbox_attack(problem, predict), problem.attack, pairs=pairs)
        name = f"foolbox, {form} / {_title(problem)}, {kind}"
        yield Row(name, times.ratio, lowest, higher_is_better=True, details=str(times))
    yield _success(whole, _foolbox_attack(whole, jitted))


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


def _problem(features: tuple[int, int, int]) -> Problem:
    """LeNet after 200 steps of Adam on the embedded images, and the test images."""
    tiny = features == TINY
    count = 8 if tiny else 1_000
    dataset = load_images("embedded")
    statistics = dataset.channel_mean.tolist(), dataset.channel_std.tolist()
    model = LeNet(dataset.num_classes, *statistics, features)
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
