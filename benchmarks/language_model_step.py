"""A training step of the language model against the time of its matrix products alone.

The step is that of the experiment, by its own recipe: forward with the sigsoftmax score, backward, with every
kind of dropout, AR and TAR; clipping by the global norm, weight decay and the optimiser's update; the carried
state. All time steps are counted, none is padding; drawing the dropout masks is part of the step.

The products alone have the same shapes and depend on each other in the same order: for every layer
the input projection of the whole window and, in a scan, T recurrent products; with a mixture, those of its latent
states and weights; the blocks of the loss, one product forward and three backward; then backward for every layer,
in a scan, T recurrent products, and, over the whole window, the gradients of the recurrent kernel, of the input
kernel and of the input. Nothing else is computed. A state is handed on by slicing a product or by writing it into
a part of the next operand, and results are returned, so that the compiler removes none.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.loss_products import loss_products
from benchmarks.measure import Row, paired_times
from experiments.sigsoftmax.models import LanguageModel
from experiments.sigsoftmax.recipes import RECIPES, Recipe
from experiments.sigsoftmax.run import build_model
from experiments.sigsoftmax.task import make_task
from experiments.training.devices import split
from experiments.training.step import compile_step, create_state

BAR = 1.4
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
    """A training step of the language model against its matrix products alone: time."""
    for name, pairs in (("mos_small", 2),) if tiny else PAIRS.items():
        recipe = _recipe(name, tiny)
        model = build_model(recipe, "sigsoftmax", 600 if tiny else VOCABULARIES[recipe.data])
        times = paired_times(_training(model, recipe), _products(model, recipe), pairs=pairs)
        row = f"lm step / products, {name}, {recipe.batch_size} x {recipe.bptt}"
        yield Row(row, times.ratio, BAR, details=str(times))


def _recipe(name: str, tiny: bool) -> Recipe:
    recipe = RECIPES[name]
    if name == "awd_wikitext2" and jax.default_backend() == "cpu":
        # A quarter of the recipe's own 80 keeps a pair of steps below half a minute on 2 cores.
        recipe = dataclasses.replace(recipe, batch_size=20)
    return dataclasses.replace(recipe, **TINY) if tiny else recipe


def _training(model: LanguageModel, recipe: Recipe) -> Callable[[], Any]:
    """A function that goes one step further in training each time it is called."""
    devices, vocabulary = jax.devices()[:1], model.head.vocab_size
    task = make_task(model, recipe, 1e-3)
    state = create_state(task, 0, devices)
    step = compile_step(task, devices=devices)
    rng, shape = np.random.default_rng(0), (recipe.batch_size, recipe.bptt)
    batch = {
        "tokens": rng.integers(0, vocabulary, shape, dtype=np.int32),
        "labels": rng.integers(0, vocabulary, shape, dtype=np.int32),
        "where": np.ones(shape, bool),
        "length": np.full(shape[0], recipe.bptt, np.int32),
        "reset": np.zeros(shape[0], bool),
    }
    on_device = split(batch, devices)

    def once() -> Any:
        nonlocal state
        state, metrics = step(state, on_device)
        return state, metrics

    return once


def _products(model: LanguageModel, recipe: Recipe) -> Callable[[], Any]:
    """The matrix products of a training step, on matrices that neither grow nor shrink what they multiply."""
    tokens = jnp.zeros((recipe.batch_size, recipe.bptt), jnp.int32)
    arguments = tokens, tokens > 0, model.initial_carry(recipe.batch_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)["params"]
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes)) + 1))
    params = jax.tree.map(lambda x: x.shape[0] ** -0.5 * jax.random.normal(next(keys), x.shape), shapes)
    inputs = jax.random.normal(next(keys), (recipe.bptt, recipe.batch_size, model.head.embedding_size))
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
