"""The table of evaluations: accuracy, and one of a user's own as one entry."""

import jax
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.regularizers import absum_ratio
from experiments.absum.run import open_run, variables
from experiments.data.images import to_float
from tests.absum import own
from tests.absum.settings import ATTACK, SMALL
from tests.command_line import only, read


def test_accuracy_is_that_of_all_test_images(network):
    numbers = read(only(network / "evaluations" / "accuracy") / "numbers.json")["numbers"]
    trained = open_run(network).load()
    images, labels = trained.subject.images("test")
    logits = jax.jit(trained.subject.model.apply)(variables(trained), to_float(images))
    correct = int(np.sum(np.argmax(logits, axis=-1) == labels))
    assert (numbers["correct"], numbers["total"]) == (correct, 40)
    assert numbers["accuracy"] == correct / 40
    assert numbers["absum_ratio"] == pytest.approx(float(absum_ratio(trained.params)), abs=1e-6)


def test_accuracy_does_not_depend_on_the_batch(network):
    first = only(network / "evaluations" / "accuracy")
    main(["evaluate", "--run", "net", "--evaluations", "accuracy", "--accuracy.batch-size", "24"])
    (second,) = (each for each in first.parent.iterdir() if each != first)
    found, expected = (read(each / "numbers.json") for each in (second, first))
    assert found["key"]["settings"] == {"batch_size": 24}
    assert found["numbers"] == expected["numbers"]


def test_an_own_evaluation_is_one_entry(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EVALUATIONS, "brightness", own.brightness)
    main(["evaluate", "--run", "net", "--evaluations", "brightness"])
    images = open_run(network).subject.images("test")[0]
    (row,) = read(network / "result.json")["rows"]
    assert row["brightness"]["brightness"] == pytest.approx(images[:3].mean() / 255)
    assert row["cells"] == {"how bright": [row["brightness"]["brightness"], "of 1"]}
    printed = capsys.readouterr().out
    assert "how bright" in printed
    assert "of 1" in printed
    stored = only(network / "evaluations" / "brightness")
    assert (stored / "brightness.txt").read_text() == "absum, seed 0"
    assert (network / "brightness.txt").read_text() == "absum"
    assert read(stored / "numbers.json")["key"]["settings"] == {"images": 3}


def test_comparisons_make_the_default_entries_when_none_is_named(comparison, tmp_path, monkeypatch):
    monkeypatch.setitem(EVALUATIONS, "brightness", own.brightness)
    main([*SMALL, *ATTACK, "--regularizers", "none", "--out", "out"])
    (row,) = read(tmp_path / "out" / "result.json")["rows"]
    assert set(row) == {"facts", "cells", "accuracy", "fourier", "brightness"}
    assert row["fourier"] == read(comparison.path / "result.json")["rows"][0]["fourier"]
