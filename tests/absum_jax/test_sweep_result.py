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


PHASES = dataclasses.replace(
    SWEEP,
    correct=jnp.array([[[8, 4, 6], [7, 9, 3]], [[5, 2, 2], [1, 6, 1]]]),
    phases=jnp.array([0.0, 0.5]),
)


def test_worst_and_mean_are_over_phases_and_frequencies():
    np.testing.assert_array_equal(PHASES.worst_correct, [3, 1])
    np.testing.assert_allclose(PHASES.worst_accuracy, [0.3, 0.1])
    np.testing.assert_array_equal(PHASES.worst_frequency, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(PHASES.worst_phase, [0.5, 0.5])
    np.testing.assert_allclose(PHASES.mean_accuracy, [37 / 60, 17 / 60])
    np.testing.assert_allclose(PHASES.average_robust_accuracy, 0.2)
    np.testing.assert_allclose(PHASES.accuracy, np.asarray(PHASES.correct) / 10)
    np.testing.assert_allclose(SWEEP.worst_phase, [np.pi / 4] * 2)


def test_frequencies_are_left_out_in_all_phases():
    for sweep in (SWEEP, PHASES):
        kept = sweep.without([False, True, False])
        np.testing.assert_array_equal(kept.frequencies, [[0, 0], [1, 0]])
        np.testing.assert_array_equal(kept.correct, np.asarray(sweep.correct)[..., [0, 2]])
        assert kept.phases is sweep.phases
    np.testing.assert_allclose(SWEEP.without([False, True, False]).worst_accuracy, [0.6, 0.2])


def test_single_attacks_are_left_out_of_worst_and_mean():
    mask = np.array([[True, True, False], [False, False, True]])
    kept = PHASES.without(mask)
    left = np.where(mask, np.nan, np.asarray(PHASES.accuracy))
    np.testing.assert_allclose(kept.worst_accuracy, np.nanmin(left, axis=(1, 2)))
    np.testing.assert_allclose(kept.mean_accuracy, np.nanmean(left, axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(kept.worst_frequency, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(kept.worst_phase, [0.0, 0.5])
    assert kept.correct.shape == (2, 3)
    # What is left may be reduced further, and joined with more of its kind.
    fewer = kept.without([True, False, False])
    np.testing.assert_array_equal(fewer.phases, [0.5, 0.5])
    np.testing.assert_array_equal(fewer.frequencies, [[0, 0], [0, 1]])
    joined = FourierSweep.concatenate([fewer, kept])
    np.testing.assert_array_equal(joined.phases, [0.5, 0.5, 0.0, 0.5, 0.5])
    assert joined.correct.shape == (2, 5)


def test_a_mask_that_is_known_may_be_used_under_jit():
    found = jax.jit(lambda sweep: sweep.without(np.array([True, False, False])).worst_accuracy)(PHASES)
    np.testing.assert_allclose(found, [0.3, 0.1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([True, False], r"mask must be bools of shape \(3,\) or \(2, 3\), got bool \(2,\)"),
        ([1, 0, 0], r"got int.* \(3,\)"),
        ([True] * 3, "mask must leave an attack"),
        ([[True] * 3] * 2, "mask must leave an attack"),
    ],
)
def test_a_bad_mask_is_named(mask, message):
    with pytest.raises(ValueError, match=message):
        PHASES.without(mask)


def test_a_traced_mask_is_refused():
    with pytest.raises(ValueError, match="mask must be known, got a traced one"):
        jax.jit(lambda mask: SWEEP.without(mask).worst_accuracy)(jnp.zeros(3, bool))


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
        ([SWEEP, dataclasses.replace(SWEEP, phases=0.5)], "parts must agree in phases, got 0.78.* and 0.5"),
    ],
)
def test_what_is_not_of_one_sweep_is_not_joined(parts, message):
    with pytest.raises(ValueError, match=message):
        FourierSweep.concatenate(parts)
