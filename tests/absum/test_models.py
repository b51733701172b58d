"""The networks in their standard form, and what is done to images on the way in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import conv_kernel_mask
from experiments.absum.augmentation import random_crop_and_flip
from experiments.absum.models import LeNet, Normalize, build_model, max_pool_2x2


def parameter_count(name, shape, num_classes=10):
    model = build_model(name, num_classes, (0.5,) * shape[-1], (0.25,) * shape[-1])
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits = jax.eval_shape(model.apply, variables, images)
    assert logits.shape == (2, num_classes)
    kernels = sum(jax.tree.leaves(conv_kernel_mask(variables["params"])))
    return kernels, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameter_counts():
    # LeNet: 5*5*20+20, 5*5*20*50+50, 4*4*50*500+500, 500*10+10.
    assert parameter_count("lenet", (28, 28, 1)) == (2, 520 + 25_050 + 400_500 + 5_010)
    # ResNet-18 with 3x3 stem: 11,173,962 with biases in the head alone, as is commonly reported for CIFAR-10.
    assert parameter_count("resnet18", (32, 32, 3)) == (20, 11_173_962)


def test_pooling_takes_the_largest_and_drops_an_odd_edge():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = np.stack(
        [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(3)] for i in range(2)]
    ).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(max_pool_2x2(jnp.asarray(x)), expected)


def test_normalisation():
    images = jnp.full((1, 2, 2, 2), 0.75)
    result = Normalize((0.25, 0.5), (0.5, 0.125)).apply({}, images)
    np.testing.assert_allclose(result[0, 0, 0], [1.0, 2.0])


def test_augmentation_shifts_and_mirrors_by_key():
    images = jax.random.uniform(jax.random.key(0), (16, 8, 8, 3))
    keys = jax.random.split(jax.random.key(1), 16)
    result = np.asarray(random_crop_and_flip(keys, images))
    padded = np.pad(np.asarray(images), ((0, 0), (4, 4), (4, 4), (0, 0)))
    found = set()
    for i, image in enumerate(result):
        crops = {
            (row, column, flip): padded[i, row : row + 8, column : column + 8][:, :: -1 if flip else 1]
            for row in range(9)
            for column in range(9)
            for flip in (False, True)
        }
        matches = [place for place, crop in crops.items() if np.array_equal(crop, image)]
        assert matches
        found.add(matches[0])
    assert len(found) > 10
    # A row's result depends on its own key and image only.
    np.testing.assert_array_equal(random_crop_and_flip(keys[3:5], images[3:5]), result[3:5])


def test_bad_input():
    with pytest.raises(ValueError, match="unknown model 'vgg'; expected one of lenet, resnet18"):
        build_model("vgg", 10, (0.5,), (0.25,))
    with pytest.raises(ValueError, match="at least 16x16 pixels"):
        LeNet(10, (0.5,), (0.25,)).init(jax.random.key(0), jnp.ones((1, 12, 12, 1)))
