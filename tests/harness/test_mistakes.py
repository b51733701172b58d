"""Mistakes are one line, wherever they are found; where a user's own file has made one, the place is shown."""

import importlib
import os
import subprocess
import sys

import jax
import pytest

from experiments.harness.mistakes import one_line_errors


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = (
        "from experiments.harness.mistakes import one_line_errors\n"
        "with one_line_errors():\n"
        "    print('more than anybody reads')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_mistake_in_a_file_of_the_users_own_is_shown_where_it_is(tmp_path, monkeypatch, capsys):
    """Of a model, say; what this project finds, even below it, is a line alone."""
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\nfrom experiments.harness.settings import find\n"
        "def wrong(): return jnp.broadcast_to(jnp.ones(10), (7,))\ndef named(): find('c', {}, '--name')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = importlib.import_module("mine")
    for work, place in ((mine.wrong, f'File "{mine.__file__}", line 3'), (mine.named, "")):
        with pytest.raises(SystemExit) as exit_info, one_line_errors():
            work()
        lines = capsys.readouterr().err.splitlines()
        assert exit_info.value.code == 2
        assert lines[-1].startswith("error: ")
        assert any(place in line for line in lines[:-1]) if place else len(lines) == 1


def test_what_does_not_fit_into_memory_is_a_line(capsys):
    with pytest.raises(SystemExit) as exit_info, one_line_errors():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 20.5G of 15.75G hbm")
    assert exit_info.value.code == 2
    line = "error: it does not fit into a device's memory, a smaller batch may: RESOURCE_EXHAUSTED: 20.5G of"
    assert capsys.readouterr().err.startswith(line)


def test_an_interruption_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as exit_info, one_line_errors():
        raise KeyboardInterrupt
    assert exit_info.value.code == 130
    line = "interrupted; the same command goes on from the last checkpoint, if there is one\n"
    assert capsys.readouterr().err == line
