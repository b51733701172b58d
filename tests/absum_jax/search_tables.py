"""Searches on tables of outcomes that are made up, without a network."""

import numpy as np

from absum_jax._elimination import Standing, judge, next_lengths


def search(table, rule, batch_size, after_round=None):
    """The winner among attacks [A] with outcomes [A, N], and how many images each was evaluated on."""
    num_attacks, total = table.shape
    standing = Standing(-1, np.zeros(num_attacks, bool))
    lengths, correct = np.zeros(num_attacks, int), np.zeros_like(table)
    while True:
        wanted = next_lengths(correct, lengths, standing, rule, batch_size)
        assert np.all((wanted >= lengths) & (wanted <= total))
        assert np.all((wanted % batch_size == 0) | (wanted == total))
        if np.array_equal(wanted, lengths):
            return standing.leader, lengths
        lengths, correct = wanted, table & (np.arange(total) < wanted[:, None])
        standing = judge(correct, lengths, standing, rule)
        if after_round is not None:
            after_round(standing, lengths)


def near_ties(rng, num_attacks, total, spread):
    """Outcomes [A, N] that go together image by image, of attacks whose accuracies differ little.

    Every image has a difficulty, which all attacks share to a part.
    """
    difficulty = 0.8 * rng.standard_normal(total)
    own = 0.6 * rng.standard_normal((num_attacks, total))
    strength = spread * rng.standard_normal((num_attacks, 1))
    return difficulty + own + strength > -0.3
