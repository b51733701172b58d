"""The model in torch is that of the recipe, and learns."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import language_model_torch
from benchmarks.language_model_torch import torch_parameters, torch_step
from experiments.sigsoftmax.models import num_parameters
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import build_model
from sigsoftmax_jax import cross_entropy_with_integer_labels, sigsoftmax_score, softmax_score

torch = pytest.importorskip("torch")
VOCABULARY = 50
RECIPE = dataclasses.replace(RECIPES["small"], embedding_size=8, hidden_size=12, last_size=8, batch_size=4)


def test_it_has_as_many_parameters():
    leaves = torch_parameters(RECIPE, VOCABULARY).leaves()
    assert sum(x.numel() for x in leaves) == num_parameters(build_model(RECIPE, "sigsoftmax", VOCABULARY))


@pytest.mark.parametrize("score", [softmax_score, sigsoftmax_score])
def test_the_loss_is_that_of_the_score(score):
    recipe = dataclasses.replace(RECIPE, alpha=0.0, beta=0.0)
    params = torch_parameters(recipe, VOCABULARY)
    rng = np.random.default_rng(0)
    bias, words = rng.normal(size=VOCABULARY).astype(np.float32), rng.integers(0, VOCABULARY, (6, 4))
    with torch.no_grad():  # logits of the bias alone
        params.embedding.zero_()
        params.bias.copy_(torch.from_numpy(bias))
    state = [tuple(torch.zeros(1, 4, kernel.shape[1]) for _ in range(2)) for _, kernel, *_ in params.layers]
    name = score.__name__.removesuffix("_score")
    loss, _ = language_model_torch._loss(recipe, name, params, torch.from_numpy(words), state)
    logits, labels = jnp.broadcast_to(bias, (5, 4, VOCABULARY)), words[1:].astype(np.int32)
    expected = jnp.mean(cross_entropy_with_integer_labels(logits, labels, score=score))
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("score", ["softmax", "sigsoftmax"])
def test_the_loss_on_a_window_falls(score):
    # The rate is in proportion to the window: ten times that of the benchmark.
    step = torch_step(dataclasses.replace(RECIPE, bptt=1), score, VOCABULARY, 10)
    first = step()
    for _ in range(60):
        last = step()
    assert last < first - 0.1
