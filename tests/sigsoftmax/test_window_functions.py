"""A model as plain functions: one of each for equal models, so that nothing is compiled twice."""

import dataclasses

import numpy as np

from experiments.data.streams import evaluation_batches
from experiments.sigsoftmax.models import arrays_of, model_log_probs, model_loss
from tests.sigsoftmax.evaluations.small_model import MODEL, language_model


def test_equal_models_share_their_functions():
    for function in (model_loss, model_log_probs):
        assert function(language_model()) is function(MODEL)
        assert function(dataclasses.replace(MODEL, head=MODEL.head)) is function(MODEL)
        assert function(language_model(num_experts=2)) is not function(MODEL)


def test_a_window_keeps_what_the_functions_take():
    (window,) = evaluation_batches(np.arange(5), 1, 8)
    assert set(arrays_of(window)) == {"tokens", "labels", "where"} < set(window)
