"""What the tests of both command lines share."""

import json

import pytest


def read(path):
    return json.loads(path.read_text())


def error_line(main, capsys, *arguments):
    """The line that the command prints before it ends with status 2."""
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines if "error" in line.lower()] == [True]
    assert lines[-1].startswith("error: ")
    return lines[-1]
