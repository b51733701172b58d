"""What a phase has kept: fewer epochs than are done, where the best is among them, and any of its checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.kept import epochs_done, kept, load, load_kept
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase
from tests.training import toy


def spoil(params, model_state, learning_rate, step):
    """After two epochs all gets worse."""
    return {"w": params["w"] + jnp.where(step >= 2 * toy.STEPS, 0.5, 0.0)}


TASK = toy.make_task(after_update=spoil)


def phase_of(num_epochs, **options):
    return Phase(TASK, toy.DATA, num_epochs, seed=1, keep_best=True, **options)


def outputs(directory):
    return Outputs(directory / "newest", directory / "best")


def run(directory, num_epochs, **options):
    return train(phase_of(num_epochs, **options), outputs(directory), devices=jax.devices()[:2])


def assert_same(found, wanted):
    for one, other in zip(*map(jax.tree.leaves, (found.state, wanted.state)), strict=True):
        np.testing.assert_array_equal(one, other)
    losses = [[(line["epoch"], line["train_loss"]) for line in each.lines] for each in (found, wanted)]
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four epochs, of which the second is the best."""
    directory = tmp_path_factory.mktemp("four")
    return directory, run(directory, 4)


def test_fewer_epochs_with_the_best_among_them_are_those_of_a_run_of_that_length(tmp_path, four):
    directory, whole = four
    assert int(whole.state.step) == 2 * toy.STEPS
    direct = run(tmp_path / "two", 2)
    for found in (run(directory, 2), load(phase_of(2), outputs(directory))):
        assert_same(found, direct)
    assert epochs_done(outputs(directory)).epoch == 4  # and can go on from there
    assert_same(run(directory, 4), whole)


def test_a_run_that_was_ended_early_can_be_made_longer(tmp_path, four):
    run(tmp_path, 3)
    run(tmp_path, 2)
    assert_same(run(tmp_path, 4), four[1])


def test_fewer_epochs_without_the_best_are_refused(four):
    message = (
        "has 4 epochs of training, more than the 1 asked for, and of them the best, 2, is kept; ask for at least"
    )
    with pytest.raises(ValueError, match=message):
        run(four[0], 1)


def test_every_checkpoint_is_found_and_gives_what_training_had_there(tmp_path, four):
    end, found = kept(phase_of(4), outputs(four[0]))
    assert [(each.position.epoch, each.step) for each in found] == [(2, 10), (3, 15), (4, 20)]
    assert (end.directory.name, end.step) == ("best", 10)
    assert_same(load_kept(phase_of(4), end), four[1])
    third = load_kept(phase_of(4), found[1])
    last = Phase(TASK, toy.DATA, 3, seed=1)  # the same without the best
    assert_same(third, train(last, outputs(tmp_path), devices=jax.devices()[:2]))
    # Those that were saved after more epochs than are asked for are left out.
    assert [each.step for each in kept(phase_of(3), outputs(four[0]))[1]] == [10, 15]


def test_what_is_not_there_or_damaged_is_left_out(tmp_path):
    assert kept(phase_of(1), outputs(tmp_path)) == (None, [])
    run(tmp_path, 1, checkpoint_every=2)
    end, found = kept(phase_of(1), outputs(tmp_path))
    assert [(each.position.epoch, each.position.step_in_epoch) for each in found] == [(0, 4), (1, 0)]
    (tmp_path / "newest" / "4" / "position" / "metadata").write_text("{}")
    assert [each.step for each in kept(phase_of(1), outputs(tmp_path))[1]] == [5]
    assert end.step == 5
