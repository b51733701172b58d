"""Where compiled programs are kept."""

import jax
import pytest

from experiments.training.devices import keep_compiled_programs

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
