"""The AWD-LSTM in torch, with the dropouts of the original code, as what a training step is measured against.

Weight drop of the recurrent kernels, locked dropout between the layers, dropout of whole words of the embedding, a
tied decoder with the loss on its logits, AR and TAR, clipping, and the recipe's optimiser with its rate in
proportion to the window: salesforce/awd-lstm-lm, whose weight drop is by torch's own LSTM here. No time step is
padding.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.sigsoftmax.recipes import Recipe

Array = Any  # of torch


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Embedding [V, d], bias [V], and of each layer the kernels [4 H, in], [4 H, H] and two biases [4 H]."""

    embedding: Array
    bias: Array
    layers: list[list[Array]]

    def leaves(self) -> list[Array]:
        """All of them."""
        return [self.embedding, self.bias, *(x for layer in self.layers for x in layer)]


def torch_step(recipe: Recipe, score: str, vocabulary: int, size: int) -> Callable[[], float]:
    """A function that goes one step further in training, on a window of ``size`` tokens, and gives the loss.

    Args:
        recipe: of one expert.
        score: softmax or sigsoftmax.
        vocabulary: how many words.
        size: tokens of each row.
    """
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    words = torch.from_numpy(rng.integers(0, vocabulary, (size + 1, recipe.batch_size)))  # [T + 1, b]
    params = torch_parameters(recipe, vocabulary)
    leaves = params.leaves()
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[recipe.optimizer]
    optimizer = make(leaves, lr=1e-3 * size / recipe.bptt, weight_decay=recipe.weight_decay)
    state = [
        tuple(torch.zeros(1, recipe.batch_size, kernel.shape[1]) for _ in range(2))
        for _, kernel, *_ in params.layers
    ]

    def step() -> float:
        nonlocal state
        optimizer.zero_grad()
        loss, state = _loss(recipe, score, params, words, state)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, recipe.clip)
        optimizer.step()
        return loss.item()

    return step


def torch_parameters(recipe: Recipe, vocabulary: int) -> Parameters:
    """Parameters as torch and the original code draw them."""
    torch: Any = importlib.import_module("torch")

    def uniform(*shape: int, limit: float) -> Array:
        return torch.empty(*shape).uniform_(-limit, limit).requires_grad_()

    sizes = [*(recipe.hidden_size,) * (recipe.num_layers - 1), recipe.last_size]
    layers = []
    for before, units in zip([recipe.embedding_size, *sizes], sizes, strict=False):
        shapes = (4 * units, before), (4 * units, units), (4 * units,), (4 * units,)
        layers.append([uniform(*shape, limit=units**-0.5) for shape in shapes])
    bias = torch.zeros(vocabulary).requires_grad_()
    return Parameters(uniform(vocabulary, recipe.embedding_size, limit=0.1), bias, layers)


def _loss(recipe: Recipe, score: str, params: Parameters, words: Array, state: Any) -> tuple[Array, Any]:
    """Loss of a window [T + 1, b] with its penalties, and the state after it."""
    torch: Any = importlib.import_module("torch")
    rates, functional = recipe.dropouts, torch.nn.functional
    embedding = params.embedding
    kept = embedding.new_empty((len(embedding), 1)).bernoulli_(1 - rates.embedding) / (1 - rates.embedding)
    inputs = _locked(functional.embedding(words[:-1], kept * embedding), rates.input)  # [T, b, d]
    after = []
    for i, (layer, before) in enumerate(zip(params.layers, state, strict=True)):
        kernel, recurrent, *biases = layer
        weights = [kernel, functional.dropout(recurrent, rates.weight), *biases]
        raw, *new = torch.lstm(inputs, before, weights, True, 1, 0.0, True, False, False)
        after.append(tuple(x.detach() for x in new))
        last = i == recipe.num_layers - 1
        inputs = _locked(raw, rates.output if last else rates.hidden)
    logits = functional.linear(inputs.flatten(0, 1), embedding, params.bias)
    scores = logits + functional.logsigmoid(logits) if score == "sigsoftmax" else logits
    loss = functional.cross_entropy(scores, words[1:].flatten())
    loss = loss + recipe.alpha * inputs.pow(2).mean() + recipe.beta * (raw[1:] - raw[:-1]).pow(2).mean()
    return loss, after


def _locked(inputs: Array, rate: float) -> Array:
    """Dropout [T, b, d] by one mask for all time steps."""
    return inputs * inputs.new_empty((1, *inputs.shape[1:])).bernoulli_(1 - rate) / (1 - rate)
