"""Samples: the same words for the same run, beginning with a word that the model knows."""

import dataclasses

import pytest

from experiments.harness.evaluation import evaluate
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.samples import Samples
from tests.command_line import only


def samples(quick, directory, **settings):
    chosen = {"samples": (EVALUATIONS["samples"], Samples(**settings))}
    return evaluate(quick, chosen, directory)["samples"].numbers


def test_a_sample_is_a_file_and_the_same_again(quick, tmp_path):
    numbers = samples(quick, tmp_path / "first", words=12)
    text = (only(tmp_path / "first" / "evaluations" / "samples") / "samples.txt").read_text()
    assert text == f"moss, seed 0: {numbers['text']}\n\n"
    assert len(numbers["text"].replace("\n", " <eos> ").split()) == 13
    first = quick.subject.corpus.vocabulary.words[quick.subject.corpus.valid[0]]
    assert numbers["text"].split()[0] == first
    assert samples(quick, tmp_path / "again", words=12) == numbers
    assert samples(quick, tmp_path / "other", words=12, seed=1) != numbers


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"words": 0}, r"--samples.words must be at least 1"),
        ({"temperature": 0.0}, "temperature must be from 1e-6 to 1e6, got 0.0"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_settings_that_no_run_could_use_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        EVALUATIONS["samples"].check(None, dataclasses.replace(Samples(), **setting))
