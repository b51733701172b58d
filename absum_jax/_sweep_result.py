"""What a sweep found: counts, and the accuracies that follow from them."""

import dataclasses
import functools
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from absum_jax._argument_checks import concrete
from absum_jax._types import Values


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("frequencies", "epsilons", "correct", "clean_correct", "total", "phases"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class FourierSweep:
    """Counts of a sweep; everything else follows from them.

    "Worst" and "mean" are over all attacks of an epsilon: over the frequencies and, where there are several, over
    the phases. To reduce the phases alone, take ``accuracy.min(axis=1)``, for a heat map for example.

    Args:
        frequencies: int [F, 2], pairs (l, m).
        epsilons: float [E].
        correct: int [E, F], images still classified correctly; [E, P, F] for several phases.
        clean_correct: int, images classified correctly without an attack.
        total: int, number of images.
        phases: of the patterns, in radians: one number, or [P]. Or [F], one for each frequency, where
            :meth:`without` has left the frequencies in different phases.
    """

    frequencies: Array
    epsilons: Array
    correct: Array
    clean_correct: Array
    total: Array
    phases: ArrayLike = math.pi / 4

    @property
    def clean_accuracy(self) -> Float[Array, ""]:
        """Accuracy without an attack."""
        return self.clean_correct / self.total

    @property
    def accuracy(self) -> Float[Array, "E *P F"]:
        """Accuracy under each attack, in the layout of ``correct``."""
        return self.correct / self.total

    @property
    def worst_correct(self) -> Int[Array, "E"]:
        """Images that the most harmful attack of each epsilon leaves right, for :func:`accuracy_interval`."""
        return jnp.min(self._by_attack, axis=1)

    @property
    def worst_accuracy(self) -> Float[Array, "E"]:
        """Accuracy under the most harmful attack of each epsilon."""
        return self.worst_correct / self.total

    @property
    def worst_frequency(self) -> Int[Array, "E 2"]:
        """The most harmful frequency of each epsilon; among equals the first, phase by phase."""
        return self._frequency_of_attack[jnp.argmin(self._by_attack, axis=1)]

    @property
    def worst_phase(self) -> Float[Array, "E"]:
        """The phase in which ``worst_frequency`` is that harmful."""
        return self._phase_of_attack[jnp.argmin(self._by_attack, axis=1)]

    @property
    def mean_accuracy(self) -> Float[Array, "E"]:
        """Accuracy averaged over the attacks."""
        return jnp.mean(self._by_attack / self.total, axis=1)

    @property
    def average_robust_accuracy(self) -> Float[Array, ""]:
        """Mean of ``worst_accuracy`` over the epsilons."""
        return jnp.mean(self.worst_accuracy)

    @property
    def _by_attack(self) -> Int[Array, "E A"]:
        """The counts with phases and frequencies in one axis."""
        return jnp.reshape(self.correct, (len(self.epsilons), -1))

    @property
    def _frequency_of_attack(self) -> Int[Array, "A 2"]:
        return jnp.broadcast_to(self.frequencies, (*self.correct.shape[1:], 2)).reshape(-1, 2)

    @property
    def _phase_of_attack(self) -> Float[Array, "A"]:
        phases = jnp.asarray(self.phases, dtype=float)
        if self.correct.ndim == 3:
            phases = phases[:, None]  # [P, 1]
        return jnp.broadcast_to(phases, self.correct.shape[1:]).reshape(-1)

    def without(self, mask: Values) -> "FourierSweep":
        """The same counts for fewer attacks: "worst" and "mean" are then over those that are left.

        Args:
            mask: bool [F], True at the frequencies to leave out, in all phases; or, for several phases, [P, F],
                True at single attacks, as :func:`binary_frequencies` gives either. Its values must be known, as
                they decide shapes: make it outside ``jit``.

        Returns:
            The sweep without them. After a mask [P, F] the frequencies may be left in different phases, so the
            attacks become one list: ``correct`` [E, A], with a frequency [A, 2] and a phase [A] for each (a heat
            map, which has one value for a frequency, is made before).

        Raises:
            ValueError: if the mask is traced, is not of bools of these shapes, or leaves nothing.

        Example:
            >>> import jax.numpy as jnp
            >>> frequencies, correct = jnp.array([[0, 0], [0, 1]]), jnp.array([[[3, 7], [5, 6]]])
            >>> phases = jnp.array([0.0, 1.0])
            >>> sweep = FourierSweep(frequencies, jnp.array([0.1]), correct, jnp.int32(8), jnp.int32(9), phases)
            >>> kept = sweep.without([[True, False], [False, False]])
            >>> kept.correct.tolist(), kept.frequencies.tolist(), kept.phases.tolist()
            ([[7, 5, 6]], [[0, 1], [0, 0], [0, 1]], [0.0, 1.0, 1.0])
        """
        known = concrete(mask)
        if known is None:
            raise ValueError("mask must be known, got a traced one: make it outside jit")
        shapes = self.correct.shape[-1:], self.correct.shape[1:]
        if known.dtype != bool or known.shape not in shapes:
            allowed = " or ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(f"mask must be bools of shape {allowed}, got {known.dtype} {known.shape}")
        if known.all():
            raise ValueError("mask must leave an attack, got one that is True everywhere")
        kept = np.flatnonzero(~known)
        if known.ndim == 1:
            phases = jnp.asarray(self.phases)[kept] if self._has_phase_of_each else self.phases
            frequencies, correct = self.frequencies[kept], self.correct[..., kept]
        else:
            phases = self._phase_of_attack[kept]
            frequencies, correct = self._frequency_of_attack[kept], self._by_attack[:, kept]
        return dataclasses.replace(self, frequencies=frequencies, correct=correct, phases=phases)

    @property
    def _has_phase_of_each(self) -> bool:
        """Whether the phases belong to the frequencies one by one."""
        return self.correct.ndim == 2 and np.ndim(self.phases) == 1

    @staticmethod
    def concatenate(parts: Iterable["FourierSweep"]) -> "FourierSweep":
        """Join sweeps of the same network and images, one after another along the frequencies.

        Args:
            parts: at least one, as :func:`fourier_sweep_parts` yields them. Not while they are being traced.

        Returns:
            One sweep of all their frequencies.

        Raises:
            ValueError: if there is none, or epsilons, phases, clean count or total differ: they are not of one
                sweep.

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
        has_phase_of_each = all(part._has_phase_of_each for part in found)
        for name in ("epsilons", "clean_correct", "total", *(() if has_phase_of_each else ("phases",))):
            for part in found:
                first, other = np.asarray(getattr(found[0], name)), np.asarray(getattr(part, name))
                if not np.array_equal(first, other):
                    raise ValueError(f"parts must agree in {name}, got {first.tolist()} and {other.tolist()}")

        def joined(name: str, axis: int) -> Array:
            # On the host: parts may lie on different devices, and no program has to be compiled for their shapes.
            return jnp.asarray(np.concatenate([np.asarray(getattr(part, name)) for part in found], axis))

        phases = joined("phases", 0) if has_phase_of_each else found[0].phases
        return dataclasses.replace(
            found[0], frequencies=joined("frequencies", 0), correct=joined("correct", -1), phases=phases
        )
