"""The precisions that networks can be computed in."""

import jax.numpy as jnp
import pytest

from experiments.training.precision import COMPUTE_DTYPES, layer_dtype, require_compute_dtype


def test_float32_is_left_to_the_layers_which_compute_in_float64_for_float64():
    assert [layer_dtype(name) for name in COMPUTE_DTYPES] == [None, jnp.bfloat16]


@pytest.mark.parametrize("check", [layer_dtype, require_compute_dtype])
def test_another_name_is_refused(check):
    with pytest.raises(ValueError, match=r"--compute-dtype must be one of float32, bfloat16, got 'float16'"):
        check("float16")
