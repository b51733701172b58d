"""What a sweep found: counts, and the accuracies that follow from them."""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("frequencies", "epsilons", "correct", "clean_correct", "total"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class FourierSweep:
    """Counts of a sweep; everything else follows from them.

    Args:
        frequencies: int [F, 2], pairs (l, m).
        epsilons: float [E].
        correct: int [E, F], images still classified correctly.
        clean_correct: int, images classified correctly without an attack.
        total: int, number of images.
    """

    frequencies: Array
    epsilons: Array
    correct: Array
    clean_correct: Array
    total: Array

    @property
    def clean_accuracy(self) -> Float[Array, ""]:
        """Accuracy without an attack."""
        return self.clean_correct / self.total

    @property
    def accuracy(self) -> Float[Array, "E F"]:
        """Accuracy under each attack."""
        return self.correct / self.total

    @property
    def worst_accuracy(self) -> Float[Array, "E"]:
        """Accuracy under the most harmful frequency of each epsilon."""
        return jnp.min(self.accuracy, axis=1)

    @property
    def worst_frequency(self) -> Int[Array, "E 2"]:
        """The most harmful frequency of each epsilon; the first of the grid among equals."""
        return self.frequencies[jnp.argmin(self.correct, axis=1)]

    @property
    def mean_accuracy(self) -> Float[Array, "E"]:
        """Accuracy averaged over the frequencies."""
        return jnp.mean(self.accuracy, axis=1)

    @property
    def average_robust_accuracy(self) -> Float[Array, ""]:
        """Mean of ``worst_accuracy`` over the epsilons."""
        return jnp.mean(self.worst_accuracy)

    @staticmethod
    def concatenate(parts: Iterable["FourierSweep"]) -> "FourierSweep":
        """Join sweeps of the same network and images, one after another along the frequencies.

        Args:
            parts: at least one, as :func:`fourier_sweep_parts` yields them. Not while they are being traced.

        Returns:
            One sweep of all their frequencies.

        Raises:
            ValueError: if there is none, or epsilons, clean count or total differ: they are not of one sweep.

        Example:
            >>> import dataclasses, jax.numpy as jnp
            >>> clean, total = jnp.int32(8), jnp.int32(9)
            >>> first = FourierSweep(jnp.array([[0, 0]]), jnp.array([0.1]), jnp.array([[7]]), clean, total)
            >>> second = dataclasses.replace(first, frequencies=jnp.array([[0, 1]]), correct=jnp.array([[3]]))
            >>> FourierSweep.concatenate([first, second]).correct.tolist()
            [[7, 3]]
        """
        found = list(parts)
        if not found:
            raise ValueError("parts must be at least one sweep, got none")
        for name in ("epsilons", "clean_correct", "total"):
            for part in found:
                first, other = np.asarray(getattr(found[0], name)), np.asarray(getattr(part, name))
                if not np.array_equal(first, other):
                    raise ValueError(f"parts must agree in {name}, got {first.tolist()} and {other.tolist()}")

        def joined(name: str, axis: int) -> Array:
            # On the host: parts may lie on different devices, and no program has to be compiled for their shapes.
            return jnp.asarray(np.concatenate([np.asarray(getattr(part, name)) for part in found], axis))

        return dataclasses.replace(found[0], frequencies=joined("frequencies", 0), correct=joined("correct", 1))
