"""Dynamic evaluation of a run: it starts from the static one, learns, and goes on where it stopped."""

import dataclasses

import numpy as np
import pytest

from experiments.harness.evaluation import chosen, evaluate
from experiments.sigsoftmax.dynamic_evaluation import DynamicEvaluation, dynamic_loss, gradient_rms
from experiments.sigsoftmax.evaluations import EVALUATIONS, dynamic
from experiments.sigsoftmax.evaluations.perplexity import text_perplexity
from experiments.sigsoftmax.models import model_loss
from tests.command_line import only
from tests.sigsoftmax.evaluations.small_model import MODEL, PARAMS, TEXT
from tests.sigsoftmax.small import add_body

ONLY = chosen(EVALUATIONS, ["dynamic"], None)


def test_it_starts_from_static_evaluation_and_learns():
    text = np.tile(TEXT[:12], 15)
    settings = DynamicEvaluation(learning_rate=0.0, decay=0.01, epsilon=1e-3, segment=5, statistics_batch=4)
    args = model_loss(MODEL), PARAMS, MODEL.initial_carry
    rms = gradient_rms(*args, TEXT, settings)
    static = dynamic_loss(*args, text, settings, rms=rms)
    # float32, segments of 5 words against windows of 70.
    assert np.exp(static.total / static.count) == pytest.approx(
        text_perplexity(MODEL, PARAMS, text, batch_size=1), rel=1e-5
    )
    learning = DynamicEvaluation(learning_rate=0.05, decay=1e-3, epsilon=1e-2)
    # A text that repeats itself can be learned: well below what the trained parameters make of it.
    assert dynamic_loss(*args, text, learning, rms=rms).total < 0.9 * static.total


def test_it_goes_on_from_what_was_done(quick, tmp_path, monkeypatch):
    """Stopped after the statistics and one of two splits, it does the other alone, and gives the same."""
    whole = evaluate(quick, ONLY, tmp_path / "whole")["dynamic"].numbers
    assert set(whole) == {"valid", "test"}
    done, original = [], dynamic.dynamic_loss

    def stopping(*args, label, **options):
        if "(test)" in label:
            raise KeyboardInterrupt
        return original(*args, label=label, **options)

    def counting(*args, label, **options):
        done.append(label)
        return original(*args, label=label, **options)

    monkeypatch.setattr(dynamic, "dynamic_loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(quick, ONLY, tmp_path / "parts")
    stored = only(tmp_path / "parts" / "evaluations" / "dynamic")
    assert [path.name for path in stored.iterdir()] == ["partial.npz"]
    monkeypatch.setattr(dynamic, "dynamic_loss", counting)
    monkeypatch.delattr(dynamic, "gradient_rms")
    assert evaluate(quick, ONLY, tmp_path / "parts")["dynamic"].numbers == whole
    assert done == ["dynamic evaluation (test) moss, seed 0"]
    assert not (stored / "partial.npz").exists()


def test_what_was_done_with_other_settings_is_not_gone_on_from(quick, tmp_path, monkeypatch):
    add_body(monkeypatch)
    monkeypatch.setattr(dynamic, "gradient_rms", stop)
    recipe = dataclasses.replace(
        quick.subject.recipe, dynamic=dataclasses.replace(quick.subject.recipe.dynamic, decay=0.5)
    )
    subject = dataclasses.replace(quick.subject, given=dataclasses.replace(quick.subject.given, recipe=recipe))
    other = dataclasses.replace(quick, run=dataclasses.replace(quick.run, subject=subject))
    assert dynamic.DYNAMIC.data(other, dynamic.Dynamic()) != dynamic.DYNAMIC.data(quick, dynamic.Dynamic())
    with pytest.raises(StoppedError):
        evaluate(other, ONLY, tmp_path)


class StoppedError(Exception):
    pass


def stop(*args, **options):
    raise StoppedError
