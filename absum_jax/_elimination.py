"""Which attacks can still be the worst, and on how many images each is to be evaluated next.

All attacks meet the images in one order. Of attack f of A the outcomes on the first ``evaluated[f]`` of the N
images are known, ``correct[f]``, which is False beyond them. The *leader* is the attack that looks worst; the
others are *out* when they cannot be worse than it, for certain or with the confidence asked for. That is all
NumPy, on a table.
"""

from typing import NamedTuple

import numpy as np

from absum_jax._confidence_bound import log_threshold, refuted

# Images of an attack after a round / before it, once that is more than one batch: few rounds, little seen in vain.
_GROWTH = 1.1


class Rule(NamedTuple):
    """When an attack is out.

    Args:
        allowed: by how many images the winner may be less harmful than the worst.
        confidence: of that; None where it has to be certain.
    """

    allowed: int
    confidence: float | None


class Standing(NamedTuple):
    """The leader's number, and bool [A] who is out; the leader is not."""

    leader: int
    out: np.ndarray


def judge(correct: np.ndarray, evaluated: np.ndarray, last: Standing, rule: Rule) -> Standing:
    """The standing after new outcomes.

    Args:
        correct: bool [A, N].
        evaluated: int [A], at least one image each.
        last: the standing before them.
        rule: when an attack is out.
    """
    if rule.confidence is None:
        return _judge_for_certain(correct, evaluated, rule.allowed)
    return _judge_with_confidence(correct, evaluated, last, rule.allowed, rule.confidence)


def _judge_for_certain(correct: np.ndarray, evaluated: np.ndarray, allowed: int) -> Standing:
    """Out is who ends above the leader even if all its images to come were wrong, and all of the leader's right.

    Who can only end level is out as well if it comes after the leader: the first among equals is the worst. The
    leader is the one whose count can end at no more than the least number, so that number only falls, and who is
    out stays out.
    """
    least = correct.sum(axis=1)
    most = least + correct.shape[1] - evaluated
    leader = int(np.argmin(most))  # the first among equals
    ahead = least + allowed - most[leader]
    out = (ahead > 0) | ((ahead == 0) & (np.arange(len(least)) > leader))
    out[leader] = False
    return Standing(leader, out)


def _judge_with_confidence(
    correct: np.ndarray, evaluated: np.ndarray, last: Standing, allowed: int, confidence: float
) -> Standing:
    """Out is who was refuted to be worse than the leader; a new leader has to refute all attacks itself."""
    furthest = evaluated.max()
    counts = np.where(evaluated == furthest, correct.sum(axis=1), furthest + 1)
    leader = int(np.argmin(counts))
    out = last.out.copy() if leader == last.leader else np.zeros(len(correct), bool)
    left = np.flatnonzero(~out & (np.arange(len(out)) != leader))
    out[left] = refuted(
        correct[left], correct[leader], evaluated[left],
        allowed=allowed, threshold=log_threshold(len(correct), confidence),
    )  # fmt: skip
    return Standing(leader, out)


def next_lengths(
    correct: np.ndarray, evaluated: np.ndarray, standing: Standing, rule: Rule, batch_size: int
) -> np.ndarray:
    """How many of the first images each attack is to be evaluated on after the next round, int [A].

    Whole batches, or all images; as now for who is out. Where nobody is to go on the search is at its end.
    """
    total = correct.shape[1]
    batches = np.maximum(evaluated // batch_size + 1, np.ceil(_GROWTH * evaluated / batch_size).astype(int))
    wanted = np.where(standing.out, evaluated, np.minimum(batches * batch_size, total))
    if rule.confidence is None and evaluated.any():
        # The others are measured against its count, and the sooner the smaller that is.
        wanted[standing.leader] = total
        wanted[_rival(correct, evaluated, standing)] = total
    elif standing.out.sum() == len(evaluated) - 1:
        wanted[standing.leader] = total  # the winner's own count is exact
    return wanted


def _rival(correct: np.ndarray, evaluated: np.ndarray, standing: Standing) -> int:
    """Of those who are in, the one furthest ahead of the leader on the images that both have met."""
    leader_counts = np.append(0, np.cumsum(correct[standing.leader]))
    ahead = correct.sum(axis=1) - leader_counts[evaluated]
    ahead[standing.out] = correct.shape[1] + 1
    return int(np.argmin(ahead))
