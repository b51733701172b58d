"""Settings of a language model: their names, and what no run could use."""

import dataclasses

import pytest

from experiments.harness.settings import from_json, to_json
from experiments.sigsoftmax.config import NETWORKS, Settings, find_network, find_score
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax.small import MIXTURE, QUICK_PLAIN, own_score


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_comparison_has_its_name(name):
    score, is_mixture = NETWORKS[name]
    assert Settings(recipe=MIXTURE if is_mixture else QUICK_PLAIN, score=score).name == name


def test_other_mixtures_are_named_by_score_and_experts():
    assert Settings(recipe=MIXTURE, score="relu").name == "relu-2"
    assert Settings(recipe=dataclasses.replace(MIXTURE, num_experts=7), score="softmax").name == "mos"


def test_every_score_can_be_compared():
    assert set(NETWORKS) == {*SCORES, "mos", "moss"}


def test_a_score_that_is_added_later_can_be_compared_as_well(monkeypatch):
    monkeypatch.setitem(SCORES, "own", own_score)
    assert find_network("own") == ("own", False)
    assert find_network("moss") == ("sigsoftmax", True)
    with pytest.raises(ValueError, match=r"--networks must be one of .*mos, moss, got 'max'"):
        find_network("max")


def test_they_survive_a_file():
    settings = Settings(recipe=MIXTURE, score="relu", seed=3)
    assert from_json(Settings, to_json(settings)) == settings


def test_scores_are_found_by_name_or_module():
    assert find_score("relu") is SCORES["relu"]
    assert find_score("tests.sigsoftmax.small:own_score") is own_score
    with pytest.raises(ValueError, match=r"--score must be one of softmax, .* or package.module:name, got 'max'"):
        find_score("max")
    with pytest.raises(
        ValueError, match=r"--score tests.sigsoftmax.small:not_a_score must name a function, got int"
    ):
        find_score("tests.sigsoftmax.small:not_a_score")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2**31}, r"--seed must not be negative, and below 2\*\*31"),
        ({"score": "max"}, "--score must be one of"),
        ({"recipe": dataclasses.replace(MIXTURE, epochs=0)}, "--epochs must be at least 1"),
    ],
)
def test_what_no_run_could_use_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Settings(recipe=MIXTURE), **change).check()
