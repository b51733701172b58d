"""Several phases of each frequency in one sweep."""

import jax
import numpy as np
import pytest

from absum_jax import FourierSweep, fourier_sweep, fourier_sweep_parts, frequency_grid
from tests.absum_jax.sweep_problem import EPSILONS, SHAPE, clean_count, linear, problem, reference

PROBLEM = problem()
FREQUENCIES = np.asarray(frequency_grid(*SHAPE[:2], half=True))
PHASES = (0.0, np.pi / 4, 2.0, -1.2)


@pytest.fixture(scope="module")
def expected():
    """Counts [E, P, F], a loop for each phase."""
    return np.stack([reference(*PROBLEM, EPSILONS, FREQUENCIES, phase=phase) for phase in PHASES], axis=1)


def test_counts_of_each_phase_equal_a_loop(expected):
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, phase=PHASES)
    np.testing.assert_array_equal(sweep.correct, expected)
    np.testing.assert_array_equal(sweep.phases, np.float32(PHASES))
    assert len(np.unique(expected[2], axis=0)) == 4  # the problem is one where phases differ
    assert int(sweep.clean_correct) == clean_count(*PROBLEM)


def test_one_phase_in_a_list_keeps_its_axis(expected):
    sweep = fourier_sweep(linear, *PROBLEM, EPSILONS, phase=PHASES[2:3])
    np.testing.assert_array_equal(sweep.correct, expected[:, 2:3])
    alone = fourier_sweep(linear, *PROBLEM, EPSILONS, phase=PHASES[2])
    np.testing.assert_array_equal(alone.correct, expected[:, 2])
    np.testing.assert_array_equal(alone.worst_accuracy, sweep.worst_accuracy)
    np.testing.assert_array_equal(alone.worst_frequency, sweep.worst_frequency)


@pytest.mark.devices(8)
@pytest.mark.parametrize(("num_devices", "attacks_per_step"), [(None, 5), (8, 2)])
def test_parts_are_of_whole_frequencies_in_all_phases(num_devices, attacks_per_step, expected):
    options = {"phase": PHASES, "attacks_per_step": attacks_per_step, "batch_size": 9}
    devices = num_devices and jax.devices()[:num_devices]
    parts = list(fourier_sweep_parts(linear, *PROBLEM, EPSILONS, devices=devices, **options))
    assert 5 < len(parts) <= 32
    for part in parts:
        assert part.correct.shape == (3, 4, len(part.frequencies))
        assert len(part.frequencies)
    joined = FourierSweep.concatenate(parts)
    np.testing.assert_array_equal(joined.correct, expected)
    np.testing.assert_array_equal(joined.frequencies, FREQUENCIES)


def test_the_whole_sweep_may_be_jitted_with_traced_phases(expected):
    jitted = jax.jit(lambda phases: fourier_sweep(linear, *PROBLEM, EPSILONS, phase=phases))
    sweep = jitted(np.float32(PHASES))
    np.testing.assert_array_equal(sweep.correct, expected)
    frequency, phase = np.unravel_index(expected[2].T.argmin(), expected[2].T.shape)
    worst = sweep.worst_frequency[2].tolist(), float(sweep.worst_phase[2])
    assert expected[2].min() == int(sweep.worst_correct[2])
    at_worst = reference(*PROBLEM, EPSILONS[2:], [worst[0]], phase=worst[1])
    assert at_worst == expected[2, phase, frequency]
