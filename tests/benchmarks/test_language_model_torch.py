"""The model in torch is that of the recipe, and learns."""

import dataclasses

import pytest

from benchmarks.language_model_torch import torch_parameters, torch_step
from experiments.sigsoftmax.models import num_parameters
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import build_model

torch = pytest.importorskip("torch")
VOCABULARY = 50
RECIPE = dataclasses.replace(RECIPES["small"], embedding_size=8, hidden_size=12, last_size=8, batch_size=4)


def test_it_has_as_many_parameters():
    leaves = torch_parameters(RECIPE, VOCABULARY).leaves()
    assert sum(x.numel() for x in leaves) == num_parameters(build_model(RECIPE, "sigsoftmax", VOCABULARY))


def test_the_loss_on_a_window_falls():
    # The rate is in proportion to the window: ten times that of the benchmark.
    step = torch_step(dataclasses.replace(RECIPE, bptt=1), VOCABULARY, 10)
    first = step()
    for _ in range(60):
        last = step()
    assert last < first - 0.1
