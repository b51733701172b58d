"""Signals at random moments of ``train``, in either phase, which ends with the same bits."""

import time

import pytest

from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.run import open_run
from tests.command_line import interrupted
from tests.sigsoftmax.small import TRAIN, assert_same_training

LONGER = [*TRAIN, "--epochs", "8", "--finetune-epochs", "8"]
pytestmark = pytest.mark.usefixtures("corpus")


def test_training_that_was_stopped_at_random_moments_ends_with_the_same_bits(tmp_path, capsys):
    main(LONGER)  # compiles
    start = time.monotonic()
    main([*LONGER, "--force"])
    seconds = time.monotonic() - start
    assert interrupted(main, [*LONGER, "--out", "stopped"], capsys, seconds=seconds, seed=0)
    whole, stopped = (open_run(tmp_path / name, tmp_path / "corpus").load() for name in ("net", "stopped"))
    assert_same_training(stopped, whole)
