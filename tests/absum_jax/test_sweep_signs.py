"""A random sign for each image and channel, which nothing but key, frequency and image decides."""

import functools

import jax
import numpy as np
import pytest

from absum_jax import FourierSweep, fourier_sweep, fourier_sweep_parts
from tests.absum_jax.sweep_problem import SHAPE, clean_count, linear, problem, reference

PROBLEM = problem()
FREQUENCIES = [[0, 1], [2, 3], [5, 4], [1, 0], [3, 2]]
EPSILONS = (0.5, 2.0)  # on each of two channels
KEY = jax.random.key(3)
COMMON = {"norm": "l2", "phase": 0.0, "signs": KEY}


@jax.jit
def signs_of_an_image(key, l, m, index):
    """One image by itself, as documented: key, then frequency, then number of the image."""
    key = jax.random.key(jax.random.bits(key, dtype=np.uint32), impl="threefry2x32")
    for number in (l, m, index):
        key = jax.random.fold_in(key, number)
    bits = jax.random.bits(key, (SHAPE[2],), dtype=np.uint32)
    return 1.0 - 2.0 * (bits >= np.uint32(2**31))  # minus where the first of 32 bits is set


@functools.cache
def signs(frequency):
    return np.stack([signs_of_an_image(KEY, *map(int, frequency), index) for index in range(23)])


@pytest.fixture(scope="module")
def expected():
    return reference(*PROBLEM, EPSILONS, FREQUENCIES, "l2", phase=0.0, signs=signs)


def sweep(**options):
    return fourier_sweep(linear, *PROBLEM, EPSILONS, frequencies=FREQUENCIES, **(COMMON | options))


def test_counts_equal_a_loop_with_epsilon_on_each_channel(expected):
    found = sweep()
    np.testing.assert_array_equal(found.correct, expected)
    assert int(found.clean_correct) == clean_count(*PROBLEM)
    # Not what the same pattern on all images and channels does.
    assert (np.asarray(sweep(signs=None).correct) != expected).any()


@pytest.mark.parametrize(("batch_size", "attacks_per_step"), [(1, 4), (5, 1), (22, 3)])
def test_batches_and_steps_do_not_matter(batch_size, attacks_per_step, expected):
    found = sweep(batch_size=batch_size, attacks_per_step=attacks_per_step)
    np.testing.assert_array_equal(found.correct, expected)


def test_other_generators_draw_the_same_whatever_the_batch():
    key = jax.random.key(3, impl="rbg")
    whole, split = sweep(signs=key), sweep(signs=key, batch_size=5, attacks_per_step=3)
    np.testing.assert_array_equal(whole.correct, split.correct)


def test_double_precision_draws_the_same(expected):
    with jax.enable_x64(True):
        found = sweep()
        assert found.epsilons.dtype == np.float64
    np.testing.assert_array_equal(found.correct, expected)


@pytest.mark.devices(8)
def test_devices_and_parts_do_not_matter(expected):
    np.testing.assert_array_equal(sweep(devices=jax.devices()[:8]).correct, expected)
    options = COMMON | {"devices": jax.devices()[:2]}
    call = functools.partial(fourier_sweep_parts, linear, *PROBLEM, EPSILONS, **options)
    parts = list(call(frequencies=FREQUENCIES))
    assert len(parts) > 2
    np.testing.assert_array_equal(FourierSweep.concatenate(parts).correct, expected)
    # Resumed: the frequencies that are left keep their signs, though they are the first ones now.
    done = len(parts[0].frequencies)
    resumed = FourierSweep.concatenate([parts[0], *call(frequencies=FREQUENCIES[done:])])
    np.testing.assert_array_equal(resumed.correct, expected)


def test_signs_are_the_same_for_all_epsilons_and_phases_and_may_be_traced(expected):
    phases = np.float32([1.0, 0.0])
    jitted = jax.jit(lambda key, phases: sweep(signs=key, phase=phases).correct)
    np.testing.assert_array_equal(jitted(KEY, phases)[:, 1], expected)
    found = jax.jit(lambda key: sweep(signs=key).correct)(jax.random.PRNGKey(3))  # raw integers
    np.testing.assert_array_equal(found, expected)


def test_signs_differ_from_key_to_key_and_between_frequencies_images_and_channels():
    draw = jax.jit(jax.vmap(signs_of_an_image, in_axes=(None, None, None, 0)))
    drawn = np.stack([draw(key, l, m, np.arange(400)) for key in KEYS for l, m in ((0, 1), (1, 0))])
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    # Uncorrelated: each mean of 400 products has standard deviation 0.05.
    columns = np.moveaxis(drawn, 1, 0).reshape(400, -1)
    overlap = columns.T @ columns / 400 - np.eye(columns.shape[1])
    assert np.abs(overlap).max() < 0.25
    assert np.abs(np.mean(columns[1:] * columns[:-1])) < 0.1


KEYS = (jax.random.key(0), jax.random.key(1))
