"""The search on tables of outcomes: the minimum for certain, or with the confidence asked for."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from absum_jax import _elimination
from absum_jax._confidence_bound import log_threshold, refuted
from absum_jax._elimination import Rule
from tests.absum_jax.search_tables import near_ties, search

EXACT = Rule(allowed=0, confidence=None)


def check_exact(table, batch_size):
    winner, lengths = search(table, EXACT, batch_size)
    assert winner == np.argmin(table.sum(axis=1))  # the first among equals, as in the sweep
    assert lengths[winner] == table.shape[1]
    return lengths


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_exact_search_finds_the_minimum_of_every_small_table(batch_size):
    saved = 0
    for outcomes in itertools.product([False, True], repeat=9):
        lengths = check_exact(np.reshape(outcomes, (3, 3)), batch_size)
        saved += 9 - lengths.sum()
    assert saved > 0 or batch_size == 3


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    num_attacks=strategies.integers(1, 12),
    total=strategies.integers(1, 60),
    easiest=strategies.floats(0, 1),
    kinds=strategies.integers(1, 4),
    batch_size=strategies.integers(1, 70),
    seed=strategies.integers(0, 2**32 - 1),
)
def test_exact_search_finds_the_minimum_of_any_table(num_attacks, total, easiest, kinds, batch_size, seed):
    # Few different rows, so that ties are common.
    rng = np.random.default_rng(seed)
    rows = rng.random((kinds, total)) < easiest
    check_exact(rows[rng.integers(kinds, size=num_attacks)], batch_size)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_among_equals_the_first_is_the_worst(order):
    """Level at the end, but reached along different ways."""
    ways = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0, 1, 0]], bool)
    for batch_size in (1, 2, 4, 8):
        check_exact(ways[list(order)], batch_size)


def test_exact_search_saves_where_attacks_differ():
    rng = np.random.default_rng(0)
    table = rng.random((50, 1000)) < np.linspace(0.3, 0.95, 50)[:, None]
    lengths = check_exact(table, 20)
    # An attack that leaves 95 % correct passes the count of the worst, 30 %, after a third of the images.
    assert lengths[-1] < 450
    assert lengths.sum() < 0.7 * table.size


def test_certain_but_tolerant_search_stays_within_the_tolerance():
    rng = np.random.default_rng(1)
    evaluated = {}
    for allowed in (0, 4):
        rule, evaluated[allowed] = Rule(allowed, None), 0
        for table in np.random.default_rng(2).random((100, 8, 60)) < rng.uniform(0.3, 0.9, (100, 8, 1)):
            winner, lengths = search(table, rule, 5)
            counts = table.sum(axis=1)
            assert counts[winner] <= counts.min() + allowed
            evaluated[allowed] += lengths.sum()
    assert evaluated[4] < evaluated[0]


def wrong_of(tables, confidence, tolerance):
    """How many searches end further than the tolerance from the worst, and the share of outcomes they look at."""
    wrong, share = 0, 0.0
    for table in tables:
        total = table.shape[1]
        allowed = int(tolerance * total)
        winner, lengths = search(table, Rule(allowed, confidence), 20)
        counts = table.sum(axis=1)
        wrong += counts[winner] > counts.min() + allowed
        share += lengths.sum() / table.size / len(tables)
        assert lengths[winner] == total
    return wrong, share


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(3)
    return [near_ties(rng, 16, 400, 0.1) for _ in range(1000)]  # rows in random order as they are


def test_confident_search_is_rarely_wrong(tables, monkeypatch):
    wrong, share = wrong_of(tables, 0.999, 0.01)
    assert wrong <= 5  # 1 is expected at the most
    assert share < 0.8
    # These are near ties: a search that drops whoever has won anything at all is wrong often.
    monkeypatch.setattr(_elimination, "log_threshold", lambda num_attacks, confidence: 0.2)
    careless, _ = wrong_of(tables[:200], 0.999, 0.01)
    assert careless > 10


def test_less_confidence_and_more_tolerance_look_at_less(tables):
    _, share = wrong_of(tables[:100], 0.999, 0.0)
    wrong, less_confident = wrong_of(tables[:100], 0.9, 0.0)
    _, more_tolerant = wrong_of(tables[:100], 0.999, 0.03)
    assert wrong <= 10
    assert max(less_confident, more_tolerant) < share


def test_every_loser_was_refuted_by_the_winner_itself(tables):
    """On what it was evaluated on, whoever led when it dropped out; if need be it came back."""
    came_back, rule = 0, Rule(allowed=4, confidence=0.9)
    for table in tables[:50]:
        seen = []
        winner, lengths = search(table, rule, 20, lambda standing, _, seen=seen: seen.append(standing))
        losers = np.flatnonzero(np.arange(len(table)) != winner)
        known = table[losers] & (np.arange(table.shape[1]) < lengths[losers, None])
        threshold = log_threshold(len(table), rule.confidence)
        assert refuted(known, table[winner], lengths[losers], allowed=4, threshold=threshold).all()
        came_back += any(np.any(a.out & ~b.out) for a, b in itertools.pairwise(seen))
    assert came_back > 10


def test_rounds_are_few():
    lengths, standing = np.zeros(2, int), _elimination.Standing(-1, np.zeros(2, bool))
    correct = np.zeros((2, 10_000), bool)
    rounds = 0
    while lengths[1] < 10_000:
        lengths = _elimination.next_lengths(correct, lengths, standing, Rule(0, 0.9), 50)
        rounds += 1
    assert rounds < 50
