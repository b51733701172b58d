"""Test set-up: eight virtual CPU devices and strict numerics, before jax is imported."""

import os

# NPROC sizes XLA's CPU thread pool; with fewer threads than twice the virtual devices, queued
# all-reduces starve each other and the process aborts (https://github.com/jax-ml/jax/issues/25861).
for _name, _value in {"NPROC": "32", "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}.items():
    os.environ.setdefault(_name, _value)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield
