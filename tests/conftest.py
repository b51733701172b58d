"""Test set-up: eight virtual CPU devices and strict numerics, before jax is imported."""

import contextlib
import os
from pathlib import Path

# Many tests compile the same programs, from one run of the tests to the next: those of over 0.05 s are kept.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# NPROC sizes XLA's CPU thread pool; with fewer threads than twice the virtual devices, queued
# all-reduces starve each other and the process aborts (https://github.com/jax-ml/jax/issues/25861).
for _name, _value in {"NPROC": "32", "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}.items():
    os.environ.setdefault(_name, _value)

import jax  # noqa: E402
import pytest  # noqa: E402
from jax import monitoring  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    config.addinivalue_line("markers", "devices(n): needs n devices; left out on a GPU or TPU that is alone")


def pytest_runtest_setup(item):
    """Leave a test out where an accelerator has too few devices; on the CPU, which can have any number, fail."""
    marker = item.get_closest_marker("devices")
    if marker is not None and jax.device_count() < marker.args[0]:
        stop = pytest.fail if jax.default_backend() == "cpu" else pytest.skip
        stop(f"needs {marker.args[0]} devices, got {jax.device_count()}")


_COMPILED_QUICKLY = ("absum", "benchmarks", "docs", "examples", "sigsoftmax")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Compile all but the libraries in less time: code that is not optimised computes the same."""
    tests = Path(__file__).parent
    is_quick = any(item.path.is_relative_to(tests / name) for name in _COMPILED_QUICKLY)
    jax.config.update("jax_disable_most_optimizations", is_quick)
    try:
        return (yield)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def bucket():
    """The address of a bucket on this machine."""
    from tests.bucket import storage_service  # noqa: PLC0415  # seconds, for few tests

    with storage_service() as address:
        yield address


@pytest.fixture
def x64():
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield


class _Compilations:
    count = 0


@pytest.fixture
def count_compilations():
    """A context manager that counts the programs compiled inside it."""

    @contextlib.contextmanager
    def counting():
        compiled = _Compilations()

        def listen(event, duration, **details):
            compiled.count += event == "/jax/core/compile/backend_compile_duration"

        monitoring.register_event_duration_secs_listener(listen)
        try:
            yield compiled
        finally:
            monitoring.unregister_event_duration_listener(listen)

    # A counter that hears nothing would let every test pass.
    with counting() as check:
        jax.jit(lambda x: x + 1.25)(jax.numpy.zeros(3)).block_until_ready()
    assert check.count
    return counting
