"""Properties that hold for whatever is given, extreme values included; references in float64 from the formulas."""

import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies
from hypothesis.extra.numpy import arrays

from absum_jax import (
    absum,
    accuracy_interval,
    band_limited_noise,
    conv_spectral_norm,
    epsilon_at_chance,
    fooling_rate,
    fourier_basis,
    fourier_heatmap,
    fourier_perturbation,
    frequency_grid,
    frequency_response,
    mcnemar_test,
    paired_t_test,
    prox_absum,
    prox_l1,
    prox_squared_l2,
    random_perturbation,
    worst_case,
)
from tests.absum_jax.kernel_arrays import absum_reference, prox_absum_reference

# One shape for each function, so that few programs are compiled; the same examples in every run.
SETTINGS = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
KERNEL = (3, 2, 2, 3)
SIZE = (6, 5)
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
TINY = float(np.finfo(np.float32).tiny)  # XLA's CPU backend flushes what is smaller to 0

strengths = strategies.floats(0, 2.0**100, width=32, allow_subnormal=False)
epsilons = strategies.just(0.0) | strategies.floats(2.0**-60, 2.0**60, width=32)
seeds = strategies.integers(0, 2**31 - 1)


# Compiled once, not for each example.
JITTED = {prox: jax.jit(prox) for prox in (prox_absum, prox_l1, prox_squared_l2)}
penalty, slope = jax.jit(absum), jax.jit(jax.grad(absum))
prox_in_metric = jax.jit(lambda kernel, strength, metric: prox_absum(kernel, strength, metric=metric))
basis = jax.jit(lambda frequency, phase: fourier_basis(frequency, SIZE, phase=phase))
response = jax.jit(lambda kernel: frequency_response(kernel, SIZE))
NORMS = {
    method: jax.jit(functools.partial(conv_spectral_norm, image_size=SIZE, method=method))
    for method in ("exact", "gram", "power")
}


@functools.partial(jax.jit, static_argnames="norm")
def perturbation(frequency, phase, epsilon, norm):
    return fourier_perturbation(frequency, (*SIZE, 3), epsilon, norm=norm, phase=phase)


def kernels(limit):
    """Of entries up to a limit: normal ones of one size, or whatever comes, zeros and subnormals among it."""
    scale = strategies.floats(1e-30, limit, width=64)
    drawn = strategies.builds(
        lambda seed, scale: (np.random.default_rng(seed).normal(size=KERNEL) / 8 * scale).astype(np.float32),
        seeds,
        scale,
    )
    anything = strategies.floats(-np.float32(limit).item(), np.float32(limit).item(), width=32)
    return drawn | arrays(np.float32, KERNEL, elements=anything)


def slice_size(kernel):
    """The largest entry of each slice, [1, 1, in, out]."""
    return np.abs(kernel).max(axis=(0, 1), keepdims=True)


def rounding(dtype, kernel, taps=6):
    """Of a sum of taps in float32 or wider, and of a result of twice the size of the kernel in its dtype."""
    narrow, wide = float(jnp.finfo(dtype).eps), float(jnp.finfo(jnp.float32).eps)
    return (2 * narrow + taps * wide) * np.abs(kernel) + TINY


@DTYPES
@SETTINGS
@hypothesis.given(kernel=kernels(2.0**100), strength=strengths)
def test_prox_absum_is_the_closed_form(dtype, kernel, strength):
    limit = float(jnp.finfo(dtype).max) / 8
    kernel = jnp.asarray(np.clip(kernel, -limit, limit), dtype)
    found = JITTED[prox_absum](kernel, strength)
    assert (found.shape, found.dtype) == (KERNEL, kernel.dtype)
    known = np.asarray(kernel, np.float64)
    expected = prox_absum_reference(known, float(np.float32(strength)))
    error = np.abs(np.asarray(found, np.float64) - expected)
    tolerance = rounding(dtype, slice_size(known)) + float(jnp.finfo(dtype).smallest_subnormal)
    assert np.all(error <= tolerance)


@SETTINGS
@hypothesis.given(kernel=kernels(2.0**100), seed=seeds, strength=strengths)
def test_prox_absum_in_a_metric_is_optimal(kernel, seed, strength):
    metric = 10.0 ** np.random.default_rng(seed).uniform(-6, 6, KERNEL)
    metric = metric.astype(np.float32)
    found = np.asarray(prox_in_metric(kernel, strength, metric), np.float64)
    known, d, tau = kernel.astype(np.float64), metric.astype(np.float64), float(np.float32(strength))
    total = known.sum(axis=(0, 1))
    expected = known - np.clip(total / (1 / d).sum(axis=(0, 1)), -tau, tau) / d
    # The sum is distributed over the taps: an error of it by the share of each, which is at most 1.
    assert np.all(np.abs(found - expected) <= 8 * rounding(jnp.float32, slice_size(known)) + TINY)


@SETTINGS
@hypothesis.given(first=kernels(1e6), second=kernels(1e6), strength=strengths)
def test_proxes_bring_no_two_points_further_apart(first, second, strength):
    before = np.linalg.norm((first.astype(np.float64) - second).ravel())
    size = max(np.abs(first).max(), np.abs(second).max())
    for prox, jitted in JITTED.items():
        moved = [np.asarray(jitted(kernel, strength), np.float64) for kernel in (first, second)]
        assert np.linalg.norm((moved[0] - moved[1]).ravel()) <= before + 1e-5 * size + TINY, prox.__name__


@DTYPES
@SETTINGS
@hypothesis.given(x=kernels(2.0**100), strength=strengths, scaling=strategies.floats(2.0**-20, 2.0**20, width=32))
def test_elementwise_proxes_are_their_formulas(dtype, x, strength, scaling):
    x = jnp.asarray(np.clip(x, -float(jnp.finfo(dtype).max), float(jnp.finfo(dtype).max)), dtype)
    known, tau = np.asarray(x, np.float64), float(np.float32(strength)) * float(np.float32(scaling))
    formulas = {
        prox_l1: np.sign(known) * np.maximum(np.abs(known) - tau, 0),
        prox_squared_l2: known / (1 + tau),
    }
    for prox, expected in formulas.items():
        found = JITTED[prox](x, strength, scaling)
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        tolerance = rounding(dtype, known) + float(jnp.finfo(dtype).smallest_subnormal)
        assert np.all(np.abs(np.asarray(found, np.float64) - expected) <= tolerance), prox.__name__


@SETTINGS
@hypothesis.given(kernel=kernels(2.0**100), strength=strengths)
def test_the_penalty_is_not_raised_by_its_prox(kernel, strength):
    np.testing.assert_allclose(
        penalty(kernel), absum_reference(kernel), rtol=1e-6, atol=6e-6 * slice_size(kernel).sum()
    )
    slack = 1e-5 * slice_size(kernel).sum() + TINY
    assert penalty(JITTED[prox_absum](kernel, strength)) <= penalty(kernel) + slack


@SETTINGS
@hypothesis.given(kernel=kernels(2.0**50))
def test_the_gradient_of_the_penalty_is_the_sign_of_each_sum(kernel):
    sums = jnp.sum(kernel, axis=(0, 1))
    np.testing.assert_array_equal(slope(kernel), np.broadcast_to(np.sign(sums), KERNEL))


@SETTINGS
@hypothesis.given(height=strategies.integers(1, 12), width=strategies.integers(1, 12))
def test_half_a_grid_and_its_conjugates_are_the_grid(height, width):
    whole = [tuple(pair) for pair in np.asarray(frequency_grid(height, width)).tolist()]
    half = [tuple(pair) for pair in np.asarray(frequency_grid(height, width, half=True)).tolist()]
    assert whole == [(row, column) for row in range(height) for column in range(width)]
    conjugates = [(-row % height, -column % width) for row, column in half]
    assert set(half) | set(conjugates) == set(whole)
    assert all(pair not in half for pair, other in zip(conjugates, half, strict=True) if pair != other)


frequencies = strategies.tuples(strategies.integers(0, SIZE[0] - 1), strategies.integers(0, SIZE[1] - 1))
phases = strategies.floats(-100, 100, width=32)


def wave(frequency, phase):
    """cos(2 pi (l u / H + m v / W) + phase), and its largest value."""
    rows, columns = np.meshgrid(*map(np.arange, SIZE), indexing="ij")
    turns = frequency[0] * rows / SIZE[0] + frequency[1] * columns / SIZE[1]
    return np.cos(2 * np.pi * turns + phase)


@SETTINGS
@hypothesis.given(frequency=frequencies, phase=phases)
def test_a_basis_image_is_the_unit_cosine(frequency, phase):
    found, cosine = np.asarray(basis(np.array(frequency), phase)), wave(frequency, phase)
    size = np.linalg.norm(cosine)
    # What vanishes is 0; just beside it float32 has lost digits of the phase, which is up to 100.
    hypothesis.assume(not 1e-7 < size / math.sqrt(cosine.size) < 1e-2)
    expected = cosine / size if size > 1e-3 else np.zeros(SIZE)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@SETTINGS
@hypothesis.given(frequency=frequencies, phase=phases, epsilon=epsilons)
def test_a_perturbation_has_its_norm_or_is_zero(norm, frequency, phase, epsilon):
    found = np.asarray(perturbation(np.array(frequency), phase, epsilon, norm), np.float64)
    assert found.shape == (*SIZE, 3)
    if not found.any():
        assert epsilon == 0 or abs(wave(frequency, phase)).max() < 1e-5
    elif norm == "linf":
        assert np.abs(found).max() == epsilon
    else:
        assert np.linalg.norm(found) == pytest.approx(epsilon, rel=1e-5, abs=TINY)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@SETTINGS
@hypothesis.given(
    seed=seeds, bandwidth=strategies.integers(0, 6), band=strategies.sampled_from(["low", "high"]),
    epsilon=epsilons,
)  # fmt: skip
def test_noise_has_its_norm_and_keeps_to_its_band(norm, seed, bandwidth, band, epsilon):
    key, shape = jax.random.key(seed), (*SIZE, 2)
    measure = (lambda x: np.abs(x).max()) if norm == "linf" else np.linalg.norm
    white = np.asarray(random_perturbation(key, shape, epsilon, norm=norm), np.float64)
    assert measure(white) == pytest.approx(epsilon, rel=1e-5)
    noise = np.asarray(
        band_limited_noise(key, shape, bandwidth, band=band, epsilon=epsilon, norm=norm), np.float64
    )
    assert noise.shape == shape
    assert measure(noise) == pytest.approx(epsilon if bandwidth else 0, rel=1e-5)
    spectrum = np.abs(np.fft.fft2(noise, axes=(0, 1))).max(axis=-1)
    for axis, (size, values) in enumerate(zip(SIZE, (spectrum.max(axis=1), spectrum.max(axis=0)), strict=True)):
        distance = np.abs(np.fft.fftfreq(size) * size)  # cycles: 0 is the lowest, size // 2 the highest
        far = distance if band == "low" else size // 2 - distance
        outside = values[far > bandwidth // 2 + (band == "high")]
        assert np.all(outside <= 1e-4 * np.linalg.norm(noise) * math.sqrt(noise.size)), axis


@SETTINGS
@hypothesis.given(values=strategies.lists(strategies.floats(width=32), min_size=18, max_size=18), seed=seeds)
def test_a_heatmap_has_each_value_at_its_frequency(values, seed):
    half = np.asarray(frequency_grid(*SIZE, half=True))
    values, half = np.array(values[: len(half)], np.float32), np.random.default_rng(seed).permutation(half)
    found = np.asarray(fourier_heatmap(values, half, SIZE))
    for value, (row, column) in zip(values, half, strict=True):
        for place in ((row, column), (-row, -column)):
            at = tuple((index + size // 2) % size for index, size in zip(place, SIZE, strict=True))
            np.testing.assert_array_equal(found[at], value)


@SETTINGS
@hypothesis.given(kernel=kernels(2.0**60))
def test_the_frequency_response_is_the_transform_of_the_padded_kernel(kernel):
    expected = np.fft.fft2(kernel.astype(np.float64), SIZE, axes=(0, 1))
    # Sums of 6 terms with twiddle factors of float32.
    assert np.all(np.abs(response(kernel) - expected) <= 1e-5 * slice_size(kernel) + 10 * TINY)


@hypothesis.settings(SETTINGS, max_examples=15)
@hypothesis.given(kernel=kernels(2.0**60))
def test_the_bounds_of_the_spectral_norm_enclose_it(kernel):
    matrices = np.fft.fft2(kernel.astype(np.float64), SIZE, axes=(0, 1))
    expected = np.linalg.svd(matrices, compute_uv=False).max()
    norms = {method: float(norm(kernel)) for method, norm in NORMS.items()}
    assert norms["exact"] == pytest.approx(expected, rel=1e-4, abs=100 * TINY)
    assert norms["power"] <= expected * (1 + 1e-4) + 100 * TINY
    assert norms["gram"] >= expected * (1 - 1e-4) - 100 * TINY


counts = strategies.integers(1, 2**40).flatmap(
    lambda total: strategies.tuples(strategies.integers(0, total), strategies.just(total))
)


@SETTINGS
@hypothesis.given(counted=counts, confidence=strategies.floats(0.01, 0.999))
def test_the_interval_is_that_of_wilson_however_many_were_counted(counted, confidence):
    correct, total = counted
    low, high = map(float, accuracy_interval(correct, total, confidence))
    wanted = scipy.stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=2e-6)
    assert 0 <= low <= correct / total + 1e-6
    assert correct / total - 1e-6 <= high <= 1
    reached = float(epsilon_at_chance([0.5], [correct], total, num_classes=10, confidence=confidence))
    if abs(wanted.low - 0.1) > 1e-5:
        assert reached == (0.5 if wanted.low <= 0.1 else math.inf)


classes = arrays(np.int32, (3, 7), elements=strategies.integers(0, 2))


@SETTINGS
@hypothesis.given(labels=arrays(np.int32, 7, elements=strategies.integers(0, 2)), attacked=classes)
def test_counted_predictions(labels, attacked):
    np.testing.assert_allclose(fooling_rate(labels, attacked), (attacked != labels).mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(worst_case(labels, attacked), (attacked == labels).all(axis=0))
    first, second = attacked[0] == labels, attacked[1] == labels
    test = mcnemar_test(first, second)
    differ = int((first != second).sum())
    assert (test.first_only + test.second_only, test.total) == (differ, 7)
    wanted = scipy.stats.binomtest(test.first_only, differ).pvalue if differ else 1.0
    assert test.p_value == pytest.approx(wanted, rel=1e-12)


pairs = arrays(np.float64, (2, 5), elements=strategies.integers(-(10**9), 10**9).map(lambda n: n / 1000))


@SETTINGS
@hypothesis.given(values=pairs, confidence=strategies.floats(0.05, 0.99))
def test_the_paired_test_is_that_of_student(values, confidence):
    differences = values[0] - values[1]
    # Differences that are equal up to the rounding of the values are taken for equal, and are left out here.
    hypothesis.assume(np.ptp(differences) > 1e-6 * np.abs(values).max())
    found, wanted = paired_t_test(*values, confidence=confidence), scipy.stats.ttest_rel(*values)
    low, high = wanted.confidence_interval(confidence)
    size = np.abs(differences).max()
    assert float(found.difference) == pytest.approx(differences.mean(), rel=1e-5, abs=1e-6 * size)
    assert (float(found.low), float(found.high)) == pytest.approx((low, high), rel=1e-4, abs=1e-5 * size)
    assert float(found.p_value) == pytest.approx(wanted.pvalue, rel=1e-3, abs=1e-6)
