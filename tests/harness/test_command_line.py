"""What the command lines of the experiments have in common."""

import os
import subprocess
import sys

import pytest

from experiments.training.command import one_line_errors


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = (
        "from experiments.training.command import one_line_errors\n"
        "with one_line_errors():\n"
        "    print('more than anybody reads')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_an_interruption_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as exit_info, one_line_errors():
        raise KeyboardInterrupt
    assert exit_info.value.code == 130
    line = "interrupted; the same command goes on from the last checkpoint, if there is one\n"
    assert capsys.readouterr().err == line
