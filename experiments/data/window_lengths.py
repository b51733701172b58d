"""Random lengths of training windows, and the few sizes that they are padded to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.data.batches import epoch_generator


@dataclass(frozen=True)
class WindowLengths:
    """Random lengths of training windows: max(smallest, int(Normal(base or base / 2, spread))), at most largest.

    Args:
        base: usual mean, in tokens.
        half_probability: how often the mean is base / 2, in [0, 1].
        spread: standard deviation, in tokens; at least 0.
        smallest: least length, except that of the last window, which takes what is left.
        largest: greatest length; with the defaults one window in 80,000 is cut by it.

    Raises:
        ValueError: not 1 <= smallest <= base <= largest, a probability or a spread out of range.

    References:
        Merity, Keskar and Socher, *Regularizing and Optimizing LSTM Language Models*, 2017, section 5.
    """

    base: int = 70
    half_probability: float = 0.05
    spread: float = 5.0
    smallest: int = 5
    largest: int = 90

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.smallest <= self.base <= self.largest:
            raise ValueError(
                "smallest, base and largest must be 1 <= smallest <= base <= largest, "
                f"got {self.smallest}, {self.base} and {self.largest}"
            )
        if not 0 <= self.half_probability <= 1:
            raise ValueError(f"half_probability must be 0 to 1, got {self.half_probability}")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"spread must be finite and at least 0, got {self.spread}")

    def lengths(self, total: int, *, seed: int, epoch: int) -> np.ndarray:
        """The lengths of the windows of one pass.

        Args:
            total: their sum, in tokens.
            seed: at least 0.
            epoch: which pass; at least 0.

        Returns:
            int64 [windows]; the same for the same arguments.

        Raises:
            ValueError: ``total`` is not positive, ``seed`` or ``epoch`` is negative.

        Example:
            >>> WindowLengths(base=7, half_probability=0, spread=0).lengths(20, seed=0, epoch=0).tolist()
            [7, 7, 6]
        """
        generator = epoch_generator(seed, epoch)
        if total < 1:
            raise ValueError(f"total must be at least 1 token, got {total}")
        most = -(-total // self.smallest)
        mean = np.where(generator.random(most) < self.half_probability, self.base / 2, self.base)
        drawn = np.trunc(generator.normal(mean, self.spread))
        ends = np.cumsum(np.clip(drawn, self.smallest, self.largest).astype(np.int64))
        ends = np.append(ends[ends < total], total)
        return np.diff(ends, prepend=0)

    def probabilities(self) -> np.ndarray:
        """How often a window has each length from 0 to ``largest``, but for the last window of a pass.

        Returns:
            float64 [largest + 1], with the sum 1.

        Example:
            >>> lengths = WindowLengths(base=4, half_probability=0.25, spread=0, smallest=1, largest=5)
            >>> print(lengths.probabilities())
            [0.   0.   0.25 0.   0.75 0.  ]
        """
        # A length is at most k where the normal number is below k + 1, as it is cut to an integer.
        below = [
            _normal_below(np.arange(1, self.largest + 2) - mean, self.spread)
            for mean in (self.base / 2, self.base)
        ]
        at_most = self.half_probability * below[0] + (1 - self.half_probability) * below[1]
        at_most[: self.smallest], at_most[self.largest] = 0, 1
        return np.diff(at_most, prepend=0)

    def padded_sizes(self, count: int) -> tuple[int, ...]:
        """The sizes to pad windows to, each to the smallest that holds it, so that the least padding is expected.

        The sum over k of P(length = k) min{size : size >= k} is the least of all choices of ``count`` sizes.

        Args:
            count: at most so many sizes; at least 1.

        Returns:
            Sizes, ascending, of which the last is ``largest``; fewer than ``count`` if more would save nothing.

        Raises:
            ValueError: ``count`` is below 1.

        Example:
            >>> lengths = WindowLengths(largest=85)
            >>> sizes = lengths.padded_sizes(4)
            >>> print(sizes, round(lengths.expected_padded(sizes), 1), round(lengths.expected_padded([85]), 1))
            (41, 69, 75, 85) 71.7 85.0
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        probabilities = self.probabilities()
        sizes = np.union1d(np.flatnonzero(probabilities), self.largest)
        at_most = np.cumsum(probabilities)[sizes]
        # The least cost of the lengths up to each size, if it is the last one chosen; then with one choice more.
        costs, choices = sizes * at_most, [(size,) for size in sizes.tolist()]
        for _ in range(count - 1):
            # [one before, last]: all lengths above the one before are padded to the last.
            added = costs[:, None] + sizes * (at_most - at_most[:, None])
            added[sizes[:, None] >= sizes] = np.inf
            before, gains = added.argmin(0), added.min(0) < costs - 1e-9  # and not by rounding
            costs = np.where(gains, added.min(0), costs)
            choices = [
                (*choices[i], size) if gain else choice
                for i, gain, choice, size in zip(before, gains, choices, sizes.tolist(), strict=True)
            ]
        return choices[-1]

    def expected_padded(self, sizes: Sequence[int]) -> float:
        """The expected size of a window if each is padded to the smallest of the ascending sizes that holds it."""
        padded = np.asarray(sizes)[np.searchsorted(sizes, np.arange(self.largest + 1))]
        return float(self.probabilities() @ padded)


def _normal_below(bounds: np.ndarray, spread: float) -> np.ndarray:
    """P(Normal(0, spread) < bound) of each; without a spread the number is 0."""
    if not spread:
        return (bounds > 0).astype(np.float64)
    return np.array([math.erfc(-bound / (spread * math.sqrt(2))) / 2 for bound in bounds])
