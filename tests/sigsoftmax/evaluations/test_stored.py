"""Evaluations by the command: stored in the run's directory or elsewhere, used again, made anew."""

import dataclasses
import functools
import json
import re
import shutil

import pytest

from experiments.harness.stored import Measured
from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.perplexity import Perplexity
from tests.command_line import error_line, only, read
from tests.sigsoftmax.small import EVALUATE, OUT, contents

fails = functools.partial(error_line, main)
pytestmark = pytest.mark.usefixtures("corpus")


def test_evaluation_elsewhere_leaves_the_run_as_it_is(tmp_path, network, capsys):
    shutil.rmtree(network / "evaluations")
    before = contents(network)
    evaluate = [*EVALUATE, "samples", "--out", "elsewhere"]
    main(evaluate)
    assert contents(network) == before
    result = (tmp_path / "elsewhere" / "result.json").read_bytes()
    assert {path.name for path in (tmp_path / "elsewhere" / "evaluations").iterdir()} == {"perplexity", "samples"}
    main([*evaluate[:-1], "again"])
    assert (tmp_path / "again" / "result.json").read_bytes() == result
    main(["--config", "elsewhere/result.json", "--run", "net", *OUT, "config"])
    assert (tmp_path / "config" / "result.json").read_bytes() == result
    assert contents(network) == before


def test_evaluation_writes_over_no_other_run_or_result(tmp_path, network, capsys):
    shutil.copytree(network, tmp_path / "other")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text('{"experiment": "somebody"}')
    before = contents(tmp_path)
    assert "other holds a single run; choose another --out" in fails(capsys, *EVALUATE, "--out", "other")
    message = fails(capsys, *EVALUATE, "--out", "foreign")
    assert "foreign/result.json is not a result of sigsoftmax evaluate; choose another --out" in message
    assert contents(tmp_path) == before


def test_stored_evaluations_are_used_again(network, monkeypatch):
    monkeypatch.setitem(EVALUATIONS, "perplexity", dataclasses.replace(EVALUATIONS["perplexity"], measure=None))
    stored = contents(network / "evaluations")
    main(EVALUATE)
    assert contents(network / "evaluations") == stored


@pytest.mark.parametrize(
    ("change", "flags"),
    [({"version": 2}, []), ({"data": lambda trained, settings: "other"}, []), ({}, ["--perplexity.window", "6"])],
)
def test_stored_evaluations_of_anything_else_are_not(network, monkeypatch, change, flags):
    def measure(trained, settings, partial):
        measured.append(settings)
        return Measured({"final_phase": "base", "curve": [[1, 1.0, 1.0]]})

    measured = []
    changed = dataclasses.replace(EVALUATIONS["perplexity"], measure=measure, **change)
    monkeypatch.setitem(EVALUATIONS, "perplexity", changed)
    main([*EVALUATE, *flags])
    assert measured == [Perplexity(window=6) if flags else Perplexity()]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("numbers.json", lambda text: b"{}"),
        ("numbers.json", lambda text: text[: len(text) // 2]),
        ("numbers.json", lambda text: b"[]"),
        ("arrays.npz", lambda text: text[: len(text) // 2]),
        ("arrays.npz", None),
        ("numbers.json", None),
    ],
)
def test_damaged_evaluations_are_made_anew(network, capsys, name, damage):
    directory = only(network / "evaluations" / "perplexity")
    before = contents(directory)
    if damage is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(damage(before[name][1]))
    main(EVALUATE)
    lines = capsys.readouterr().err.splitlines()
    if (name, damage) != ("numbers.json", None):  # which is only not done yet
        assert re.search(
            f"perplexity/\\w+ is measured anew: .*{name} (is damaged|does not exist)", "\n".join(lines)
        )
    assert read(directory / "numbers.json")["numbers"] == json.loads(before["numbers.json"][1])["numbers"]
    assert (directory / "arrays.npz").read_bytes() == before["arrays.npz"][1]
