"""What processes tell each other; with two real ones in ``tests/test_processes.py``."""

import json

import pytest

from experiments.training import agreement
from experiments.training.agreement import differences, fail, listening_for_failures, require_same


def test_the_differences_have_dotted_names_and_both_values():
    first = {"seed": 0, "model": {"width": 3, "depth": [1, 2]}, "same": None}
    second = {"seed": 0, "model": {"width": 3, "depth": [1, 3]}, "further": 1.5}
    assert list(differences(first, second)) == [("further", None, 1.5), ("model.depth", [1, 2], [1, 3])]
    assert list(differences(first, first)) == []


def test_one_process_agrees_with_itself():
    require_same({"seed": 0}, "advice")


def test_the_process_that_differs_is_named(monkeypatch):
    others = [{"seed": 0, "checkpoints": {"newest": [4, 8]}}, {"seed": 0, "checkpoints": {"newest": [4]}}]
    monkeypatch.setattr(agreement, "from_all", lambda text: [text, *map(json.dumps, others)])
    with pytest.raises(
        ValueError, match=r"processes differ: checkpoints.newest is \[4, 8\] on process 0, \[4\] on"
    ) as e:
        require_same(others[0], "share it")
    assert str(e.value).endswith("on process 2; share it")


def test_a_process_that_is_alone_fails_alone(capsys):
    with pytest.raises(SystemExit) as exit_info, listening_for_failures():
        fail("it is so")
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: it is so\n"
