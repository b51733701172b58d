"""Signals at random moments of ``train``, in either phase, which ends with the same bits."""

import pytest

from experiments.sigsoftmax.__main__ import main
from tests.command_line import interrupted, shortest
from tests.same_files import differences
from tests.sigsoftmax.small import TRAIN

LONGER = [*TRAIN, "--epochs", "8", "--finetune-epochs", "8"]
pytestmark = pytest.mark.usefixtures("corpus")


def test_training_that_was_stopped_at_random_moments_ends_with_the_same_bits(tmp_path, capsys):
    main(LONGER)  # compiles
    seconds = shortest(lambda: main([*LONGER, "--force"]))
    assert interrupted(main, [*LONGER, "--out", "stopped"], capsys, seconds=seconds, seed=0)
    assert differences(tmp_path / "stopped", tmp_path / "net") == []
