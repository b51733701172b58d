"""Where compiled programs are kept, and which devices share a batch."""

import jax
import pytest

from experiments.training import devices
from experiments.training.devices import devices_for, keep_compiled_programs

NAME = "jax_compilation_cache_dir"


@pytest.fixture
def set_directory():
    """What JAX was told, to be restored: nothing is compiled in between."""
    before = getattr(jax.config, NAME)
    yield lambda value: jax.config.update(NAME, value)
    jax.config.update(NAME, before)


@pytest.mark.parametrize(
    ("told", "cache", "folder"),
    [
        (None, None, "/home/me/.cache/absum-sigsoftmax/compiled"),
        (None, "/cache", "/cache/absum-sigsoftmax/compiled"),
        ("/mine", "/cache", "/mine"),
    ],
)
def test_compiled_programs_are_kept_in_the_users_cache_unless_jax_was_told_where(
    monkeypatch, set_directory, told, cache, folder
):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    set_directory(told)
    keep_compiled_programs()
    assert getattr(jax.config, NAME) == folder


@pytest.mark.devices(8)
def test_as_many_devices_as_share_the_rows_equally(monkeypatch):
    assert {rows: len(devices_for(rows)) for rows in (16, 12, 20, 15, 11, 1)} == {
        16: 8, 12: 6, 20: 5, 15: 5, 11: 1, 1: 1,
    }  # fmt: skip
    monkeypatch.setattr(devices, "is_alone", lambda: False)
    assert len(devices_for(16)) == 8
    with pytest.raises(ValueError, match="--batch-size must be a multiple of the 8 devices, got 12"):
        devices_for(12)
