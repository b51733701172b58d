"""Signals at random moments of ``train``, which ends with the same bits."""

from experiments.absum.__main__ import main
from tests.absum.settings import NETWORK
from tests.command_line import interrupted, shortest
from tests.same_files import differences

TRAIN = [*NETWORK, "--epochs", "6"]


def test_training_that_was_stopped_at_random_moments_ends_with_the_same_bits(tmp_path, capsys):
    main(TRAIN)  # compiles
    seconds = shortest(lambda: main([*TRAIN, "--force"]))
    assert interrupted(main, [*TRAIN, "--out", "stopped"], capsys, seconds=seconds, seed=0)
    assert differences(tmp_path / "stopped", tmp_path / "net") == []
