"""Training steps of the language model against the time of the matrix products of their tokens alone.

The step is that of the experiment, by its own recipe: forward with the sigsoftmax score, backward, with every
kind of dropout, AR and TAR; clipping by the global norm, weight decay and the optimiser's update; the carried
state; drawing the dropout masks. The windows are drawn and padded as in training: a step is timed at each size
that occurs among the first ``WINDOWS`` of an epoch, and counts as often as it does. What is padding is not useful:
the products are timed at the same sizes, and count by the share of the positions that are tokens.

The products of a size have the shapes of its step and depend on each other in the same order: for every layer
the input projection of the whole window and, in a scan, T recurrent products; with a mixture, those of its latent
states and weights; the blocks of the loss, one product forward and three backward; then backward for every layer,
in a scan, T recurrent products, and, over the whole window, the gradients of the recurrent kernel, of the input
kernel and of the input. Nothing else is computed. A state is handed on by slicing a product or by writing it into
a part of the next operand, and results are returned, so that the compiler removes none.
"""

import dataclasses
import importlib.util
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.language_model_torch import torch_step
from benchmarks.loss_products import loss_products
from benchmarks.measure import Row, paired_times
from benchmarks.table import NotAvailableError
from experiments.data.batches import Batch
from experiments.data.streams import window_batches
from experiments.sigsoftmax.models import LanguageModel
from experiments.sigsoftmax.recipes import RECIPES, Recipe
from experiments.sigsoftmax.run import build_model
from experiments.sigsoftmax.task import make_task
from experiments.training.devices import split
from experiments.training.step import compile_step, create_state

BARS = {"small": 1.45, "mos_small": 1.5, "awd_wikitext2": 1.3}
WINDOWS = 200
VOCABULARIES = {"embedded": 4_403, "wikitext2": 33_278}
PAIRS = {"small": 15, "mos_small": 9, "awd_wikitext2": 7}
TINY: dict[str, Any] = {
    "embedding_size": 4,
    "hidden_size": 4,
    "last_size": 4,
    "num_layers": 1,
    "batch_size": 2,
    "bptt": 3,
}


def lm_step(tiny: bool = False) -> Iterator[Row]:
    """Training steps of the language model against the matrix products of their tokens alone: time."""
    for name, pairs in (("mos_small", 2),) if tiny else PAIRS.items():
        recipe = _recipe(name, tiny)
        model = build_model(recipe, "sigsoftmax", 600 if tiny else VOCABULARIES[recipe.data])
        windows = _windows(recipe, model.head.vocab_size)
        spent = needed = 0.0
        for size, (batch, count, tokens) in windows.items():
            # A size that few windows have decides little.
            some = max(2, round(pairs * count / WINDOWS))
            step, products_alone = _training(model, recipe, batch), _products(model, recipe.batch_size, size)
            times = paired_times(step, products_alone, pairs=some)
            products = statistics.median(times.second)
            spent += count * times.ratio * products
            needed += tokens / (recipe.batch_size * size) * products
        useful = sum(tokens for _, _, tokens in windows.values())
        row = f"lm step / products of its tokens, {name}, {recipe.batch_size} x {recipe.bptt}"
        sizes = ", ".join(map(str, windows))
        yield Row(row, spent / needed, BARS[name], details=f"{useful / spent:.0f} tokens/s, windows of {sizes}")


def lm_torch(tiny: bool = False) -> Iterator[Row]:
    """Useful tokens a second of training steps of the AWD-LSTM against those of torch on the same windows."""
    if importlib.util.find_spec("torch") is None:
        raise NotAvailableError("python3 -m pip install torch")
    runs = (("small", 2),) if tiny else (("small", 15), ("awd_wikitext2", 7))
    for (name, pairs), score in itertools.product(runs, ("softmax", "sigsoftmax")):
        recipe = _recipe(name, tiny)
        useful, ours, theirs = _against_torch(recipe, score, 600 if tiny else VOCABULARIES[recipe.data], pairs)
        details = f"{useful / ours:.0f} against {useful / theirs:.0f} tokens/s"
        row = f"lm step / torch, {name}, {score}, useful tokens a second"
        yield Row(row, theirs / ours, 1.1, higher_is_better=True, details=details)


def _against_torch(recipe: Recipe, score: str, vocabulary: int, pairs: int) -> tuple[int, float, float]:
    """Tokens of ``WINDOWS`` windows, and the seconds that their steps take here and in torch."""
    model = build_model(recipe, score, vocabulary)
    useful, ours, theirs = 0, 0.0, 0.0
    for batch, count, tokens in _windows(recipe, model.head.vocab_size).values():
        # Torch pads nothing: it is given the mean length of the windows that are padded to this size.
        length = round(tokens / count / recipe.batch_size)
        reference = torch_step(recipe, score, model.head.vocab_size, length)
        some = max(2, round(pairs * count / WINDOWS))
        times = paired_times(_training(model, recipe, batch), reference, pairs=some, pause=0.3)
        seconds = count * statistics.median(times.second)
        useful, ours, theirs = useful + tokens, ours + times.ratio * seconds, theirs + seconds
    return useful, ours, theirs


def _windows(recipe: Recipe, vocabulary: int) -> dict[int, tuple[Batch, int, int]]:
    """By size: a window of an epoch that has it, how many of ``WINDOWS`` do, and the tokens in all of those."""
    lengths, length = recipe.window_lengths(), WINDOWS * (recipe.bptt + 1)
    tokens = np.random.default_rng(0).integers(0, vocabulary, recipe.batch_size * length, dtype=np.int32)
    sizes = lengths.padded_sizes(recipe.window_sizes)
    batches = window_batches(tokens, recipe.batch_size, lengths, sizes=sizes, seed=0, epoch=0)
    found: dict[int, tuple[Batch, int, int]] = {}
    for batch in itertools.islice(batches, WINDOWS):
        size, useful = batch["tokens"].shape[1], int(batch["where"].sum())
        _, count, before = found.get(size, (batch, 0, 0))
        found[size] = batch, count + 1, before + useful
    return dict(sorted(found.items()))


def _recipe(name: str, tiny: bool) -> Recipe:
    recipe = RECIPES[name]
    if name == "awd_wikitext2" and jax.default_backend() == "cpu":
        # A quarter of the recipe's own 80 keeps a pair of steps below half a minute on 2 cores.
        recipe = dataclasses.replace(recipe, batch_size=20)
    return dataclasses.replace(recipe, **TINY) if tiny else recipe


def _training(model: LanguageModel, recipe: Recipe, batch: Batch) -> Callable[[], Any]:
    """A function that goes one step further in training on this window each time it is called."""
    devices = jax.devices()[:1]
    task = make_task(model, recipe, 1e-3)
    state = create_state(task, 0, devices)
    step = compile_step(task, devices=devices)
    on_device = split(batch | {"reset": np.zeros_like(batch["reset"])}, devices)

    def once() -> Any:
        nonlocal state
        state, metrics = step(state, on_device)
        return state, metrics

    return once


def _products(model: LanguageModel, rows: int, size: int) -> Callable[[], Any]:
    """The matrix products of a training step, on matrices that neither grow nor shrink what they multiply."""
    tokens = jnp.zeros((rows, size), jnp.int32)
    arguments = tokens, tokens > 0, model.initial_carry(rows)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)["params"]
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes)) + 1))
    params = jax.tree.map(lambda x: x.shape[0] ** -0.5 * jax.random.normal(next(keys), x.shape), shapes)
    inputs = jax.random.normal(next(keys), (size, rows, model.head.embedding_size))
    run = jax.jit(lambda params, inputs: _all_products(model, params, inputs))
    return lambda: run(params, inputs)


def _all_products(model: LanguageModel, params: Any, inputs: Array) -> Any:
    layers = [params[f"layers_{i}"] for i in range(model.body.num_layers)]
    saved, results = [], []
    for layer in layers:
        projected, products, outputs = _layer_forward(inputs, layer)
        saved.append((inputs, products, outputs))
        results.append(projected)
        inputs = outputs
    flat = inputs.reshape(-1, model.head.input_size)
    if model.head.num_experts > 1:
        latent, weights = flat @ params["latent"]["kernel"], flat @ params["mixture"]["kernel"]
        logits, dlatent, dembedding = loss_products(
            latent.reshape(-1, model.head.embedding_size), params["embedding"]
        )
        dlatent = dlatent.reshape(latent.shape)
        dflat = dlatent @ params["latent"]["kernel"].T
        results += [flat.T @ dlatent, flat.T @ weights, weights @ params["mixture"]["kernel"].T]
    else:
        logits, dflat, dembedding = loss_products(flat, params["embedding"])
    results += [logits, dembedding]
    doutputs = dflat.reshape(inputs.shape)
    for layer, forward in zip(reversed(layers), reversed(saved), strict=True):
        doutputs, gradients = _layer_backward(doutputs, layer, *forward)
        results.append(gradients)
    return results, doutputs


def _layer_forward(inputs: Array, layer: Any) -> tuple[Array, Array, Array]:
    """Input projection, and T recurrent products in a scan; a slice of each is the next state."""
    kernel = layer["recurrent_kernel"]

    def step(h: Array, _: None) -> tuple[Array, Array]:
        # The barrier stops the compiler from multiplying only the columns that are handed on.
        product = jax.lax.optimization_barrier(h @ kernel)
        return product[:, : len(kernel)], product

    projected = inputs @ layer["input_kernel"]
    _, products = jax.lax.scan(step, projected[0, :, : len(kernel)], length=len(inputs))
    return projected, products, products[..., : len(kernel)]


def _layer_backward(doutputs: Array, layer: Any, inputs: Array, products: Array, outputs: Array) -> Any:
    """T recurrent products in a scan, then the gradients of both kernels and of the input."""
    kernel = layer["recurrent_kernel"]

    def step(dh: Array, product: Array) -> tuple[Array, Array]:
        dz = jnp.concatenate([dh, product[:, len(kernel) :]], 1)
        return dz @ kernel.T, dz

    dh, dz = jax.lax.scan(step, doutputs[-1], products, reverse=True)
    dkernel = jnp.einsum("tbh,tbz->hz", outputs, dz)
    dinput_kernel = jnp.einsum("tbi,tbz->iz", inputs, dz)
    return dz @ layer["input_kernel"].T, (dh, dkernel, dinput_kernel)
