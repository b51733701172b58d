"""Signals at random moments of ``train``, which ends with the same bits."""

import time

import jax
import numpy as np

from experiments.absum.__main__ import main
from experiments.absum.run import open_run
from tests.absum.settings import NETWORK
from tests.command_line import interrupted

TRAIN = [*NETWORK, "--epochs", "6"]


def test_training_that_was_stopped_at_random_moments_ends_with_the_same_bits(tmp_path, capsys):
    main(TRAIN)  # compiles
    start = time.monotonic()
    main([*TRAIN, "--force"])
    seconds = time.monotonic() - start
    assert interrupted(main, [*TRAIN, "--out", "stopped"], capsys, seconds=seconds, seed=0)
    whole, stopped = (open_run(tmp_path / name).load().phases["train"] for name in ("net", "stopped"))
    for found, wanted in zip(*(jax.tree.leaves(each.state) for each in (stopped, whole)), strict=True):
        np.testing.assert_array_equal(found, wanted)
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        assert [line[name] for line in stopped.lines] == [line[name] for line in whole.lines]
