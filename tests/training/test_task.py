"""Metrics are sums and counts, divided once."""

import pytest

from experiments.training.task import Mean, add, compute, merge, prefixed


def test_metrics_are_divided_once():
    first, second = {"loss": Mean(6.0, 3)}, {"loss": Mean(1.0, 1)}
    assert compute(merge(first, second)) == {"loss": 7 / 4}
    assert add(add({}, first), second) == {"loss": Mean(7.0, 4.0)}
    with pytest.raises(ValueError, match="no examples were counted for loss"):
        compute({"loss": Mean(0.0, 0)})


def test_prefixes():
    assert prefixed("train", {"loss": 1.0}) == {"train_loss": 1.0}
