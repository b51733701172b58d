"""The bet against a loop over images in plain Python, and how often it is lost by a true hypothesis."""

import math

import numpy as np
import pytest

from absum_jax import _confidence_bound
from absum_jax._confidence_bound import log_threshold, refuted


def largest_capital(correct, leader, length, allowed):
    """The largest log-capital of a pair, from the formulas image by image; infinite once it is certain."""
    total, target = len(leader), len(leader) - allowed - 1
    capital, largest, ys = 0.0, -math.inf, []
    for s in range(length):
        y = 1 + int(correct[s]) - int(leader[s])
        price = max(target - sum(ys), 0.5) / (total - s)
        mean = (sum(ys) + 2) / (s + 2)
        variance = (sum((z - 1) ** 2 for z in ys) + 0.5) / (s + 2) - (mean - 1) ** 2
        stake = min(max(price * (mean - price) / (variance + (mean - price) ** 2), 0), 0.5)
        capital += math.log(1 - stake + stake * y / price)
        ys.append(y)
        largest = math.inf if sum(ys) > target else max(largest, capital)
    return largest


@pytest.mark.parametrize("allowed", [0, 3])
def test_capital_equals_a_loop(allowed, monkeypatch):
    monkeypatch.setattr(_confidence_bound, "_AT_ONCE", 100)  # in several pieces
    rng = np.random.default_rng(allowed)
    correct, leader = rng.random((30, 60)) < rng.uniform(0.2, 1, (30, 1)), rng.random(60) < 0.5
    lengths = rng.integers(0, 61, 30)
    padded = correct & (np.arange(60) < lengths[:, None])
    expected = [largest_capital(row, leader, n, allowed) for row, n in zip(correct, lengths, strict=True)]
    for threshold in (0.5, 2.0, 8.0):
        found = refuted(padded, leader, lengths, allowed=allowed, threshold=threshold)
        np.testing.assert_array_equal(found, np.array(expected) >= threshold)
    assert np.isfinite(expected).any()
    assert np.isinf(expected).any()


def test_a_true_hypothesis_is_rarely_refuted():
    """Whatever is looked at, a capital of k is reached by at most 1 in k of the orders: here k = 10."""
    rng = np.random.default_rng(0)
    total, allowed = 200, 2
    leader = np.arange(total) < 120
    worse = np.roll(leader, 30)
    # By just more than is allowed: the hardest true hypothesis.
    worse[np.flatnonzero(worse)[: allowed + 1]] = False
    assert worse.sum() == leader.sum() - allowed - 1
    orders = np.stack([rng.permutation(total) for _ in range(2000)])
    found = [
        refuted(worse[None, order], leader[order], np.array([total]), allowed=allowed, threshold=math.log(10))[0]
        for order in orders
    ]
    # 10 % and three standard errors; and the bound is not vacuous.
    assert 0.02 < np.mean(found) < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 2000)


def test_counts_alone_refute_when_all_images_are_known():
    rng = np.random.default_rng(1)
    table = rng.random((200, 12)) < 0.5
    counts, lengths = table.sum(axis=1), np.full(200, 12)
    for allowed in (0, 2):
        found = refuted(table, table[0], lengths, allowed=allowed, threshold=math.inf)
        np.testing.assert_array_equal(found, counts >= counts[0] - allowed)


def test_the_threshold_is_a_union_over_all_but_one_attack():
    assert log_threshold(1, 0.9) == pytest.approx(math.log(10))
    assert log_threshold(394, 0.999) == pytest.approx(math.log(393 / 0.001))
