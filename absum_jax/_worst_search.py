"""The search for the worst of many universal attacks, round by round."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from absum_jax._elimination import Rule, Standing, judge, next_lengths
from absum_jax._outcome_blocks import Problem, Program, outcomes
from absum_jax._types import ArrayOrNumpy

R = TypeVar("R")


class SearchState(NamedTuple):
    """Where a search is after some rounds: NumPy arrays, which ``np.savez(path, **state._asdict())`` stores.

    E searches among A attacks each, on N images; it takes E A N bytes.

    Args:
        order: int [N], the order in which all attacks meet the images.
        correct: bool [E, A, N], which images stay correct, in that order; False where it is not known yet.
        evaluated: int [E, A], how many of the first images it is known of.
        leaders: int [E], the attack of each search that looks worst; -1 before the first round.
        out: bool [E, A], the attacks that cannot be worse than the leader.
        survivors: int [E, rounds + 1], how many attacks were not out, at the start and after each round.
        rule: float [2], the tolerance as a number of images, and the confidence, 1 where it is certainty.
    """

    order: np.ndarray
    correct: np.ndarray
    evaluated: np.ndarray
    leaders: np.ndarray
    out: np.ndarray
    survivors: np.ndarray
    rule: np.ndarray


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("index", "correct", "total", "forward_images", "survivors"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class WorstPerturbation:
    """The perturbation that leaves the fewest images correct.

    Args:
        index: int, its number.
        correct: int, images that stay correct under it: of all images, and exact.
        total: int, number of images.
        forward_images: NumPy int64, images that went through the network, those for the exact count included.
            All perturbations on all images would be ``survivors[0] * total``.
        survivors: int [rounds + 1], perturbations that were not out yet, at the start and after each round.
    """

    index: Array
    correct: Array
    total: Array
    forward_images: ArrayOrNumpy
    survivors: Array

    @property
    def accuracy(self) -> Float[Array, "..."]:
        """Accuracy under it."""
        return self.correct / self.total

    @property
    def forward_share(self) -> Float[Array, "..."]:
        """``forward_images`` as a share of what evaluating everything takes."""
        return jnp.asarray(
            self.forward_images / np.asarray(self.survivors)[..., 0] / np.asarray(self.total), float
        )


@dataclasses.dataclass(frozen=True)
class WorstSearch(Generic[R]):
    """A search whose arguments were checked, in rounds: each takes a state and gives the next.

    Made by :func:`worst_frequency_search` and :func:`worst_perturbation_search`, which show how it is used.

    Args:
        problem, program: what is attacked, and what is compiled in.
        order: int [N], the order of the images.
        num_searches: E, searches that share it, each among its own attacks.
        num_attacks: A, attacks of each search.
        rule: when an attack is out.
        to_result: what is made of what was found.
    """

    problem: Problem
    program: Program
    order: np.ndarray
    num_searches: int
    num_attacks: int
    rule: Rule
    to_result: Callable[[WorstPerturbation], R]

    def start(self) -> SearchState:
        """The state before the first round."""
        shape = (self.num_searches, self.num_attacks)
        return SearchState(
            order=self.order,
            correct=np.zeros((*shape, len(self.order)), bool),
            evaluated=np.zeros(shape, np.int32),
            leaders=np.full(shape[0], -1, np.int32),
            out=np.zeros(shape, bool),
            survivors=np.full((shape[0], 1), shape[1], np.int32),
            rule=self._rule_array(),
        )

    def is_finished(self, state: SearchState) -> bool:
        """Whether nothing is left to be evaluated."""
        return not np.any(self._next_lengths(self._checked(state)) > state.evaluated)

    def advance(self, state: SearchState) -> SearchState:
        """One round: evaluate every attack that is not out on the next batches, and judge anew.

        Args:
            state: by :meth:`start`, by this method, or read from a file. It is not changed.

        Returns:
            The state after the round; the same if the search is finished.

        Raises:
            ValueError: if the state is not of a search of this size, tolerance, confidence and order of images.
        """
        lengths = self._next_lengths(self._checked(state))  # [E, A]
        if not np.any(lengths > state.evaluated):
            return state
        correct = self._evaluate(state, lengths)
        standings = [
            judge(correct[e], lengths[e], Standing(int(state.leaders[e]), state.out[e]), self.rule)
            for e in range(self.num_searches)
        ]
        out = np.stack([standing.out for standing in standings])
        leaders = np.array([standing.leader for standing in standings], np.int32)
        survivors = np.append(state.survivors, np.count_nonzero(~out, axis=1)[:, None], axis=1).astype(np.int32)
        return SearchState(state.order, correct, lengths, leaders, out, survivors, state.rule)

    def result(self, state: SearchState) -> R:
        """What was found, with a leading axis [E] in every field but ``total``.

        Raises:
            ValueError: if the search is not finished.
        """
        if not self.is_finished(state):
            raise ValueError(f"state must be that of a finished search, got {state.survivors[:, -1]} survivors")
        counts = state.correct[np.arange(self.num_searches), state.leaders].sum(axis=-1)
        worst = WorstPerturbation(
            index=jnp.asarray(state.leaders),
            correct=jnp.asarray(counts.astype(np.int32)),
            total=jnp.asarray(np.int32(len(state.order))),
            forward_images=state.evaluated.sum(axis=1, dtype=np.int64),
            survivors=jnp.asarray(state.survivors),
        )
        return self.to_result(worst)

    def run(self) -> R:
        """All rounds."""
        state = self.start()
        while not self.is_finished(state):
            state = self.advance(state)
        return self.result(state)

    def _next_lengths(self, state: SearchState) -> np.ndarray:
        """Int [E, A], as ``next_lengths`` of each search."""
        return np.stack([
            next_lengths(
                state.correct[e], state.evaluated[e], Standing(int(state.leaders[e]), state.out[e]),
                self.rule, self.program.batch_size,
            )
            for e in range(self.num_searches)
        ]).astype(np.int32)  # fmt: skip

    def _evaluate(self, state: SearchState, lengths: np.ndarray) -> np.ndarray:
        """The outcomes [E, A, N] with those added up to the lengths [E, A]."""
        size = self.program.batch_size
        batches = -(-len(self.order) // size)
        # Of the batches, [E, A]. One that is known in part, as after another batch size, is evaluated again.
        first, last = state.evaluated // size, -(-lengths // size)
        last = np.where(lengths > state.evaluated, last, first)  # nothing of those that do not go on
        numbers = np.arange(batches)
        is_new = (numbers >= first[..., None]) & (numbers < last[..., None])  # [E, A, B]
        # All attacks on one batch, then on the next: a batch stays in the cache.
        batch, search, attack = np.nonzero(np.moveaxis(is_new, -1, 0))
        pairs = np.stack([search * self.num_attacks + attack, batch], axis=-1)
        found = outcomes(self.problem, state.order, pairs, self.program)  # [M, n]
        correct = np.zeros((*lengths.shape, batches, size), bool)
        correct.reshape(*lengths.shape, -1)[..., : len(self.order)] = state.correct
        correct[search, attack, batch] = found
        return correct.reshape(*lengths.shape, -1)[..., : len(self.order)]

    def _rule_array(self) -> np.ndarray:
        return np.array([self.rule.allowed, 1.0 if self.rule.confidence is None else self.rule.confidence])

    def _checked(self, state: SearchState) -> SearchState:
        shape, total = (self.num_searches, self.num_attacks), len(self.order)
        found = (np.shape(state.correct), np.shape(state.evaluated), np.shape(state.order))
        expected = ((*shape, total), shape, (total,))
        if found != expected:
            raise ValueError(
                f"state must be of {shape[0]} searches among {shape[1]} attacks on {total} images, got arrays "
                f"correct, evaluated, order of shapes {found} in place of {expected}"
            )
        # Attacks that are out by one rule need not be by another.
        if not np.array_equal(state.rule, self._rule_array()):
            raise ValueError(
                "state must be of the same tolerance (in images) and confidence (1: certainty), "
                f"{self._rule_array().tolist()}, got {np.asarray(state.rule).tolist()}"
            )
        if not np.array_equal(state.order, self.order):
            raise ValueError("state must be of the same key, got images in another order")
        return state
