"""A sweep in parts equals the sweep in one call, and costs no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import FourierSweep, fourier_sweep, fourier_sweep_parts, frequency_grid
from absum_jax._attack_loop import on_devices
from tests.absum_jax.sweep_problem import EPSILONS, SHAPE, clean_count, linear, problem, reference

PROBLEM = problem()
FREQUENCIES = np.asarray(frequency_grid(*SHAPE[:2]))  # 30: 91 attacks with three epsilons and the clean pass


def parts(*, predict_fn=linear, epsilons=EPSILONS, frequencies=FREQUENCIES, **options):
    return fourier_sweep_parts(predict_fn, *PROBLEM, epsilons, frequencies=frequencies, batch_size=9, **options)


def on(num_devices, *others):
    """A case that needs so many devices."""
    return pytest.param(num_devices, *others, marks=pytest.mark.devices(num_devices))


@pytest.mark.parametrize(("num_devices", "attacks_per_step"), [(None, 1), on(8, 1), on(2, 4)])
def test_joined_parts_equal_a_loop(num_devices, attacks_per_step):
    devices = num_devices and jax.devices()[:num_devices]
    found = list(parts(devices=devices, attacks_per_step=attacks_per_step))
    assert len(found) > 5
    assert all(len(part.frequencies) >= 1 and part.correct.shape == (3, len(part.frequencies)) for part in found)
    assert {int(part.clean_correct) for part in found} == {clean_count(*PROBLEM)}
    sweep = FourierSweep.concatenate(found)
    np.testing.assert_array_equal(sweep.frequencies, FREQUENCIES)
    np.testing.assert_array_equal(sweep.correct, reference(*PROBLEM, EPSILONS, FREQUENCIES))
    assert int(sweep.total) == 23


def test_joined_parts_are_what_one_call_gives():
    frequencies = FREQUENCIES[:7]
    whole = fourier_sweep(linear, *PROBLEM, EPSILONS, frequencies=frequencies)
    joined = FourierSweep.concatenate(fourier_sweep_parts(linear, *PROBLEM, EPSILONS, frequencies=frequencies))
    assert jax.tree.structure(joined) == jax.tree.structure(whole)
    for ours, expected in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


def test_a_sweep_is_resumed_with_the_frequencies_that_are_left():
    done = [part for part, _ in zip(parts(), range(4), strict=False)]
    left = FREQUENCIES[sum(len(part.frequencies) for part in done) :]
    assert 0 < len(left) < len(FREQUENCIES)
    resumed = FourierSweep.concatenate([*done, *parts(frequencies=left)])
    np.testing.assert_array_equal(resumed.frequencies, FREQUENCIES)
    np.testing.assert_array_equal(resumed.correct, reference(*PROBLEM, EPSILONS, FREQUENCIES))


@pytest.mark.parametrize(
    ("num_devices", "attacks_per_step", "passes"),
    # 91 attacks: in as many steps; 12 for each of 8 devices; 46 for each of 2, in five steps of 8 and a last of 6.
    [(1, 1, 91), on(8, 1, 96), on(2, 8, 92)],
)
def test_no_pass_of_the_network_is_made_for_nothing(num_devices, attacks_per_step, passes):
    counted = []

    def counting(params, images):
        jax.debug.callback(lambda _: counted.append(1), images[0, 0, 0, 0])
        return linear(params, images)

    devices = jax.devices()[:num_devices]
    for _ in parts(predict_fn=counting, devices=devices, attacks_per_step=attacks_per_step):
        pass
    jax.effects_barrier()
    assert len(counted) == passes * 3  # batches of 8 images


def test_nothing_is_compiled_or_sent_after_the_first_part(count_compilations):
    first, *others = (parts(devices=jax.devices()) for _ in range(2))
    next(first)
    with count_compilations() as compiled, jax.transfer_guard_host_to_device("disallow"):
        list(first)
    assert compiled.count == 0
    with count_compilations() as compiled:
        list(others[0])
        list(parts(devices=jax.devices(), epsilons=(0.05, 0.15, 0.2)))
    assert compiled.count == 0


@pytest.mark.devices(2)
def test_arrays_are_copied_to_each_device_once():
    devices = tuple(jax.devices())
    params, images = np.ones(3, np.float32), jax.device_put(np.ones((2, 3), np.float32), devices[1])
    copied = on_devices({"params": params, "images": images, "scale": 2.0}, devices)
    for name, array in copied.items():
        assert array.sharding.is_fully_replicated, name
        assert array.sharding.device_set == set(devices), name
    again = on_devices(copied, devices)
    for name, array in copied.items():
        for before, after in zip(array.addressable_shards, again[name].addressable_shards, strict=True):
            assert before.data.unsafe_buffer_pointer() == after.data.unsafe_buffer_pointer(), name


def test_each_part_is_computed_when_it_is_asked_for():
    calls = []

    def predict_fn(params, images):
        jax.debug.callback(lambda _: calls.append(1), images[0, 0, 0, 0])
        return linear(params, images)

    found = parts(predict_fn=predict_fn)
    assert not calls
    next(found)
    jax.effects_barrier()
    after_one = len(calls)
    next(found)
    jax.effects_barrier()
    assert 0 < after_one < len(calls) <= 2 * after_one


def test_bad_input_is_named_at_the_call():
    with pytest.raises(ValueError, match="epsilons must be finite and not negative"):
        parts(epsilons=[-0.1])


def test_traced_arguments_are_refused():
    def traced(epsilon):
        return [part.correct for part in fourier_sweep_parts(linear, *PROBLEM, epsilon)]

    with pytest.raises(ValueError, match="arguments must be known, got traced ones"):
        jax.jit(traced)(jnp.float32(0.1))
