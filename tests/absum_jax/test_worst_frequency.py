"""The search through a network: against the sweep, in rounds, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from absum_jax import (
    SearchState,
    find_worst_frequency,
    find_worst_perturbation,
    fourier_perturbation,
    fourier_sweep,
    frequency_grid,
    worst_frequency_search,
    worst_perturbation_search,
)
from tests.absum_jax.sweep_problem import EPSILONS, SHAPE, linear, problem, reference

PROBLEM = problem()
GRID = np.asarray(frequency_grid(*SHAPE[:2], half=True))
KEY = jax.random.key(0)


def assert_same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def small_search(epsilon=0.4, **options):
    return worst_frequency_search(linear, *PROBLEM, epsilon, batch_size=4, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("key", [None, KEY])
def test_exact_search_gives_the_worst_of_the_sweep(norm, key):
    worst = find_worst_frequency(linear, *PROBLEM, EPSILONS, norm=norm, key=key, batch_size=4)
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, norm=norm)
    np.testing.assert_array_equal(worst.frequency, sweep.worst_frequency)
    np.testing.assert_array_equal(worst.correct, np.min(sweep.correct, axis=1))
    np.testing.assert_array_equal(worst.accuracy, sweep.worst_accuracy)
    np.testing.assert_array_equal(GRID[worst.index], worst.frequency)
    assert int(worst.total) == 23
    assert worst.survivors.shape == (3, worst.survivors.shape[1])
    assert np.all(worst.forward_images <= len(GRID) * 23)
    if norm == "linf":  # by 0.4 in L2 no frequency does much
        assert worst.forward_images[2] < 0.9 * len(GRID) * 23
    np.testing.assert_allclose(worst.forward_share, worst.forward_images / (len(GRID) * 23), rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "attacks_per_step"), [(1, 5), (7, 1), (30, 3)])
def test_batch_sizes_do_not_matter(batch_size, attacks_per_step):
    worst = find_worst_frequency(linear, *PROBLEM, 0.4, batch_size=batch_size, attacks_per_step=attacks_per_step)
    counts = reference(*PROBLEM, [0.4], GRID)[0]
    np.testing.assert_array_equal(worst.frequency, GRID[np.argmin(counts)])
    assert int(worst.correct) == counts.min()


def test_each_epsilon_is_a_search_of_its_own():
    together = find_worst_frequency(linear, *PROBLEM, EPSILONS, batch_size=4)
    for i, epsilon in enumerate(EPSILONS):
        alone = find_worst_frequency(linear, *PROBLEM, epsilon, batch_size=4)
        assert alone.frequency.shape == (2,)
        assert alone.survivors.ndim == 1
        np.testing.assert_array_equal(together.frequency[i], alone.frequency)
        assert (together.correct[i], together.forward_images[i]) == (alone.correct, alone.forward_images)


def planted(count=600):
    """A linear model that one frequency fools, and images on which others do nothing."""
    size, frequency = (8, 8, 1), np.array([2, 1])
    template = np.asarray(fourier_perturbation(frequency, size, 1.0))
    images = np.random.default_rng(0).uniform(0.3, 0.7, (count, *size)).astype(np.float32)
    params = np.stack([-template, template], axis=-1)
    return params, images, np.einsum("nhwc,hwck->nk", images - 0.5, params).argmax(axis=-1), frequency


def test_confident_search_finds_the_planted_frequency_sooner():
    params, images, labels, frequency = planted()
    exact = find_worst_frequency(linear, params, images, labels, 0.2, batch_size=20)
    np.testing.assert_array_equal(exact.frequency, frequency)
    sweep = fourier_sweep(linear, params, images, labels, 0.2, frequencies=frequency[None])
    for seed in range(3):
        find = {"confidence": 0.999, "key": jax.random.key(seed), "batch_size": 20}
        worst = find_worst_frequency(linear, params, images, labels, 0.2, **find)
        np.testing.assert_array_equal(worst.frequency, frequency)
        assert worst.correct == exact.correct == sweep.correct[0, 0]  # of all images, exactly
        assert worst.forward_share < 0.2 < exact.forward_share
        assert worst.survivors[0] == 34
        assert worst.survivors[-1] == 1


def test_the_same_key_gives_the_same_search_and_another_one_another():
    first, again, other = (small_search(confidence=0.5, key=jax.random.key(seed)).run() for seed in (0, 0, 1))
    assert_same(first, again)
    orders = [small_search(confidence=0.5, key=jax.random.key(seed)).start().order for seed in (0, 1)]
    assert np.any(orders[0] != orders[1])
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(23))
    assert other.total == first.total


@pytest.mark.parametrize("options", [{}, {"confidence": 0.9, "key": KEY, "tolerance": 0.05}])
def test_a_search_goes_on_from_a_file(tmp_path, options):
    search = small_search(EPSILONS, **options)
    state, states = search.start(), []
    while not search.is_finished(state):
        state = search.advance(state)
        states.append(state)
    assert len(states) > 2
    np.savez(tmp_path / "state.npz", **states[1]._asdict())
    with np.load(tmp_path / "state.npz") as arrays:
        resumed = SearchState(**arrays)
    again = small_search(EPSILONS, **options)  # as another process would make it
    for expected in states[2:]:
        before = jax.tree.map(np.copy, resumed)
        after = again.advance(resumed)
        assert_same(resumed, before)  # it is not changed
        assert_same(after, expected)
        resumed = after
    assert again.advance(resumed) is resumed
    assert_same(again.result(resumed), search.run())


@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4), (3, 6), (6, 3), (3, 30), (30, 3)])
def test_a_search_goes_on_with_another_batch_size(before, after):
    first, second = (
        worst_frequency_search(linear, *PROBLEM, EPSILONS, batch_size=size, attacks_per_step=1)
        for size in (before, after)
    )
    counts = reference(*PROBLEM, EPSILONS, GRID)
    for rounds in (1, 2):
        state = first.start()
        for _ in range(rounds):
            state = first.advance(state)
        while not second.is_finished(state):
            state = second.advance(state)
            # What is known of each attack is what the network says, and nothing beyond.
            whole = state.evaluated == 23
            np.testing.assert_array_equal(state.correct.sum(axis=2)[whole], counts[whole])
            assert not np.any(state.correct & (np.arange(23) >= state.evaluated[..., None]))
        worst = second.result(state)
        np.testing.assert_array_equal(worst.index, counts.argmin(axis=1))
        np.testing.assert_array_equal(worst.correct, counts.min(axis=1))


def test_states_show_the_progress():
    search = small_search()
    states = [search.start()]
    while not search.is_finished(states[-1]):
        states.append(search.advance(states[-1]))
    survivors = [int(state.survivors[0, -1]) for state in states]
    assert survivors == states[-1].survivors[0].tolist() == sorted(survivors, reverse=True)
    assert (survivors[0], survivors[-1]) == (len(GRID), 1)
    evaluated = [state.evaluated.sum() for state in states]
    assert evaluated == sorted(set(evaluated))
    assert search.result(states[-1]).forward_images == evaluated[-1]


def test_one_program_serves_all_rounds_and_numbers(count_compilations):
    params, images, labels = PROBLEM
    grid = jnp.asarray(GRID)
    search = worst_frequency_search(linear, params, images, labels, 0.4, frequencies=grid, batch_size=4)
    with count_compilations() as first:
        search.advance(search.start())
    assert first.count <= 1
    with count_compilations() as later:
        state = search.advance(search.start())
        while not search.is_finished(state):
            state = search.advance(state)
        other = worst_frequency_search(
            linear, 2 * params, images, labels, 0.3, frequencies=grid, batch_size=4, phase=0.1
        )
        state = other.advance(other.start())
    assert later.count == 0
    assert len(state.survivors[0]) == 2


def shifts():
    """Five perturbations, the last two of which are the same and the worst."""
    rng = np.random.default_rng(3)
    found = 0.05 * rng.standard_normal((5, *SHAPE)).astype(np.float32)
    found[3:] = 0.3 * np.sign(PROBLEM[0][..., 0] - PROBLEM[0][..., 1])
    return found


def counts_under(perturbations):
    params, images, labels = PROBLEM
    attacked = np.clip(images + perturbations[:, None].astype(np.float64), 0, 1)
    return np.sum(np.einsum("anhwc,hwck->ank", attacked - 0.5, params).argmax(axis=-1) == labels, axis=1)


def test_any_perturbations_may_be_searched():
    counts = counts_under(shifts())
    worst = find_worst_perturbation(linear, *PROBLEM, shifts(), batch_size=4)
    assert int(worst.index) == np.argmin(counts) == 3
    assert int(worst.correct) == counts.min() < counts[:3].min()
    assert worst.survivors[0] == 5
    partial = Partial(lambda table, number: table[number], shifts())
    for make in (lambda number: jnp.asarray(shifts())[number], partial):
        found = find_worst_perturbation(linear, *PROBLEM, make, num_perturbations=5, batch_size=4)
        assert_same(found, worst)
    confident = find_worst_perturbation(linear, *PROBLEM, shifts(), confidence=0.9, key=KEY, batch_size=4)
    assert int(confident.correct) == counts.min()


def test_not_a_number_logits_are_wrong():
    def broken(params, images):
        return jnp.where(images.mean(axis=(1, 2, 3))[:, None] > params, jnp.nan, jnp.ones((len(images), 3)))

    images = np.full((4, 4, 4, 1), 0.5, np.float32)
    shift = np.array([0.0, 0.2], np.float32)[:, None, None, None] * np.ones((4, 4, 1), np.float32)
    worst = find_worst_perturbation(broken, np.float32(0.6), images, np.zeros(4, int), shift)
    assert (int(worst.index), int(worst.correct)) == (1, 0)


def test_what_a_function_makes_is_not_looked_at():
    def make(number):
        return jnp.where(number == 1, jnp.nan, jnp.zeros(SHAPE))

    worst = find_worst_perturbation(linear, *PROBLEM, make, num_perturbations=3, batch_size=4)
    assert (int(worst.index), int(worst.correct)) == (1, 0)


BAD = {
    "epsilon must be finite and not negative, got -0.1": {"epsilon": -0.1},
    "epsilon must be a number or a non-empty list of numbers, got shape \\(0,\\)": {"epsilon": np.zeros(0)},
    "tolerance must be a number of at least 0, below 1, got -0.1": {"tolerance": -0.1},
    "tolerance must be a number of at least 0, below 1, got nan": {"tolerance": float("nan")},
    "confidence must be None or lie between 0 and 1, got 1.0": {"confidence": 1.0, "key": KEY},
    "confidence must be None or lie between 0 and 1, got 0": {"confidence": 0, "key": KEY},
    "key must be a PRNG key where a confidence is given, got None": {"confidence": 0.9},
    "key must be one key, such as jax.random.key\\(0\\), got 0": {"key": 0},
    "key must be one key, such as jax.random.key\\(0\\), got key<fry> of shape \\(2,\\)": {
        "key": jax.random.split(KEY),
        "confidence": 0.9,
    },
    "frequencies must have shape \\[F, 2\\] with F > 0, got \\(0, 2\\)": {"frequencies": np.zeros((0, 2), int)},
    "frequency must lie within the image size \\(6, 5\\), got \\(6, 0\\)": {"frequencies": [[0, 0], [6, 0]]},
    "phase must be one number, got shape \\(2,\\)": {"phase": [0.0, 1.0]},
    "norm must be one of 'linf', 'l2', got 'l1'": {"norm": "l1"},
    "bounds must be two numbers, the smaller first": {"bounds": (1.0, 0.0)},
    "batch_size must be an integer of at least 1, got 0": {"batch_size": 0},
    "attacks_per_step must be an integer of at least 1, got 0": {"attacks_per_step": 0},
    "labels must be 23 integers": {"labels": np.zeros(22, int)},
}


@pytest.mark.parametrize("message", BAD)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_arguments_are_named_before_anything_is_compiled(message, count_compilations):
    params, images, labels = PROBLEM
    options = {"epsilon": 0.1, "labels": labels, "frequencies": GRID} | BAD[message]
    with count_compilations() as compiled, pytest.raises(ValueError, match=message):
        find_worst_frequency(linear, params, images, **options)
    assert compiled.count == 0


BAD_PERTURBATIONS = {
    "perturbations must have shape \\[A, 6, 5, 2\\] with A > 0, got \\(2, 6, 5\\)": (np.zeros((2, 6, 5)), None),
    "perturbations must have shape \\[A, 6, 5, 2\\] with A > 0, got \\(0, 6, 5, 2\\)": (
        np.zeros((0, *SHAPE)),
        None,
    ),
    "perturbations must be finite, got 60 pixels that are not": (np.full((1, *SHAPE), np.nan), None),
    "num_perturbations must be None where they are an array, got 2": (np.zeros((2, *SHAPE)), 2),
    "num_perturbations must be given where perturbations are a function": (lambda number: number, None),
    "num_perturbations must be an integer of at least 1, got 0": (lambda number: number, 0),
    "perturbations must make arrays of the images' shape \\(6, 5, 2\\), got \\(\\)": (lambda number: number, 3),
    "perturbations must take a number under jit, got TypeError": (lambda: 0, 3),
    "perturbations must take a number under jit, got Tracer": (
        Partial(jnp.take, np.zeros((2, *SHAPE)), axis=0),
        2,
    ),
}


@pytest.mark.parametrize("message", BAD_PERTURBATIONS)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_perturbations_are_named(message):
    perturbations, number = BAD_PERTURBATIONS[message]
    with pytest.raises(ValueError, match=message):
        worst_perturbation_search(linear, *PROBLEM, perturbations, num_perturbations=number)


def test_traced_arguments_are_refused():
    with pytest.raises(ValueError, match="arguments must be known, got traced ones"):
        jax.jit(lambda params: find_worst_frequency(linear, params, *PROBLEM[1:], 0.1).correct)(PROBLEM[0])


def test_states_of_other_searches_are_refused():
    search, other = small_search(), small_search(frequencies=GRID[:3])
    with pytest.raises(ValueError, match="state must be of 1 searches among 16 attacks on 23 images, got arrays"):
        search.advance(other.start())
    confident = {"confidence": 0.9, "key": KEY}
    rules = [{}, {"tolerance": 0.05}, confident, confident | {"confidence": 0.8}]
    for mine, its in itertools.permutations(rules, 2):
        with pytest.raises(ValueError, match=r"state must be of the same tolerance .* and confidence"):
            small_search(**mine).is_finished(small_search(**its).start())
    for mine, its in itertools.permutations([None, KEY, jax.random.key(1)], 2):
        with pytest.raises(ValueError, match="state must be of the same key, got images in another order"):
            small_search(key=mine).advance(small_search(key=its).start())
    with pytest.raises(ValueError, match=r"state must be that of a finished search, got \[16\] survivors"):
        search.result(search.start())
