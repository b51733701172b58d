"""The sweep against a loop over attacks in NumPy, and against what must not matter."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import fourier_heatmap, fourier_perturbation, fourier_sweep, frequency_grid
from tests.absum_jax.sweep_problem import EPSILONS, SHAPE, clean_count, linear, problem, reference

PROBLEM = problem()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_counts_equal_a_loop(norm):
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, norm=norm)
    frequencies = frequency_grid(*SHAPE[:2], half=True)
    expected = reference(*PROBLEM, EPSILONS, frequencies, norm)
    np.testing.assert_array_equal(sweep.frequencies, frequencies)
    np.testing.assert_array_equal(sweep.correct, expected)
    assert len(np.unique(expected)) > 3  # the problem is one where frequencies differ


def test_epsilon_zero_gives_the_clean_count():
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS)
    clean = clean_count(*PROBLEM)
    assert int(sweep.clean_correct) == clean < int(sweep.total) == 23
    np.testing.assert_array_equal(sweep.correct[0], clean)


# Below, at and above the number of images, and ragged; alone and mapped, with a whole and a smaller last step.
BATCHES = [(1, 4), (4, 1), (22, 5), (23, 1), (24, 49)]


@pytest.mark.parametrize(
    ("batch_size", "attacks_per_step"),
    [
        pytest.param(*each, marks=[] if each in BATCHES else pytest.mark.slow)
        for each in itertools.product([1, 4, 22, 23, 24], [1, 4, 5, 49])
    ],
)
def test_batch_sizes_do_not_matter(batch_size, attacks_per_step):
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, batch_size=batch_size, attacks_per_step=attacks_per_step)
    np.testing.assert_array_equal(sweep.correct, reference(*PROBLEM, EPSILONS, sweep.frequencies))
    assert sweep.clean_correct == clean_count(*PROBLEM)


@pytest.mark.parametrize("count", [1, *(pytest.param(n, marks=pytest.mark.devices(n)) for n in (2, 8))])
def test_devices_do_not_matter(count):
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, devices=jax.devices()[:count], attacks_per_step=3)
    np.testing.assert_array_equal(sweep.correct, reference(*PROBLEM, EPSILONS, sweep.frequencies))
    assert sweep.clean_correct == clean_count(*PROBLEM)


PLANTED = [((4, 4), 1), ((5, 5), 3), ((3, 8), 1)]


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        pytest.param(*each, marks=[] if each in PLANTED else pytest.mark.slow)
        for each in itertools.product([(4, 4), (5, 5), (3, 8)], [1, 3])
    ],
)
def test_the_planted_worst_frequency_is_found(size, channels):
    """A linear model whose gradient is one Fourier pattern is fooled by that frequency and by no other."""
    frequencies = np.asarray(frequency_grid(*size, half=True))
    planted = frequencies[len(frequencies) // 2]
    pattern = np.asarray(jax.jit(fourier_perturbation, static_argnums=1)(planted, (*size, channels), 1.0))
    template = np.stack([np.zeros_like(pattern), pattern], -1)
    noise = np.random.default_rng(1).standard_normal((16, *size, channels)).astype(np.float32)
    images = 0.5 + 0.05 * noise.clip(-2, 2)
    labels = np.einsum("nhwc,hwck->nk", images - 0.5, template).argmax(axis=-1)
    sweep = fourier_sweep(linear, template, images, labels, [0.35])
    correct = np.asarray(sweep.correct)
    np.testing.assert_array_equal(frequencies[correct.argmin(axis=1)], planted[None])
    others = np.any(frequencies != planted, axis=-1)
    # Every image is pushed to one class; other patterns are orthogonal to the gradient (nothing is clipped).
    assert correct.min() == np.sum(labels == 1)
    assert (correct[0, others] == 16).all()


def test_other_numbers_compile_nothing(count_compilations):
    params, images, labels = PROBLEM

    def sweep(scale, epsilons, phase, frequencies):
        return fourier_sweep(
            linear, scale * params, images, labels, epsilons,
            frequencies=jnp.array(frequencies), phase=phase,
        )  # fmt: skip

    jax.block_until_ready(sweep(np.float32(1.0), [0.1, 0.2], 0.3, [[1, 1], [0, 2]]))
    with count_compilations() as compiled:
        jax.block_until_ready(sweep(np.float32(2.0), [0.25, 0.35], 0.7, [[2, 0], [1, 2]]))
    assert compiled.count == 0


def test_whole_sweep_may_be_jitted():
    jitted = jax.jit(lambda *arrays: fourier_sweep(linear, *arrays))
    sweep = jitted(*PROBLEM, jnp.asarray(EPSILONS))
    np.testing.assert_array_equal(sweep.correct, reference(*PROBLEM, EPSILONS, sweep.frequencies))


def test_one_number_is_one_epsilon():
    frequencies = [[1, 2], [0, 1]]
    sweep = fourier_sweep(linear, *PROBLEM, 0.4, frequencies=frequencies)
    np.testing.assert_array_equal(sweep.epsilons, np.float32([0.4]))
    np.testing.assert_array_equal(sweep.correct, reference(*PROBLEM, [0.4], frequencies))
    traced = jax.jit(lambda epsilon: fourier_sweep(linear, *PROBLEM, epsilon, frequencies=frequencies).correct)
    np.testing.assert_array_equal(traced(0.4), sweep.correct)


def test_not_a_number_logits_are_wrong():
    def broken(params, images):
        return jnp.where(images.mean(axis=(1, 2, 3))[:, None] > params, jnp.nan, jnp.zeros((len(images), 3)))

    images = np.full((4, 4, 4, 1), 0.5, np.float32)
    sweep = fourier_sweep(broken, np.float32(0.6), images, np.zeros(4, int), [0.2], frequencies=[[0, 0]])
    assert int(sweep.clean_correct) == 4
    assert int(sweep.correct[0, 0]) == 0


def test_a_profile_names_the_attack():
    program = jax.jit(lambda epsilon: fourier_sweep(linear, *PROBLEM, epsilon, frequencies=[[1, 2]])).lower(0.1)
    assert "fourier_attack/" in program.as_text(debug_info=True)


@pytest.mark.parametrize("size", [(6, 5), (4, 4)])
def test_heatmap_has_zero_in_the_centre_and_fills_conjugates(size):
    frequencies = frequency_grid(*size, half=True)
    heatmap = np.asarray(fourier_heatmap(np.arange(float(len(frequencies))), frequencies, size))
    assert heatmap[size[0] // 2, size[1] // 2] == 0
    for value, (l, m) in enumerate(np.asarray(frequencies).tolist()):
        for sign in (1, -1):
            row, column = (sign * l + size[0] // 2) % size[0], (sign * m + size[1] // 2) % size[1]
            assert heatmap[row, column] == value


def test_heatmaps_of_a_whole_sweep_are_those_of_its_rows():
    frequencies = np.asarray(frequency_grid(6, 5, half=True))
    values = np.random.default_rng(0).uniform(size=(2, 3, len(frequencies))).astype(np.float32)
    rows = [[fourier_heatmap(row, frequencies, (6, 5)) for row in phases] for phases in values]
    np.testing.assert_array_equal(fourier_heatmap(values, frequencies, (6, 5)), rows)


def test_heatmap_is_not_a_number_where_no_frequency_was_given():
    np.testing.assert_array_equal(
        np.isnan(fourier_heatmap(np.ones(1), [[1, 1]], (3, 3))),
        ~np.eye(3, dtype=bool) | np.diag([0, 1, 0]).astype(bool),
    )
