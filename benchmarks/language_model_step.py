"""A training step of the language model against the time of its matrix products alone.

The step: forward with the sigsoftmax score, backward, with every kind of dropout, AR and TAR; clipping by the
global norm, weight decay and SGD update. All time steps are counted, none is padding; drawing the dropout masks is
part of the step.

The products alone have the same shapes and depend on each other in the same order: for every layer
the input projection of the whole window and, in a scan, T recurrent products; with a mixture, those of its latent
states and weights; the blocks of the loss, one product forward and three backward; then backward for every layer,
in a scan, T recurrent products, and, over the whole window, the gradients of the recurrent kernel, of the input
kernel and of the input. Nothing else is computed. A state is handed on by slicing a product or by writing it into
a part of the next operand, and results are returned, so that the compiler removes none.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.measure import Row, paired_times
from experiments.sigsoftmax.activation_regularization import activation_regularization
from experiments.sigsoftmax.models import Dropouts, LanguageModel
from experiments.training.task import StepKeys
from sigsoftmax_jax.vocabulary import Pass

WINDOW = 70
BAR = 1.4
DROPOUTS = Dropouts(output=0.4, hidden=0.2, input=0.65, embedding=0.1, latent=0.29, weight=0.5)
SMALL_VOCAB, WIKITEXT2_VOCAB = 4_402, 33_278
# The recipe's batch of awd_wikitext2 is 80; a quarter of it keeps a pair of steps below half a minute on 2 cores.
AWD_BATCH = 20 if jax.default_backend() == "cpu" else 80


def lm_step() -> Iterator[Row]:
    """A training step of the language model against its matrix products alone: time."""
    small = LanguageModel(SMALL_VOCAB, 128, 256, 128, 2, dropouts=DROPOUTS)
    mixture = LanguageModel(SMALL_VOCAB, 128, 256, 256, 2, num_experts=5, dropouts=DROPOUTS)
    awd = LanguageModel(WIKITEXT2_VOCAB, 400, 1150, 400, 3, dropouts=DROPOUTS)
    cases = (("small", small, 20, 15), ("small mixture", mixture, 20, 9), ("awd_wikitext2", awd, AWD_BATCH, 7))
    for name, model, batch_size, pairs in cases:
        times = paired_times(_training(model, batch_size), _products(model, batch_size), pairs=pairs)
        row = f"lm step / products, {name}, {batch_size} x {WINDOW}"
        yield Row(row, times.ratio, BAR, details=str(times))


def _training(model: LanguageModel, batch_size: int) -> Callable[[], Any]:
    """A function that goes one step further in training each time it is called."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.25), optax.add_decayed_weights(1.2e-6), optax.sgd(1.0))
    shape = (batch_size, WINDOW)
    tokens, labels = (jax.random.randint(jax.random.key(i), shape, 0, model.vocab_size) for i in (0, 1))
    batch = tokens, labels, jnp.ones(shape, bool)
    carry = model.initial_carry(batch_size)
    params = jax.jit(model.init)(jax.random.key(2), tokens, batch[2], carry)["params"]

    def loss(params: Any, batch: tuple[Array, ...], carry: Any, keys: StepKeys) -> tuple[Array, Any]:
        result: Any = model.apply({"params": params}, *batch, carry, keys, method="token_losses")
        losses, output = result
        penalty = activation_regularization(output.dropped, output.raw, batch[2], alpha=2.0, beta=1.0)
        return jnp.sum(losses) / jnp.sum(batch[2]) + penalty, output.carry

    def step(params: Any, opt_state: Any, carry: Any, key: Array, batch: tuple[Array, ...]) -> Any:
        key, shared, base = jax.random.split(key, 3)
        keys = StepKeys(shared, jax.random.split(base, batch_size))
        grads, carry = jax.grad(loss, has_aux=True)(params, batch, carry, keys)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carry, key

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    state = params, optimizer.init(params), carry, jax.random.key(3)

    def once() -> Any:
        nonlocal state
        state = compiled(*state, batch)
        return state

    return once


def _products(model: LanguageModel, batch_size: int) -> Callable[[], Any]:
    """The matrix products of a training step, on matrices that neither grow nor shrink what they multiply."""
    tokens = jnp.zeros((batch_size, WINDOW), jnp.int32)
    arguments = tokens, tokens > 0, model.initial_carry(batch_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)["params"]
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes)) + 1))
    params = jax.tree.map(lambda x: x.shape[0] ** -0.5 * jax.random.normal(next(keys), x.shape), shapes)
    inputs = jax.random.normal(next(keys), (WINDOW, batch_size, model.embedding_size))
    run = jax.jit(lambda params, inputs: _all_products(model, params, inputs))
    return lambda: run(params, inputs)


def _all_products(model: LanguageModel, params: Any, inputs: Array) -> Any:
    layers = [params[f"layers_{i}"] for i in range(model.num_layers)]
    saved, results = [], []
    for layer in layers:
        projected, products, outputs = _layer_forward(inputs, layer)
        saved.append((inputs, products, outputs))
        results.append(projected)
        inputs = outputs
    flat = inputs.reshape(-1, model.last_size)
    if model.num_experts > 1:
        latent, weights = flat @ params["latent"]["kernel"], flat @ params["mixture"]["kernel"]
        logits, dlatent, dembedding = _loss_products(model, latent.reshape(-1, model.embedding_size), params)
        dlatent = dlatent.reshape(latent.shape)
        dflat = dlatent @ params["latent"]["kernel"].T
        results += [flat.T @ dlatent, flat.T @ weights, weights @ params["mixture"]["kernel"].T]
    else:
        logits, dflat, dembedding = _loss_products(model, flat, params)
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


def _loss_products(model: LanguageModel, hidden: Array, params: Any) -> tuple[Array, Array, Array]:
    """The blocked loss: in every block one product forward, and three backward."""
    embedding = params["embedding"]
    vocab = len(embedding)
    size = Pass(model.score, None).block_rows(len(hidden), vocab)

    def rows(index: Array) -> tuple[Array, Array]:
        start = jnp.minimum(index * size, vocab - size)
        return start, jax.lax.dynamic_slice_in_dim(embedding, start, size)

    def forward(index: Array, logits: Array) -> Array:
        del logits
        return hidden @ rows(index)[1].T

    def backward(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        start, block = rows(index)
        logits = hidden @ block.T
        return logits @ block, jax.lax.dynamic_update_slice_in_dim(carry[1], logits.T @ hidden, start, 0)

    blocks = -(-vocab // size)
    logits = jax.lax.fori_loop(0, blocks, forward, jnp.zeros((len(hidden), size)))
    zeros = jnp.zeros_like(hidden), jnp.zeros_like(embedding)
    return logits, *jax.lax.fori_loop(0, blocks, backward, zeros)
