"""Every attack once, in order, and next to none for nothing."""

import itertools

import pytest

from absum_jax._attack_plan import images_per_batch, plan_parts, plan_steps

CASES = list(itertools.product([2, 5, 13, 65, 2057], [1, 2, 8, 64], [1, 3, 8], [1, 4, 20]))


def attacks_of(part, steps):
    return steps.num_devices * (part.num_steps * steps.attacks_per_step + part.num_last_steps * steps.last_size)


@pytest.mark.parametrize("num_devices", [8, 64])
@pytest.mark.parametrize("attacks_per_step", [1, 8])
def test_the_full_grid_at_four_epsilons_costs_at_most_5_percent_more_than_it_must(num_devices, attacks_per_step):
    needed = 1 + 514 * 4
    steps, parts = plan_parts(plan_steps(needed, num_devices, attacks_per_step), attacks_per_frequency=4)
    assert needed <= sum(attacks_of(part, steps) for part in parts) <= 1.05 * needed


def test_padding_is_5_percent_or_less_than_an_attack_for_each_device():
    for num_attacks, num_devices, attacks_per_step, _ in CASES:
        steps = plan_steps(num_attacks, num_devices, attacks_per_step)
        padding = steps.num_devices * steps.num_slots - num_attacks
        assert 0 <= padding <= max(0.05 * num_attacks, num_devices - 1)
        assert 0 <= steps.last_size < attacks_per_step == steps.attacks_per_step


def test_a_smaller_last_step_is_compiled_only_where_padding_would_cost_more():
    assert plan_steps(2057, 8, 8).last_size == 0
    assert plan_steps(2057, 64, 8)[2:] == (4, 1)
    assert plan_steps(65, 64, 8)[2:] == (0, 2)  # 128 attacks instead of 512


def test_parts_follow_each_other_and_end_with_the_sweep():
    for num_attacks, num_devices, attacks_per_step, num_epsilons in CASES:
        whole = plan_steps(num_attacks, num_devices, attacks_per_step)
        steps, parts = plan_parts(whole, num_epsilons)
        assert steps == whole._replace(num_steps=steps.num_steps)
        assert 1 <= len(parts) <= 32
        first = 0
        for part in parts:
            assert part.first == first < num_attacks
            assert part.num_steps <= steps.num_steps
            first += attacks_of(part, steps)
        assert first == num_devices * whole.num_slots >= num_attacks
        for part in parts[:-1]:
            assert attacks_of(part, steps) == steps.num_steps * num_devices * attacks_per_step


def test_each_part_completes_a_frequency():
    for num_frequencies, num_devices, attacks_per_step, num_epsilons in CASES:
        num_attacks = 1 + num_frequencies * num_epsilons
        _, parts = plan_parts(plan_steps(num_attacks, num_devices, attacks_per_step), num_epsilons)
        ends = [*(part.first for part in parts[1:]), num_attacks]
        complete = [(end - 1) // num_epsilons for end in ends]
        assert all(after > before for before, after in itertools.pairwise([0, *complete]))
        assert complete[-1] == num_frequencies


def test_a_long_sweep_has_many_parts():
    _, parts = plan_parts(plan_steps(2057, 1, 1), attacks_per_frequency=4)
    assert len(parts) > 25


def test_batches_are_the_fewest_and_equal():
    for num_images, batch_size in itertools.product([1, 22, 23, 24, 300], [1, 4, 23, 256]):
        size = images_per_batch(num_images, batch_size)
        num_batches = -(-num_images // batch_size)
        assert size <= batch_size
        assert (num_batches - 1) * size < num_images <= num_batches * size
