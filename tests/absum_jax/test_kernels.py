"""Which leaves count as convolution kernels, in the trees of four libraries."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from absum_jax import absum_penalty, conv_kernel_mask, prox_absum, tree_prox
from tests.absum_jax.kernel_arrays import absum_reference, equinox_params, filled


def shapes_of(module, shape):
    """Shapes of a linen module's parameters, without compiling its initialisation."""
    return jax.eval_shape(module.init, jax.random.key(0), jnp.ones(shape))["params"]


def selected(params):
    flat, _ = jax.tree_util.tree_flatten_with_path(conv_kernel_mask(params))
    return {jax.tree_util.keystr(path) for path, flag in flat if flag}


class LinenZoo(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        x = nn.Conv(4, (3, 3), feature_group_count=2, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.ConvTranspose(4, (2, 2))(x)
        x = nn.ConvTranspose(6, (2, 2), transpose_kernel=True)(x)
        x = nn.ConvLocal(2, (3, 3))(x)
        x = nn.DenseGeneral((2, 2), axis=(-2, -1))(x)
        x = nn.DenseGeneral(4, axis=(-2, -1), name="general_out")(x)
        x = nn.Conv(4, (3,), name="conv1d")(x[:, :, :] if x.ndim == 3 else x)
        x = nn.MultiHeadDotProductAttention(num_heads=2)(x)
        return nn.Dense(2)(x)


def test_linen():
    assert selected(shapes_of(LinenZoo(), (1, 8, 8, 2))) == {
        "['stem']['kernel']",
        "['Conv_0']['kernel']",
        "['ConvTranspose_0']['kernel']",
        "['ConvTranspose_1']['kernel']",
        "['conv1d']['kernel']",
    }


@pytest.mark.parametrize("use_bias", [True, False])
def test_linen_3d(use_bias):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(nn.Conv(5, (3, 3, 3), use_bias=use_bias)(x))

    params = filled(shapes_of(Net(), (1, 4, 4, 4, 2)))
    assert selected(params) == {"['Conv_0']['kernel']"}
    np.testing.assert_allclose(absum_penalty(params), absum_reference(params["Conv_0"]["kernel"]), rtol=1e-6)


def test_partitioned_boxes_are_looked_into():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.with_partitioning(nn.initializers.ones, (None, None, None, "model"))
            return nn.Conv(4, (3, 3), kernel_init=init)(x)

    shapes = shapes_of(Net(), (1, 4, 4, 1))
    assert selected(shapes) == {"['Conv_0']['kernel'].value"}
    params = jax.tree.map(lambda leaf: jnp.asarray(np.ones(leaf.shape, leaf.dtype)), shapes)
    assert absum_penalty(params) == 36.0


@pytest.mark.parametrize(("name", "use_bias"), [("layers", True), ("layers", False), (None, True), (None, False)])
def test_a_scanned_stack_is_refused(name, use_bias):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Conv(2, (3, 3), use_bias=use_bias)(x), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            stack = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            x, _ = stack(name=name)(x, None)
            return nn.Dense(2)(x)

    params = filled(shapes_of(Net(), (1, 4, 4, 2)))
    with pytest.raises(ValueError, match="stack with a leading layer axis"):
        conv_kernel_mask(params)
    # The message says how to handle it: a mask and the spatial axes, counted from the end.
    mask = jax.tree.map(lambda leaf: leaf.ndim == 5, params)
    stacked = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 5)
    expected = sum(absum_reference(kernel) for kernel in stacked)
    np.testing.assert_allclose(absum_penalty(params, mask=mask, spatial_axes=(-4, -3)), expected, rtol=1e-6)


def test_a_stack_of_1d_convolutions_is_refused():
    params = {"blocks": {"conv": {"kernel": jnp.ones((4, 3, 2, 2)), "bias": jnp.ones((4, 2))}}}
    with pytest.raises(ValueError, match="is a stack"):
        conv_kernel_mask(params)


def test_a_stack_of_as_many_layers_as_channels_is_not_taken_for_a_dense_kernel():
    # Its bias [layers, out] has the shape of the kernel's last axes, as that of a DenseGeneral.
    params = {"blocks": {"conv": {"kernel": jnp.ones((2, 3, 3, 2, 4)), "bias": jnp.ones((2, 4))}}}
    with pytest.raises(ValueError, match="is a stack"):
        conv_kernel_mask(params)


def test_nnx_state():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.List([nnx.Conv(1, 2, (3, 3), rngs=rngs), nnx.Conv(2, 2, (3, 3), rngs=rngs)])
            self.norm = nnx.BatchNorm(2, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 4, rngs=rngs, decode=False)
            self.head = nnx.LinearGeneral((2, 2), (3, 2), axis=(-2, -1), rngs=rngs)

    state = filled(nnx.eval_shape(lambda: nnx.state(Net(nnx.Rngs(0)), nnx.Param)))
    with pytest.raises(ValueError, match="mask must select a leaf"):
        absum_penalty(state, mask=lambda tree: jax.tree.map(lambda _: False, tree))
    mask = jax.tree_util.tree_map_with_path(
        lambda path, _: "blocks" in str(path[0]) and "kernel" in str(path), state
    )
    result = tree_prox(prox_absum, state, 1e6, mask=mask)
    assert type(result) is type(state)
    assert float(absum_penalty(result, mask=mask)) < 1e-4
    assert jax.tree.leaves(conv_kernel_mask(state)) == jax.tree.leaves(mask)


def test_haiku():
    import haiku as hk  # noqa: PLC0415  # not installed on every machine with a GPU

    def net(x):
        x = hk.Conv2D(4, 3)(x)
        x = hk.Conv2DTranspose(4, 3)(x)
        x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
        return hk.Linear(2)(x.reshape(len(x), -1))

    params, _ = jax.eval_shape(hk.transform_with_state(net).init, jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    assert selected(params) == {"['conv2_d']['w']", "['conv2_d_transpose']['w']"}


def test_equinox():
    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        layers: list
        attention: eqx.nn.MultiheadAttention

        def __init__(self, *, key):
            keys = jax.random.split(key, 3)
            self.conv = eqx.nn.Conv2d(2, 3, 3, key=keys[0])
            self.layers = [eqx.nn.Conv2d(3, 3, 3, use_bias=False, key=keys[1]), eqx.nn.LayerNorm(3)]
            self.attention = eqx.nn.MultiheadAttention(2, 4, key=keys[2])

        def __call__(self, x):
            return x

    params = equinox_params(Net)
    assert selected(params) == {".conv.weight", ".layers[0].weight"}
    with pytest.raises(ValueError, match=r"\.conv\.weight.*spatial_axes=\(-2, -1\)"):
        absum_penalty(params)
    with pytest.raises(ValueError, match=r"\.conv\.weight"):
        tree_prox(prox_absum, params, 0.1)
    expected = sum(
        np.abs(np.asarray(weight, np.float64).sum(axis=(2, 3))).sum()
        for weight in (params.conv.weight, params.layers[0].weight)
    )
    np.testing.assert_allclose(absum_penalty(params, spatial_axes=(-2, -1)), expected, rtol=1e-6)
    # A mask that is a module of bools is callable itself, and is still taken as a tree.
    mask = conv_kernel_mask(params)
    np.testing.assert_allclose(absum_penalty(params, mask=mask, spatial_axes=(-2, -1)), expected, rtol=1e-6)


def test_a_stacked_equinox_module_is_refused():
    def stack(*, key):
        return eqx.filter_vmap(lambda key: eqx.nn.Conv2d(2, 3, 3, key=key))(jax.random.split(key, 4))

    with pytest.raises(ValueError, match="leading layer axis"):
        conv_kernel_mask(equinox_params(stack))


def test_shapes_are_enough():
    shapes = shapes_of(LinenZoo(), (1, 8, 8, 2))
    assert conv_kernel_mask(shapes) == conv_kernel_mask(filled(shapes))


@pytest.mark.parametrize(
    "params",
    [
        {"proj": {"kernel": jnp.ones((2, 3, 4, 8)), "bias": jnp.ones((4, 8))}},
        {"mha": {name: {"kernel": jnp.ones((3, 2, 4, 8))} for name in ("query", "key", "value", "out")}},
        {"einsum": {"kernel": jnp.ones((2, 3, 4, 8))}},
    ],
)
def test_dense_kernels_of_four_axes_are_left_alone(params):
    assert not any(jax.tree.leaves(conv_kernel_mask(params)))


def test_a_doubly_scanned_stack_is_refused():
    with pytest.raises(ValueError, match="may be a stack"):
        conv_kernel_mask({"outer": {"conv": {"kernel": jnp.ones((2, 2, 3, 3, 4, 4))}}})


@pytest.mark.parametrize("wrap", [lambda prox: prox, jax.jit, functools.partial])
def test_equinox_kernels_are_not_summed_over_the_wrong_axes(wrap):
    with pytest.raises(ValueError, match=r"spatial_axes=\(-2, -1\)"):
        tree_prox(wrap(prox_absum), {"conv": {"weight": jnp.ones((4, 2, 3, 3))}}, 0.1)
