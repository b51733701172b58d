"""Bad input of the sweep is named in one line, before anything is compiled."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import fourier_sweep
from tests.absum_jax.sweep_problem import linear


def sweep(**changes):
    values = {
        "images": np.full((3, 4, 4, 1), 0.5, np.float32),
        "labels": np.zeros(3, int),
        "epsilons": [0.1],
        "params": np.ones((4, 4, 1, 2), np.float32),
        "predict_fn": linear,
        "frequencies": [[1, 1]],
    } | changes
    return fourier_sweep(**values)


def grey(*shape, value=0.5, dtype=np.float32):
    return np.full(shape, value, dtype)


def fails(params, images):
    raise RuntimeError("first line\nsecond line")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=[])
class Unhashable:
    __hash__ = None
    weights = 1.0

    def __call__(self, params, images):
        return linear(params, images)


class ChannelsLast(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(nn.Conv(4, (3, 3))(images).mean((1, 2)))


def conv_params(channels):
    return {
        "params": {
            "Conv_0": {"kernel": grey(3, 3, channels, 4), "bias": grey(4)},
            "Dense_0": {"kernel": grey(4, 2), "bias": grey(2)},
        }
    }


def returns(make):
    """A change of ``predict_fn`` to one that gives ``make(logits)``."""
    return {"predict_fn": lambda params, images: make(linear(params, images))}


CONV = ChannelsLast().apply
KEYS = jax.random.split(jax.random.key(0))
ALL_AXES = r"\[N, height, width, channels\]"
CASES = [
    (
        {"images": grey(3, 4, 4, 1, value=np.nan)},
        r"images must lie within \(0.0, 1.0\) and hold no NaN, got .*nan",
    ),
    ({"images": grey(3, 4, 4, 1, value=1.5)}, r"images must lie within \(0.0, 1.0\).*got pixels from 1.5 to 1.5"),
    ({"images": grey(3, 4, 4, 1, value=-0.1)}, "images must lie within"),
    ({"images": grey(3, 4, 4, 1, dtype=np.uint8)}, "images must be floats.*got dtype uint8"),
    ({"images": grey(3, 4, 4)}, rf"images must be .*{ALL_AXES}, got shape \(3, 4, 4\)"),
    ({"images": np.float32(0.5)}, rf"images must be .*{ALL_AXES}, got shape \(\)"),
    ({"images": grey(0, 4, 4, 1), "labels": np.zeros(0, int)}, "images must be a non-empty array"),
    ({"images": grey(3, 0, 4, 1)}, "images must be a non-empty array"),
    ({"images": "pixels"}, "images must be an array of numbers, got str"),
    ({"images": None}, "images must be an array of numbers, got NoneType"),
    ({"images": [[1.0], [1.0, 2.0]]}, "images must be an array of numbers, got a ragged list"),
    # Channels first, for a network that takes them last: one that looks so, and one that tracing finds out.
    (
        {"images": grey(3, 1, 28, 28), "predict_fn": CONV, "params": conv_params(1)},
        rf"images must be {ALL_AXES}, got shape \(3, 1, 28, 28\)",
    ),
    (
        {"images": grey(3, 3, 32, 32), "predict_fn": CONV, "params": conv_params(3)},
        rf"images must be {ALL_AXES}, got shape \(3, 3, 32, 32\)",
    ),
    (
        {"images": grey(3, 3, 32, 48), "predict_fn": CONV, "params": conv_params(3)},
        rf"predict_fn must take images {ALL_AXES}, such as \(3, 3, 32, 48\), .*got ScopeParamShapeError",
    ),
    ({"labels": np.zeros(2, int)}, r"labels must be 3 integers.*got \(2,\)"),
    ({"labels": np.zeros(3)}, "labels must be 3 integers.*got .*float32"),
    ({"labels": np.zeros((3, 2), int)}, r"labels must be 3 integers.*got \(3, 2\)"),
    ({"labels": 0}, r"labels must be 3 integers.*got \(\)"),
    ({"labels": np.array([0, 1, 2])}, "labels must lie in 0 to 1.*got 0 to 2"),
    ({"labels": np.array([0, -1, 1])}, "labels must lie in 0 to 1.*got -1 to 1"),
    ({"epsilons": [-0.1]}, r"epsilons must be finite and not negative, got \[-0.1\]"),
    ({"epsilons": -0.1}, "epsilons must be finite and not negative"),
    ({"epsilons": [0.1, np.inf]}, "epsilons must be finite"),
    ({"epsilons": []}, r"epsilons must be a number or a non-empty list of numbers, got shape \(0,\)"),
    ({"epsilons": [[0.1]]}, r"epsilons must be a number or .*got shape \(1, 1\)"),
    ({"epsilons": None}, "epsilons must be an array of numbers, got NoneType"),
    ({"epsilons": 1j}, "epsilons must be an array of numbers, got complex"),
    ({"frequencies": [[4, 0]]}, r"frequency must lie within the image size \(4, 4\), got \(4, 0\)"),
    ({"frequencies": np.zeros((0, 2), int)}, r"frequencies must have shape \[F, 2\] with F > 0, got \(0, 2\)"),
    ({"frequencies": [0, 1]}, r"frequencies must have shape \[F, 2\]"),
    ({"frequencies": [[0.0, 1.0]]}, "frequency must be a pair of integers, got .*float32"),
    ({"frequencies": [[0, 1, 2]]}, "frequency must be a pair of integers"),
    ({"phase": float("nan")}, "phase must be finite, got nan"),
    ({"phase": [0.0, float("inf")]}, "phase must be finite, got"),
    ({"phase": []}, r"phase must be a number or a non-empty list of numbers, got shape \(0,\)"),
    ({"phase": [[0.0]]}, r"phase must be a number or .*got shape \(1, 1\)"),
    ({"signs": jax.random.key(0)}, "norm must be 'l2' for random signs, got 'linf'"),
    ({"signs": 0, "norm": "l2"}, r"signs must be one key, such as jax.random.key\(0\), got 0"),
    ({"signs": KEYS, "norm": "l2"}, r"signs must be one key, .*got key<fry> of shape \(2,\)"),
    ({"phase": None}, "phase must be an array of numbers, got NoneType"),
    ({"bounds": (1.0, 0.0)}, r"bounds must be two numbers, the smaller first, got \(1.0, 0.0\)"),
    ({"bounds": (0.0,)}, "bounds must be two numbers"),
    ({"bounds": None}, "bounds must be two numbers"),
    ({"devices": []}, "devices must be different and at least one"),
    ({"devices": jax.devices()[:1] * 2}, "devices must be different and at least one"),
    ({"devices": 8}, "devices must be a list of jax.Device, such as .* got 8"),
    ({"devices": ["cpu"]}, "devices must be a list of jax.Device"),
    ({"norm": "l1"}, "norm must be one of 'linf', 'l2', got 'l1'"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ({"batch_size": 2.0}, "batch_size must be an integer of at least 1, got 2.0"),
    ({"batch_size": True}, "batch_size must be an integer of at least 1, got True"),
    ({"attacks_per_step": 0}, "attacks_per_step must be an integer of at least 1, got 0"),
    ({"predict_fn": None}, r"predict_fn must be a function \(params, images\) -> logits, got None"),
    ({"predict_fn": Unhashable()}, "predict_fn must be hashable, as functions are, got Unhashable"),
    ({"predict_fn": fails}, "predict_fn must take images .* got RuntimeError: first line$"),
    ({"predict_fn": lambda images: images}, "predict_fn must take images .* got TypeError"),
    ({"predict_fn": lambda params, images: np.asarray(images)}, "got TracerArrayConversionError"),
    ({"params": "weights"}, "predict_fn must take images .* got TypeError"),
    (
        returns(lambda logits: logits.mean(axis=-1)),
        r"return logits \[3, classes\] of 2 or more classes, got \(3,\)",
    ),
    (returns(lambda logits: logits[:1]), r"return logits \[3, classes\] of 2 or more classes, got \(1, 2\)"),
    (returns(lambda logits: logits[:, :1]), r"return logits \[3, classes\] of 2 or more classes, got \(3, 1\)"),
    (returns(lambda logits: (logits, {})), r"return logits \[3, classes\] .*got \(\(3, 2\), \{\}\)"),
    (returns(lambda logits: None), r"return logits \[3, classes\] .*got None"),
    (returns(lambda logits: logits > 0), "predict_fn must return real logits, got dtype bool"),
    (returns(lambda logits: logits.astype(complex)), "predict_fn must return real logits, got dtype complex64"),
]


def test_the_call_without_a_mistake_is_fine():
    assert sweep().correct.shape == (1, 1)


@pytest.mark.parametrize(("changes", "message"), CASES)
def test_bad_input_is_named_before_anything_is_compiled(changes, message, no_shape_types, count_compilations):
    with count_compilations() as compiled, pytest.raises(ValueError, match=message) as raised:
        sweep(**changes)
    assert "\n" not in str(raised.value)
    assert compiled.count == 0


def test_values_of_jax_arrays_are_checked_as_well():
    with pytest.raises(ValueError, match="hold no NaN"):
        sweep(images=jnp.full((3, 4, 4, 1), jnp.nan))
    with pytest.raises(ValueError, match="labels must lie in 0 to 1"):
        sweep(labels=jnp.array([0, 1, 2]))


def test_values_that_are_traced_pass(no_shape_types):
    jitted = jax.jit(
        lambda images, labels, epsilon: sweep(images=images, labels=labels, epsilons=[epsilon]).correct
    )
    assert jitted(grey(3, 4, 4, 1), np.zeros(3, int), 0.1).shape == (1, 1)


def test_wide_and_narrow_types_are_taken_as_jax_takes_them():
    expected = sweep().correct
    wide = sweep(images=grey(3, 4, 4, 1, dtype=np.float64), labels=np.zeros(3, np.uint8), epsilons=np.float64(0.1))
    np.testing.assert_array_equal(wide.correct, expected)
    assert wide.epsilons.dtype == jnp.float32
