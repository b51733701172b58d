r"""When outcomes on some of the images settle that one attack is not more harmful than another.

Let S_f be the number of all N images that stay correct under attack f, and let the images come in an order drawn
uniformly at random. The hypothesis about two attacks is that f is worse for the network than w, by more than is
``allowed``:

.. math:: H(f, w):\quad S_f \le S_w - \text{allowed} - 1

With c_f(s) = 1 where image s stays correct, y_s = 1 + c_f(s) - c_w(s) is 0, 1 or 2, and under H(f, w) all N of
them add up to T = N - allowed - 1 at the most. Image s is drawn uniformly from the N - s + 1 that are left, so
given those before it the mean of y_s is at most

.. math:: \mu_s = (T - y_1 - \dots - y_{s-1}) / (N - s + 1)

Whoever stakes a share b_s of a capital on y_s, at the price mu_s, has after n images

.. math:: K_n = \prod_{s \le n} (1 - b_s + b_s\, y_s / \mu_s), \qquad 0 \le b_s < 1

where b_s may depend on what came before. Under H(f, w) this is a nonnegative supermartingale that starts at 1,
so the probability that it *ever* reaches a threshold k is at most 1/k (Ville): nothing is paid for looking
after every image. Once y_1 + ... + y_n exceeds T the hypothesis is refuted for certain.

**One union over the A attacks.** Let f* be the worst attack: it follows from the outcomes alone, not from the
order. A search ends with a winner w for which H(f, w) has been refuted for every other f, hence for f* as well.
If w is less harmful than f* by more than is allowed, H(f*, w) is true and was refuted in error. Those are A - 1
events, one for each w; with k = (A - 1) / (1 - confidence) their probabilities add up to at most
1 - confidence. Pairs without f* may go wrong as they like. K_n of a pair is a function of the order alone, and
the bound is on its largest value; so it does not matter either which pairs are looked at, when, or which attacks
are evaluated how far for what reason. What does matter is that every attack is refuted against the winner
itself, not against a leader before it: "not worse than g by more than is allowed" twice in a row would allow
twice as much.

References:
    Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024),
    https://arxiv.org/abs/2010.09686: the capital, without replacement; the stakes are those called aGRAPA.
    Waudby-Smith and Ramdas, Confidence sequences for sampling without replacement, NeurIPS 2020,
    https://arxiv.org/abs/2006.04347.
"""

import numpy as np

# What the mean and the variance of y start from, as so many images of variance 1/4 on which the attacks are even.
_PRIOR_IMAGES, _PRIOR_VARIANCE = 2.0, 0.25
# Of the capital at once, so that one image never takes more than half of it.
_LARGEST_STAKE = 0.5
# Pairs times images that are worked on at once: a few arrays of this many float64 fit into a cache.
_AT_ONCE = 2**18


def log_threshold(num_attacks: int, confidence: float) -> float:
    """The log-capital that refutes a hypothesis, log((A - 1) / (1 - confidence)).

    Example:
        >>> round(log_threshold(394, 0.999), 2)
        12.88
    """
    return float(np.log(max(num_attacks - 1, 1)) - np.log1p(-confidence))


def refuted(
    correct: np.ndarray, leader: np.ndarray, lengths: np.ndarray, *, allowed: int, threshold: float
) -> np.ndarray:
    """Whether H(f, leader) is refuted, for several attacks f.

    Args:
        correct: bool [A, N], outcomes of the attacks in the random order.
        leader: bool [N], those of the leader.
        lengths: int [A], how many of the first images each attack and the leader have both been evaluated on.
        allowed: by how many images the leader may be less harmful.
        threshold: the log-capital that refutes.

    Returns:
        bool [A].

    Example:
        >>> correct = np.arange(40)[None] >= np.array([[0], [5], [20]])  # all 40 images, 35 and 20 of them
        >>> leader = np.arange(40) < 4
        >>> refuted(correct, leader, np.array([30, 30, 30]), allowed=0, threshold=log_threshold(4, 0.9))
        array([ True,  True, False])
    """
    found = np.zeros(len(correct), bool)
    by_length = np.argsort(lengths, kind="stable")  # those of about one length together
    start = 0
    while start < len(by_length):
        stop = start + max(1, _AT_ONCE // max(1, int(lengths[by_length[-1]])))
        rows = by_length[start:stop]
        longest = int(lengths[rows].max())
        differences = 1 + correct[rows, :longest] - leader[:longest].astype(np.int8)
        seen = np.arange(longest) < lengths[rows, None]
        found[rows] = _refuted(differences, seen, correct.shape[1] - allowed - 1, correct.shape[1], threshold)
        start = stop
    return found


def _refuted(y: np.ndarray, seen: np.ndarray, most: int, total: int, threshold: float) -> np.ndarray:
    """For y [A, n] of which ``seen`` counts, whether certain or the log-capital ever reached the threshold."""
    images_before = np.arange(y.shape[1])  # [n]
    sums = np.cumsum(y, axis=1, dtype=np.int32)
    certain = np.any(seen & (sums > most), axis=1)
    before = sums - y
    # Where nothing is left for the images to come, either their y is 0 or it is certain: any price will do.
    price = np.maximum(most - before, 0.5) / (total - images_before)  # [A, n]
    stake = _stakes(y, before, images_before, price)
    gains = np.where(seen, np.log(1 - stake + stake * (y / price)), 0.0)
    return certain | np.any(np.cumsum(gains, axis=1) >= threshold, axis=1)


def _stakes(y: np.ndarray, before: np.ndarray, images_before: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The share that would let the capital grow fastest if y went on as it did before, to second order."""
    weight = images_before + _PRIOR_IMAGES
    mean = (before + _PRIOR_IMAGES) / weight  # of y, [A, n]
    squares = np.cumsum(np.square(y - 1), axis=1, dtype=np.int32) - np.square(y - 1)  # of y - 1, before each image
    variance = (squares + _PRIOR_IMAGES * _PRIOR_VARIANCE) / weight - np.square(mean - 1)
    drift = mean - price
    return np.clip(price * drift / (variance + np.square(drift)), 0.0, _LARGEST_STAKE)
