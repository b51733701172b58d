"""The sweep against a loop over attacks in NumPy, and against what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import FourierSweep, fourier_heatmap, fourier_perturbation, fourier_sweep, frequency_grid

SHAPE = (6, 5, 2)
EPSILONS = (0.0, 0.1, 0.4)


def linear(params, images):
    return jnp.einsum("nhwc,hwck->nk", images - 0.5, params)


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(keys[0], (23, *SHAPE))
    params = jax.random.normal(keys[1], (*SHAPE, 4))
    # A third of the labels are made wrong, so that the clean count is not the number of images.
    labels = jnp.where(jnp.arange(23) % 3 == 0, 0, linear(params, images).argmax(axis=-1))
    return params, images, labels


def reference(params, images, labels, epsilons, frequencies, norm="linf"):
    """Correct counts [E, F] by a loop, in float64, with the pattern from the closed form."""
    params, images, labels = (np.asarray(x) for x in (params, images, labels))
    height, width, channels = images.shape[1:]
    u, v = np.mgrid[:height, :width]
    counts = np.zeros((len(epsilons), len(frequencies)), int)
    for j, (l, m) in enumerate(np.asarray(frequencies)):
        pattern = np.cos(2 * np.pi * (l * u / height + m * v / width) + np.pi / 4)[..., None]
        pattern = np.repeat(pattern, channels, axis=-1)
        pattern /= np.abs(pattern).max() if norm == "linf" else np.linalg.norm(pattern)
        for i, epsilon in enumerate(epsilons):
            attacked = np.clip(images.astype(np.float64) + epsilon * pattern, 0, 1)
            logits = np.einsum("nhwc,hwck->nk", attacked - 0.5, params)
            counts[i, j] = np.sum(logits.argmax(axis=-1) == labels)
    return counts


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_counts_equal_a_loop(problem, norm):
    sweep = fourier_sweep(linear, *problem, EPSILONS, norm=norm)
    frequencies = frequency_grid(*SHAPE[:2], half=True)
    expected = reference(*problem, EPSILONS, frequencies, norm)
    np.testing.assert_array_equal(sweep.frequencies, frequencies)
    np.testing.assert_array_equal(sweep.correct, expected)
    assert len(np.unique(expected)) > 3  # the problem is one where frequencies differ


def test_epsilon_zero_gives_the_clean_count(problem):
    params, images, labels = problem
    sweep = fourier_sweep(linear, *problem, EPSILONS)
    clean = int(jnp.sum(linear(params, images).argmax(axis=-1) == labels))
    assert int(sweep.clean_correct) == clean < int(sweep.total) == 23
    np.testing.assert_array_equal(sweep.correct[0], clean)


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 24])
@pytest.mark.parametrize("attacks_per_step", [1, 4])
def test_batch_sizes_do_not_matter(problem, batch_size, attacks_per_step):
    expected = fourier_sweep(linear, *problem, EPSILONS)
    sweep = fourier_sweep(linear, *problem, EPSILONS, batch_size=batch_size, attacks_per_step=attacks_per_step)
    np.testing.assert_array_equal(sweep.correct, expected.correct)
    assert sweep.clean_correct == expected.clean_correct


@pytest.mark.parametrize("count", [1, *(pytest.param(n, marks=pytest.mark.devices(n)) for n in (2, 8))])
def test_devices_do_not_matter(problem, count):
    expected = fourier_sweep(linear, *problem, EPSILONS)
    sweep = fourier_sweep(linear, *problem, EPSILONS, devices=jax.devices()[:count], attacks_per_step=3)
    np.testing.assert_array_equal(sweep.correct, expected.correct)
    assert sweep.clean_correct == expected.clean_correct


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 5), (3, 8)])
def test_the_planted_worst_frequency_is_found(size, channels):
    """A linear model whose gradient is one Fourier pattern is fooled by that frequency and by no other."""
    frequencies = frequency_grid(*size, half=True)
    planted = frequencies[len(frequencies) // 2]
    template = jnp.stack([jnp.zeros((*size, channels)), fourier_perturbation(planted, (*size, channels), 1.0)], -1)
    images = 0.5 + 0.05 * jax.random.normal(jax.random.key(1), (16, *size, channels)).clip(-2, 2)
    labels = linear(template, images).argmax(axis=-1)
    sweep = fourier_sweep(linear, template, images, labels, [0.35])
    np.testing.assert_array_equal(sweep.worst_frequency, planted[None])
    others = np.any(np.asarray(frequencies) != np.asarray(planted), axis=-1)
    # Every image is pushed to one class; other patterns are orthogonal to the gradient (nothing is clipped).
    assert int(sweep.correct.min()) == int(jnp.sum(labels == 1))
    assert (np.asarray(sweep.correct)[0, others] == 16).all()


def test_properties_follow_from_the_counts():
    counts = jnp.array([[8, 4, 6], [5, 2, 2]])
    sweep = FourierSweep(
        jnp.array([[0, 0], [0, 1], [1, 0]]), jnp.array([0.1, 0.2]), counts, jnp.asarray(9), jnp.asarray(10)
    )
    np.testing.assert_allclose(sweep.accuracy, np.asarray(counts) / 10)
    np.testing.assert_allclose(sweep.worst_accuracy, [0.4, 0.2])
    np.testing.assert_array_equal(sweep.worst_frequency, [[0, 1], [0, 1]])  # the first among equals
    np.testing.assert_allclose(sweep.mean_accuracy, [0.6, 0.3])
    np.testing.assert_allclose(sweep.average_robust_accuracy, 0.3)
    np.testing.assert_allclose(sweep.clean_accuracy, 0.9)


def test_other_numbers_compile_nothing(problem, count_compilations):
    params, images, labels = problem

    def sweep(scale, epsilons, phase, frequencies):
        return fourier_sweep(
            linear, scale * params, images, labels, epsilons,
            frequencies=jnp.array(frequencies), phase=phase,
        )  # fmt: skip

    jax.block_until_ready(sweep(1.0, [0.1, 0.2], 0.3, [[1, 1], [0, 2]]))
    with count_compilations() as compiled:
        jax.block_until_ready(sweep(2.0, [0.25, 0.35], 0.7, [[2, 0], [1, 2]]))
    assert compiled.count == 0


def test_whole_sweep_may_be_jitted(problem):
    params, images, labels = problem
    jitted = jax.jit(lambda *arrays: fourier_sweep(linear, *arrays))
    sweep = jitted(params, images, labels, jnp.asarray(EPSILONS))
    np.testing.assert_array_equal(sweep.correct, fourier_sweep(linear, *problem, EPSILONS).correct)


def test_not_a_number_logits_are_wrong():
    def broken(params, images):
        return jnp.where(images.mean(axis=(1, 2, 3))[:, None] > params, jnp.nan, jnp.zeros((len(images), 3)))

    images = jnp.full((4, 4, 4, 1), 0.5)
    labels = jnp.zeros(4, int)
    sweep = fourier_sweep(broken, jnp.float32(0.6), images, labels, [0.2], frequencies=[[0, 0]])
    assert int(sweep.clean_correct) == 4
    assert int(sweep.correct[0, 0]) == 0


def test_heatmap_has_zero_in_the_centre_and_fills_conjugates():
    for size in [(6, 5), (4, 4)]:
        frequencies = frequency_grid(*size, half=True)
        heatmap = np.asarray(fourier_heatmap(jnp.arange(float(len(frequencies))), frequencies, size))
        assert heatmap[size[0] // 2, size[1] // 2] == 0
        for value, (l, m) in enumerate(np.asarray(frequencies).tolist()):
            for sign in (1, -1):
                row, column = (sign * l + size[0] // 2) % size[0], (sign * m + size[1] // 2) % size[1]
                assert heatmap[row, column] == value
    np.testing.assert_array_equal(
        np.isnan(fourier_heatmap(jnp.ones(1), [[1, 1]], (3, 3))),
        ~np.eye(3, dtype=bool) | np.diag([0, 1, 0]).astype(bool),
    )


def bad(**changes):
    values = {
        "images": jnp.full((3, 4, 4, 1), 0.5),
        "labels": jnp.zeros(3, int),
        "epsilons": [0.1],
        "params": jnp.ones((4, 4, 1, 2)),
        "predict_fn": linear,
    } | changes
    return fourier_sweep(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": jnp.full((3, 4, 4, 1), jnp.nan)}, "hold no NaN"),
        ({"images": jnp.full((3, 4, 4, 1), 1.5)}, r"lie within \(0.0, 1.0\).*1.5 to 1.5"),
        ({"images": jnp.full((3, 4, 4, 1), -0.1)}, "lie within"),
        ({"images": jnp.zeros((3, 4, 4, 1), jnp.uint8)}, "floats.*uint8"),
        ({"images": jnp.zeros((3, 4, 4))}, r"\[N, H, W, C\], got shape \(3, 4, 4\)"),
        ({"images": jnp.zeros((0, 4, 4, 1))}, "non-empty"),
        ({"labels": jnp.zeros(2, int)}, r"3 integers.*\(2,\)"),
        ({"labels": jnp.zeros(3)}, "3 integers.*float32"),
        ({"labels": jnp.array([0, 1, 2])}, "0 to 1"),
        ({"epsilons": [-0.1]}, "epsilons must be finite and not negative"),
        ({"epsilons": []}, "non-empty"),
        ({"epsilons": 0.1}, "non-empty list"),
        ({"frequencies": [[4, 0]]}, r"frequency \(4, 0\) is out of range"),
        ({"frequencies": jnp.zeros((0, 2), int)}, "F > 0"),
        ({"frequencies": [0, 1]}, r"\[F, 2\]"),
        ({"phase": float("nan")}, "phase must be finite"),
        ({"devices": []}, "devices must be different and at least one"),
        ({"devices": jax.devices()[:1] * 2}, "devices must be different"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"batch_size": 0}, "batch_size"),
        ({"attacks_per_step": 0}, "attacks_per_step"),
        ({"predict_fn": lambda params, images: images.mean(axis=(1, 2, 3))}, r"logits \[3, classes\]"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        bad(**changes)
    if "frequencies" not in changes:
        bad()  # the same call without the mistake is fine
