"""What follows from the counts of a sweep, and how sweeps are joined."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import FourierSweep

COUNTS = np.array([[8, 4, 6], [5, 2, 2]], np.int32)
SWEEP = FourierSweep(
    frequencies=jnp.array([[0, 0], [0, 1], [1, 0]]),
    epsilons=jnp.array([0.1, 0.2]),
    correct=jnp.asarray(COUNTS),
    clean_correct=jnp.asarray(9),
    total=jnp.asarray(10),
)


def test_properties_follow_from_the_counts():
    np.testing.assert_allclose(SWEEP.accuracy, COUNTS / 10)
    np.testing.assert_allclose(SWEEP.worst_accuracy, [0.4, 0.2])
    np.testing.assert_array_equal(SWEEP.worst_frequency, [[0, 1], [0, 1]])  # the first among equals
    np.testing.assert_allclose(SWEEP.mean_accuracy, [0.6, 0.3])
    np.testing.assert_allclose(SWEEP.average_robust_accuracy, 0.3)
    np.testing.assert_allclose(SWEEP.clean_accuracy, 0.9)


def cut(start, stop):
    frequencies, correct = np.asarray(SWEEP.frequencies), np.asarray(SWEEP.correct)
    return dataclasses.replace(
        SWEEP, frequencies=jnp.asarray(frequencies[start:stop]), correct=jnp.asarray(correct[:, start:stop])
    )


@pytest.mark.parametrize("cuts", [[(0, 3)], [(0, 1), (1, 3)], [(0, 1), (1, 2), (2, 3)]])
def test_parts_are_joined_in_their_order(cuts):
    joined = FourierSweep.concatenate(cut(*each) for each in cuts)
    for ours, expected in zip(jax.tree.leaves(joined), jax.tree.leaves(SWEEP), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts must be at least one sweep, got none"),
        ([SWEEP, dataclasses.replace(SWEEP, epsilons=jnp.array([0.1, 0.3]))], "parts must agree in epsilons, got"),
        ([SWEEP, dataclasses.replace(SWEEP, epsilons=jnp.array([0.1]))], "parts must agree in epsilons, got"),
        (
            [SWEEP, dataclasses.replace(SWEEP, clean_correct=jnp.asarray(8))],
            "parts must agree in clean_correct, got 9 and 8",
        ),
        ([SWEEP, dataclasses.replace(SWEEP, total=jnp.asarray(11))], "parts must agree in total, got 10 and 11"),
    ],
)
def test_what_is_not_of_one_sweep_is_not_joined(parts, message):
    with pytest.raises(ValueError, match=message):
        FourierSweep.concatenate(parts)
