"""Rank of the log-probabilities of a small language model, against one pass over the whole text."""

import json

import numpy as np
import pytest

from experiments.harness.evaluation import evaluate
from experiments.sigsoftmax.evaluations import EVALUATIONS, rank
from experiments.sigsoftmax.evaluations.rank import Rank, log_prob_rank_of, rank_row
from sigsoftmax_jax import log_prob_rank, sigsoftmax_score
from tests.sigsoftmax.evaluations.small_model import (
    MODEL,
    PARAMS,
    RNG,
    TEXT,
    VOCAB,
    WIDTH,
    language_model,
    parameters,
    whole_log_probs,
)


@pytest.mark.parametrize("contexts", [None, 30, 1])
def test_rank_is_that_of_the_whole_matrix(contexts):
    row = log_prob_rank_of(MODEL, PARAMS, TEXT, contexts=contexts, window=8)
    report = log_prob_rank(whole_log_probs(MODEL, PARAMS, TEXT)[:contexts].astype(np.float32))
    assert (row["rank"], row["contexts"], row["vocabulary"]) == (report.rank, *report.shape)
    assert (row["dtype"], row["contexts"]) == ("float32", contexts or len(TEXT) - 1)
    assert row["tolerance"] == pytest.approx(report.tolerance, rel=1e-5)
    assert row["effective_ranks"]["0.001"] == report.effective_rank(1e-3)
    numbers, values = zip(*row["singular_values"], strict=True)
    assert numbers == tuple(range(1, len(report.singular_values) + 1))  # so few that all are kept
    # float32 entries of two compilations: rounding of 1e-6 relative to the largest.
    np.testing.assert_allclose(values, report.singular_values, rtol=0, atol=1e-5 * report.singular_values[0])
    assert json.loads(json.dumps(row)) == row


def test_softmax_keeps_to_its_bound_and_the_others_do_not():
    text = RNG.integers(VOCAB, size=200).astype(np.int32)
    ranks = {
        name: log_prob_rank_of(model, parameters(model), text, window=8)["rank"]
        for name, model in {
            "softmax": MODEL,
            "sigsoftmax": language_model(score=sigsoftmax_score),
            "mixture": language_model(num_experts=3),
        }.items()
    }
    assert ranks["softmax"] == WIDTH + 2 - 1  # the bias is 0 here, as at the start of training
    assert min(ranks["sigsoftmax"], ranks["mixture"]) > WIDTH + 2


def test_spectrum_is_thinned_to_points_evenly_spaced_on_a_logarithmic_axis():
    numbers = [k for k, _ in rank_row(log_prob_rank(np.diag(np.geomspace(1, 1e-3, 400))))["singular_values"]]
    assert numbers[:10] == list(range(1, 11))
    assert (numbers[-1], len(numbers)) == (400, len(set(numbers)))
    assert 100 < len(numbers) <= 200


@pytest.mark.parametrize("contexts", [0, 60])
def test_a_number_of_contexts_that_the_text_does_not_have_is_refused(contexts):
    with pytest.raises(ValueError, match=f"contexts must be 1 to 59, those of the text, got {contexts}"):
        log_prob_rank_of(MODEL, PARAMS, TEXT, contexts=contexts)


def test_a_negative_number_is_refused_before_training():
    with pytest.raises(ValueError, match=r"--rank.contexts must be at least 0 and below 2\*\*31, got -1"):
        EVALUATIONS["rank"].check(None, Rank(contexts=-1))


@pytest.mark.parametrize("contexts", [0, 10_000])
def test_all_contexts_are_taken_where_there_are_no_more(quick, tmp_path, contexts, monkeypatch):
    taken = []
    found = log_prob_rank_of(MODEL, PARAMS, TEXT, window=8)
    monkeypatch.setattr(
        rank, "log_prob_rank_of", lambda *args, contexts, **options: taken.append(contexts) or found
    )
    evaluate(quick, {"rank": (EVALUATIONS["rank"], Rank(contexts=contexts))}, tmp_path)
    assert taken == [None]
