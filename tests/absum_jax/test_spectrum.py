"""Singular values against the explicit matrix of the convolution, norms on their sides of it, and clipping."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import (
    absum,
    clip_singular_values,
    conv_power_iteration,
    conv_singular_values,
    conv_spectral_norm,
    frequency_response,
)
from tests.absum_jax.explicit_convolution import explicit_matrix, explicit_singular_values
from tests.absum_jax.kernel_arrays import equinox_params, random_kernel

# Kernel, image, stride, groups: kinds of convolution.
CONVS = [
    ((3, 3, 2, 3), (6, 6), 1, 1),
    ((3, 3, 4, 2), (5, 5), 1, 1),  # odd sizes
    ((1, 1, 3, 3), (4, 4), 1, 1),
    ((2, 5, 2, 2), (4, 6), 1, 1),  # neither kernel nor image square
    ((4, 3, 2, 2), (4, 3), 1, 1),  # a kernel of the image's size
    ((3, 3, 2, 5), (6, 4), 2, 1),
    ((3, 3, 1, 7), (6, 6), 3, 1),  # more outputs than the folded inputs have directions
    ((3, 3, 2, 4), (4, 4), 1, 2),
    ((3, 3, 1, 4), (6, 6), 2, 4),  # depthwise, strided
    ((5, 2, 3), (8,), 2, 1),
    ((2, 3, 2, 2, 2), (4, 3, 2), 1, 1),
]
# The first, a strided and a grouped one in every run.
FEW = [conv if i in (0, 5, 7) else pytest.param(*conv, marks=pytest.mark.slow) for i, conv in enumerate(CONVS)]
IDS = [f"{kernel}-{image}-stride{stride}-groups{groups}" for kernel, image, stride, groups in CONVS]


def norm(kernel, image_size, **options):
    return float(conv_spectral_norm(kernel, image_size, **options))


@pytest.mark.parametrize(("shape", "image_size", "stride", "groups"), CONVS, ids=IDS)
def test_singular_values_are_those_of_the_explicit_matrix(shape, image_size, stride, groups):
    kernel = random_kernel(shape)
    values = np.asarray(conv_singular_values(kernel, image_size, stride=stride, groups=groups))
    coarse = tuple(n // stride for n in image_size)
    number = min(stride ** len(image_size) * shape[-2], shape[-1] // groups)
    assert values.shape == (*coarse, *([groups] if groups > 1 else []), number)
    assert (np.diff(values, axis=-1) <= 0).all()
    expected = explicit_singular_values(kernel, image_size, stride, groups)
    # The matrix may be larger than its blocks together: what is more are zeros.
    expected, rest = np.split(expected, [min(values.size, expected.size)])
    found = np.sort(values.ravel())[::-1]
    np.testing.assert_allclose(found[: expected.size], expected, rtol=0, atol=1e-5 * expected[0])
    assert np.abs(np.concatenate([rest, found[expected.size :]])).max(initial=0) < 1e-5 * expected[0]


@pytest.mark.parametrize(("shape", "image_size", "stride", "groups"), FEW, ids=IDS)
def test_power_is_at_most_exact_and_gram_at_least(shape, image_size, stride, groups):
    kernels = random_kernel((10, *shape), seed=1)

    @jax.jit
    @jax.vmap
    def norms(kernel):
        options = {"stride": stride, "groups": groups}
        return [
            conv_spectral_norm(kernel, image_size, method="power", num_iterations=3, **options),
            conv_spectral_norm(kernel, image_size, method="gram", **options),
            jnp.max(conv_singular_values(kernel, image_size, **options)),
        ]

    power, gram, exact = (np.asarray(each) for each in norms(kernels))
    rounding = 3e-6 * exact  # of float32 sums, and of as many squarings
    assert (power <= exact + rounding).all()
    assert (exact <= gram + rounding).all()
    # Neither is idle: three iterations come near, and rank <= 7 bounds the excess by 7 ** (1 / 64).
    assert (power > 0.6 * exact).all()
    assert (gram < 1.031 * exact).all()


def test_frequency_response():
    kernel = np.asarray(random_kernel((3, 2, 2, 3)), np.float64)
    padded = np.zeros((6, 5, 2, 3))
    padded[:3, :2] = kernel
    response = frequency_response(jnp.asarray(kernel, jnp.float32), (6, 5))
    np.testing.assert_allclose(response, np.fft.fft2(padded, axes=(0, 1)), atol=1e-5)
    # At frequency zero it holds the sums that absum penalises.
    np.testing.assert_allclose(np.abs(response[0, 0]).sum(), absum(jnp.asarray(kernel, jnp.float32)), rtol=1e-6)


def test_each_frequency_has_its_own_place():
    kernel = random_kernel((3, 2, 2, 3))
    response = np.asarray(frequency_response(kernel, (6, 5)))
    expected = np.linalg.svd(response, compute_uv=False)
    np.testing.assert_allclose(conv_singular_values(kernel, (6, 5)), expected, atol=1e-5)


def test_the_direction_of_the_convolution_does_not_matter():
    kernel = random_kernel((3, 3, 2, 2))
    flipped = kernel[::-1, ::-1]
    np.testing.assert_allclose(
        conv_singular_values(kernel, (6, 6)), conv_singular_values(flipped, (6, 6)), atol=1e-5
    )


def test_the_layer_of_linen_has_this_norm():
    # Its gain for the image at which power iteration arrives.
    layer = nn.Conv(3, (3, 3), padding="CIRCULAR", strides=2, use_bias=False)
    params = {"params": {"kernel": random_kernel((3, 3, 2, 3))}}
    kernel = params["params"]["kernel"]
    bound, image = conv_power_iteration(kernel, random_kernel((6, 6, 2)), num_iterations=40, stride=2)
    exact = norm(kernel, (6, 6), stride=2)
    np.testing.assert_allclose(bound, exact, rtol=1e-3)
    gain = jnp.linalg.norm(layer.apply(params, image[None])) / jnp.linalg.norm(image)
    # The layer pads on both sides, which shifts its stride: the norm is the same, and the image is another.
    assert float(gain) <= exact * (1 + 1e-6)
    shifted = jnp.roll(image, 1, axis=(0, 1))
    gains = [float(jnp.linalg.norm(layer.apply(params, x[None]))) for x in (image, shifted)]
    np.testing.assert_allclose(max(gains), exact, rtol=1e-3)


def test_channels_first_kernels():
    kernel = random_kernel((3, 5, 2, 4))
    weight = jnp.transpose(kernel, (3, 2, 0, 1))
    assert weight.shape == equinox_params(functools.partial(eqx.nn.Conv2d, groups=2), 4, 4, (3, 5)).weight.shape
    options = {"stride": 2, "groups": 2}
    first = {**options, "spatial_axes": (-2, -1)}
    np.testing.assert_array_equal(
        conv_singular_values(weight, (6, 6), **first), conv_singular_values(kernel, (6, 6), **options)
    )
    np.testing.assert_array_equal(
        frequency_response(weight, (6, 5), spatial_axes=(-2, -1)), frequency_response(kernel, (6, 5))
    )
    clipped = clip_singular_values(kernel, (6, 6), 1.0, **options)
    expected = np.transpose(clipped, (3, 2, 0, 1))
    np.testing.assert_array_equal(clip_singular_values(weight, (6, 6), 1.0, **first), expected)
    vector = random_kernel((6, 6, 4))
    found, expected = (
        conv_power_iteration(each, vector, **given)[0] for each, given in ((weight, first), (kernel, options))
    )
    np.testing.assert_array_equal(found, expected)


def test_one_warm_step_a_call_follows_the_norm_of_a_kernel_in_training():
    start, target = random_kernel((2, 3, 3, 4, 4))

    def step(carry, _):
        kernel, vector = carry

        def objective(kernel):
            bound, next_vector = conv_power_iteration(kernel, vector)
            return 0.5 * jnp.sum(jnp.square(kernel - target)) + 0.3 * bound, (bound, next_vector)

        gradient, (bound, vector) = jax.grad(objective, has_aux=True)(kernel)
        return (kernel - 0.05 * gradient, vector), (kernel, bound)

    carry = start, random_kernel((8, 8, 4), seed=1)
    _, (kernels, bounds) = jax.jit(lambda carry: jax.lax.scan(step, carry, length=150))(carry)
    exact = jax.jit(jax.vmap(lambda kernel: conv_spectral_norm(kernel, (8, 8))))(kernels)
    ratios = np.asarray(bounds / exact)
    assert (ratios <= 1 + 3e-6).all()
    assert (ratios[10:] > 0.9).all()  # while the kernel moves from one random kernel to another
    assert (ratios[-20:] > 0.995).all()
    assert float(exact[-1]) < 0.95 * norm(target, (8, 8))  # what was penalised has become smaller


def test_the_vector_that_comes_out_goes_in():
    kernel, vector = random_kernel((3, 3, 2, 3)), random_kernel((4, 4, 2))
    bound, once = conv_power_iteration(kernel, vector)
    np.testing.assert_allclose(jnp.linalg.norm(once), 1.0, rtol=1e-6)
    twice = conv_power_iteration(kernel, once)
    for found, expected in zip(conv_power_iteration(kernel, vector, num_iterations=2), twice, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert bound <= twice[0]
    # The reference: A^T A in float64.
    matrix = explicit_matrix(kernel, (4, 4))
    output = matrix @ np.asarray(vector, np.float64).ravel()
    image = matrix.T @ (output / np.linalg.norm(output))
    np.testing.assert_allclose(bound, np.linalg.norm(image), rtol=1e-5)
    np.testing.assert_allclose(once.ravel(), image / np.linalg.norm(image), atol=1e-6)


def test_a_kernel_of_zeros_leaves_the_vector():
    bound, vector = conv_power_iteration(jnp.zeros((3, 3, 2, 2)), jnp.ones((4, 4, 2)))
    assert float(bound) == 0.0
    np.testing.assert_allclose(vector, np.full((4, 4, 2), 32**-0.5), rtol=1e-6)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_kernel_that_diverged_has_no_norm_and_leaves_the_vector(entry):
    kernel = random_kernel((3, 3, 2, 3)).at[1, 0, 1, 2].set(entry)
    vector = random_kernel((4, 4, 2))

    @jax.jit
    def norms(kernel):
        bounds = [conv_spectral_norm(kernel, (4, 4), method=method) for method in METHODS]
        return jnp.stack(bounds), *conv_power_iteration(kernel, vector, num_iterations=2)

    bounds, bound, image = norms(kernel)
    np.testing.assert_array_equal(bounds, [np.nan] * 3)  # an upper bound of 0 would hide the divergence
    assert np.isnan(bound)
    np.testing.assert_allclose(image, vector / np.linalg.norm(vector), rtol=1e-6)


METHODS = ("exact", "gram", "power")


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_largest_singular_value(method, x64):
    kernel = random_kernel((3, 3, 2, 3), dtype=jnp.float64)
    direction = np.random.default_rng(1).standard_normal(kernel.shape)
    vector = random_kernel((4, 4, 2), dtype=jnp.float64)
    if method == "power":
        for _ in range(60):  # until it has come near the singular vectors
            _, vector = conv_power_iteration(kernel, vector)
    functions = {
        "exact": lambda k: conv_spectral_norm(k, (4, 4)),
        "gram": lambda k: conv_spectral_norm(k, (4, 4), method="gram", num_iterations=10),
        "power": lambda k: conv_power_iteration(k, vector)[0],
    }
    gradient = jax.grad(functions[method])(kernel)
    size = 1e-5
    moved = [explicit_singular_values(kernel + sign * size * direction, (4, 4))[0] for sign in (1, -1)]
    # "gram" and "power" are near the norm, and their gradients near its own.
    np.testing.assert_allclose(np.sum(gradient * direction), (moved[0] - moved[1]) / (2 * size), rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["identity", "zeros", "equal"])
def test_gradients_are_finite_where_singular_values_are_equal(kernel):
    kernel = {
        "identity": jnp.eye(2)[None, None],  # every singular value is 1
        "zeros": jnp.zeros((1, 1, 2, 2)),
        "equal": jnp.ones((1, 1, 2, 2)),  # the same at each frequency
    }[kernel]
    functions = [
        lambda kernel: conv_spectral_norm(kernel, (4, 4)),
        lambda kernel: conv_spectral_norm(kernel, (4, 4), method="gram"),
        lambda kernel: conv_spectral_norm(kernel, (4, 4), method="power", num_iterations=2),
        lambda kernel: jnp.sum(conv_singular_values(kernel, (4, 4))),
        lambda kernel: jnp.sum(jnp.square(clip_singular_values(kernel, (4, 4), 0.5))),
        lambda kernel: conv_power_iteration(kernel, jnp.ones((4, 4, 2)))[0],
    ]
    gradients = jax.jit(lambda kernel: [jax.grad(function)(kernel) for function in functions])(kernel)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    if kernel.any():
        # Euler: the sum of gradient times kernel is the norm itself, whichever subgradient it is.
        for gradient in gradients[:3]:
            np.testing.assert_allclose(np.sum(gradient * kernel), norm(kernel, (4, 4)), rtol=0.03)


@pytest.mark.parametrize("shape", [(2, 2, 3, 2), (2, 2, 2, 3)])
@pytest.mark.parametrize("max_norm", [0.0, 1.5, 100.0])
def test_gradients_of_clipping(shape, max_norm, x64):
    kernel, direction = random_kernel((2, *shape), dtype=jnp.float64)
    weights = random_kernel(shape, seed=1, dtype=jnp.float64)

    @jax.jit
    def objective(kernel, max_norm):
        return jnp.sum(weights * clip_singular_values(kernel, (3, 2), max_norm))

    gradient, by_norm = jax.grad(objective, argnums=(0, 1))(kernel, max_norm)
    size = 1e-6
    moved = [objective(kernel + sign * size * direction, max_norm) for sign in (1, -1)]
    np.testing.assert_allclose(np.sum(gradient * direction), (moved[0] - moved[1]) / (2 * size), atol=1e-7)
    higher = [objective(kernel, max_norm + step) for step in (0, 1e-6)]
    np.testing.assert_allclose(by_norm, (higher[1] - higher[0]) / 1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "image_size", "options"),
    [
        ((4, 6, 3, 2), (4, 6), {}),
        ((1, 1, 3, 4), (4, 4), {}),
        ((4, 4, 2, 4), (4, 4), {"stride": 2, "groups": 2}),
        ((5, 2, 3), (5,), {}),
    ],
)
def test_every_singular_value_is_under_the_bound_before_the_crop(shape, image_size, options):
    # Kernels of the size of the image, and 1x1: nothing is cropped.
    kernel = random_kernel(shape)
    before = np.asarray(conv_singular_values(kernel, image_size, **options))
    bound = float(np.median(before))
    clipped = clip_singular_values(kernel, image_size, bound, **options)
    after = np.asarray(conv_singular_values(clipped, image_size, **options))
    np.testing.assert_allclose(after, np.minimum(before, bound), rtol=0, atol=1e-5 * before.max())


def test_what_the_crop_leaves():
    # A layer of He's initialisation, whose norm is 2.8: a bound of half of it is exceeded after the crop, by less
    # and less as it is repeated.
    kernel = random_kernel((3, 3, 8, 8)) / 6
    excess = []
    for num_iterations in (1, 3, 10, 30):
        clipped = clip_singular_values(kernel, (8, 8), 1.25, num_iterations=num_iterations)
        excess.append(norm(clipped, (8, 8)) / 1.25 - 1)
    assert norm(kernel, (8, 8)) > 2.5
    assert excess == sorted(excess, reverse=True)
    assert 0.05 < excess[0] < 0.5
    assert 0 < excess[-1] < 0.02
    # The crop is the nearest kernel of this support: a kernel that is clipped in full, and then cropped by hand.
    full = jnp.zeros((8, 8, 8, 8)).at[:3, :3].set(kernel)
    by_hand = clip_singular_values(full, (8, 8), 1.25)[:3, :3]
    np.testing.assert_allclose(clip_singular_values(kernel, (8, 8), 1.25), by_hand, atol=1e-6)


def test_a_kernel_within_the_bound_is_left():
    kernel = random_kernel((3, 3, 2, 3))
    np.testing.assert_allclose(clip_singular_values(kernel, (6, 4), 1e3), kernel, atol=2e-6)
    np.testing.assert_array_equal(clip_singular_values(kernel, (6, 4), 0.0), jnp.zeros_like(kernel))


def test_neither_overflow_nor_underflow():
    kernel = random_kernel((3, 3, 2, 3))

    @jax.jit
    def norms(kernel):
        options = {"exact": None, "gram": 5, "power": 2}
        return jnp.stack(
            [conv_spectral_norm(kernel, (4, 4), method=name, num_iterations=n) for name, n in options.items()]
        )

    expected = np.asarray(norms(kernel), np.float64)
    for scale in (1e-30, 1e-15, 1e15, 1e30):
        np.testing.assert_allclose(np.asarray(norms(kernel * scale), np.float64), expected * scale, rtol=1e-5)


def test_the_size_of_the_first_vector_does_not_matter():
    kernel, vector = random_kernel((3, 3, 2, 3)), random_kernel((4, 4, 2))
    expected = conv_power_iteration(kernel, vector)
    for scale in (1e-30, 1e-25, 1e25, 1e30):  # squares of float32 end at 1e-45 and 3e38
        for found, each in zip(conv_power_iteration(kernel, vector * scale), expected, strict=True):
            np.testing.assert_allclose(found, each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    kernel = random_kernel((3, 3, 2, 3), dtype=dtype)
    wide = kernel.astype(jnp.float32)
    for method in ("exact", "gram"):
        found = conv_spectral_norm(kernel, (4, 4), method=method)
        assert found.dtype == jnp.float32
        assert found == conv_spectral_norm(wide, (4, 4), method=method)
    assert frequency_response(kernel, (4, 4)).dtype == jnp.complex64
    assert conv_power_iteration(kernel, jnp.ones((4, 4, 2), dtype))[1].dtype == jnp.float32
    clipped = clip_singular_values(kernel, (4, 4), 1.0)
    assert clipped.dtype == dtype
    np.testing.assert_array_equal(clipped, clip_singular_values(wide, (4, 4), 1.0).astype(dtype))
    assert conv_singular_values(kernel, (4, 4)).dtype == jnp.float32


def test_double_precision(x64):
    kernel = random_kernel((3, 3, 2, 3), dtype=jnp.float64)
    values = np.sort(np.asarray(conv_singular_values(kernel, (4, 4))).ravel())[::-1]
    np.testing.assert_allclose(values, explicit_singular_values(kernel, (4, 4))[: values.size], atol=1e-12)


def test_products_of_full_precision_whatever_the_default():
    kernel, vector = random_kernel((3, 3, 2, 3)), random_kernel((4, 4, 2))
    with jax.default_matmul_precision("bfloat16"):
        programs = [
            jax.jit(lambda k, method=method: jax.grad(conv_spectral_norm)(k, (4, 4), method=method)).lower(kernel)
            for method in METHODS
        ]
        programs += [
            jax.jit(lambda k: conv_power_iteration(k, vector)).lower(kernel),
            jax.jit(lambda k: clip_singular_values(k, (4, 4), 1.0)).lower(kernel),
        ]
    for program in programs:
        products = [
            line for line in program.as_text().splitlines() if "dot_general" in line or ".convolution" in line
        ]
        assert products
        assert all("HIGHEST" in line and "DEFAULT" not in line for line in products)


def test_strict_dtypes():
    kernel = random_kernel((3, 3, 2, 2))
    with jax.numpy_dtype_promotion("strict"):
        for method in METHODS:
            assert (
                jax.eval_shape(lambda k, m=method: conv_spectral_norm(k, (4, 4), method=m), kernel).dtype
                == kernel.dtype
            )
        assert clip_singular_values(kernel, (4, 4), 1.0, num_iterations=2).dtype == jnp.float32
        assert conv_singular_values(kernel, (4, 4)).dtype == jnp.float32
        jax.grad(lambda k: jnp.sum(clip_singular_values(k, (4, 4), 1.0)))(kernel)


def test_another_bound_compiles_nothing(count_compilations):
    kernel = random_kernel((3, 3, 2, 2))
    clip_singular_values(kernel, (4, 4), 1.0)
    with count_compilations() as compiled:
        clip_singular_values(kernel, (4, 4), 1.5)
    assert compiled.count == 0


def test_a_profile_names_the_functions():
    kernel = random_kernel((3, 3, 2, 2))
    calls = {
        "frequency_response": lambda k: frequency_response(k, (4, 4)),
        "conv_singular_values": lambda k: conv_singular_values(k, (4, 4)),
        "conv_spectral_norm": lambda k: conv_spectral_norm(k, (4, 4)),
        "conv_power_iteration": lambda k: conv_power_iteration(k, jnp.ones((4, 4, 2))),
        "clip_singular_values": lambda k: clip_singular_values(k, (4, 4), 1.0),
    }
    for name, call in calls.items():
        assert f"{name}/" in jax.jit(call).lower(kernel).as_text(debug_info=True)


BAD = [
    (lambda k: conv_singular_values(k, (2, 4)), r"kernel must be no larger .* \(2, 4\), got .*\(3, 3\)"),
    (lambda k: conv_singular_values(k, (4, 6), stride=4), r"stride must divide the image size \(4, 6\), got 4"),
    (lambda k: conv_singular_values(k, (4, 4), stride=0), "stride must be an integer of at least 1, got 0"),
    (lambda k: conv_singular_values(k, (4, 4), groups=4), "groups must divide the 6 output channels, got 4"),
    (lambda k: conv_singular_values(k, (4, 4), groups=0), "groups must be an integer of at least 1, got 0"),
    (lambda k: conv_singular_values(k, (4,)), r"image_size must be \(height, width\), integers .* got \(4,\)"),
    (lambda k: conv_singular_values(k, (4, 4.0)), r"image_size must be \(height, width\), .* got \(4, 4.0\)"),
    (lambda k: conv_singular_values(k[0], (4, 4)), r"image_size must be \(length\), .* got \(4, 4\)"),
    (lambda k: conv_singular_values(k[0, 0], ()), r"kernel must have spatial axes before \(in, out\)"),
    (lambda k: conv_singular_values(k, (4,), spatial_axes=(0,)), "kernel must have one to three spatial axes"),
    (lambda k: conv_singular_values(k[None, None], (4,) * 4), "kernel must have one to three spatial axes"),
    (lambda k: conv_singular_values(k[..., :0], (4, 4)), "none of them empty, got shape"),
    (lambda k: conv_singular_values(k, (4, 4), spatial_axes=(1, 2)), r"spatial_axes must be the first .*\(1, 2\)"),
    (lambda k: conv_singular_values(k.astype(int), (4, 4)), "kernel must be a float array, got dtype int"),
    (lambda k: frequency_response(k, (2, 2)), "kernel must be no larger than the image"),
    (lambda k: frequency_response(k, (4, 4), spatial_axes=(1, 2)), r"spatial_axes must be the first .*\(1, 2\)"),
    (lambda k: conv_spectral_norm(k, (4, 4), method="svd"), "method must be one of 'exact', 'gram', 'power', got"),
    (lambda k: conv_spectral_norm(k, (4, 4), num_iterations=5), "num_iterations must be None for method 'exact'"),
    (
        lambda k: conv_spectral_norm(k, (4, 4), method="gram", num_iterations=0),
        "num_iterations must be an integer of at least 1, got 0",
    ),
    (lambda k: conv_spectral_norm(k, (2, 2), method="power"), "kernel must be no larger than the image"),
    (lambda k: clip_singular_values(k, (4, 4), -1.0), "max_norm must be finite and not negative, got -1.0"),
    (lambda k: clip_singular_values(k, (4, 4), "a"), "max_norm must be an array of numbers, got str of dtype <U1"),
    (lambda k: clip_singular_values(k, (4, 4), np.ones(2)), r"max_norm must be one number, got shape \(2,\)"),
    (lambda k: clip_singular_values(k, (4, 4), 1.0, num_iterations=-1), "num_iterations must be an integer"),
    (lambda k: conv_power_iteration(k, np.ones((4, 4, 3), np.float32)), r"vector must be .* of 2 .*\(4, 4, 3\)"),
    (lambda k: conv_power_iteration(k, np.ones((4, 4, 2), int)), "vector must be a float image"),
    (lambda k: conv_power_iteration(k, np.ones((2, 2, 2), np.float32)), "kernel must be no larger"),
    (lambda k: conv_power_iteration(k, np.ones(2, np.float32)), r"image_size must be \(height, width\)"),
    (lambda k: conv_power_iteration(k, np.ones((4, 4, 2), np.float32), num_iterations=0), "num_iterations must"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message, no_shape_types, count_compilations):
    with count_compilations() as compiled, pytest.raises(ValueError, match=message) as raised:
        call(np.ones((3, 3, 2, 6), np.float32))
    assert "\n" not in str(raised.value)
    assert compiled.count == 0
