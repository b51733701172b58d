"""A model as plain functions: one of each for equal models, so that nothing is compiled twice."""

import dataclasses

import numpy as np

from experiments.data.streams import evaluation_batches
from experiments.sigsoftmax.models import arrays_of, model_log_probs, model_loss
from tests.sigsoftmax.evaluations.small_model import MODEL, PARAMS, TEXT, language_model, whole_log_probs


def test_equal_models_share_their_functions():
    for function in (model_loss, model_log_probs):
        assert function(language_model()) is function(MODEL)
        assert function(dataclasses.replace(MODEL, head=MODEL.head)) is function(MODEL)
        assert function(language_model(num_experts=2)) is not function(MODEL)


def test_loss_and_log_probs_are_of_one_window_without_dropout():
    (window,) = evaluation_batches(TEXT, 1, len(TEXT))
    window = arrays_of(window)
    assert set(window) == {"tokens", "labels", "where"}
    expected = whole_log_probs(MODEL, PARAMS, TEXT)
    carry = MODEL.initial_carry(1)
    log_probs, after = model_log_probs(MODEL)(PARAMS, window["tokens"], window["where"], carry)
    losses, same = model_loss(MODEL)(PARAMS, *window.values(), carry)
    # float32, two compilations of log-probabilities down to about -10.
    np.testing.assert_allclose(log_probs[0, :-1], expected, atol=1e-5)
    picked = -expected[np.arange(len(TEXT) - 1), TEXT[1:]]
    np.testing.assert_allclose(losses[0, :-1], picked, atol=1e-5)
    assert losses[0, -1] == 0  # padding
    np.testing.assert_allclose(after[0][0], same[0][0], atol=1e-6)
