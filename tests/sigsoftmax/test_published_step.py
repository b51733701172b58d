"""Two training steps of the published code, restated in float64 NumPy, and ours.

The restatement follows the main.py of salesforce/awd-lstm-lm and of zihangdai/mos line by line: arrays by their
names there, two biases for each layer, time first. Its gradients are complex-step derivatives, exact to rounding:
df/dx = Im f(x + ih) / h, for any small h.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.streams import window_batches
from experiments.sigsoftmax import heads, models
from experiments.sigsoftmax.models import Dropouts
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import build_model
from experiments.sigsoftmax.task import make_task
from experiments.training.step import compile_step, create_state

pytestmark = pytest.mark.usefixtures("x64")

VOCAB, ROWS, LAYERS = 5, 2, 2
TINY = {
    "embedding_size": 3, "hidden_size": 4, "num_layers": LAYERS, "batch_size": ROWS,
    "bptt": 6, "bptt_spread": 2.0, "bptt_excess": 3, "window_sizes": 1, "weight_decay": 1e-3, "clip": 0.05,
    # Rates that tell the masks apart.
    "dropouts": Dropouts(output=0.41, hidden=0.23, input=0.37, embedding=0.11, latent=0.29, weight=0.51),
}  # fmt: skip
TASKS = {
    "awd": dataclasses.replace(RECIPES["awd_ptb"], **TINY, last_size=3),
    "mos": dataclasses.replace(RECIPES["mos_ptb"], **TINY, last_size=4, num_experts=2),
}
TOKENS = np.random.default_rng(0).integers(0, VOCAB, 2 * 24)


@functools.cache
def mask(rate, shape):
    """One draw for both codes, of zeros and 1 / (1 - rate)."""
    kept = np.random.default_rng(int(100 * rate)).random(shape) >= rate
    return kept / (1 - rate)


# The published code. Parameters by name; h and c of each layer in ``hidden``.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_of_torch(x, hidden, weight_ih, weight_hh, bias_ih, bias_hh):
    h, c = hidden
    outputs = []
    for x_t in x:
        gates = x_t @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), (h, c)


def published_loss(params, data, targets, hidden, recipe):
    """(The loss that is logged, that which is differentiated, the hidden state after the window)."""
    rates, new_hidden = recipe.dropouts, []
    encoder = params["encoder.weight"]
    emb = (encoder * mask(rates.embedding, (VOCAB, 1)))[data]
    output = emb * mask(rates.input, (1, ROWS, emb.shape[-1]))
    for layer in range(LAYERS):
        names = [
            f"rnns.{layer}.{name}" for name in ("weight_ih_l0", "weight_hh_l0_raw", "bias_ih_l0", "bias_hh_l0")
        ]
        weight_ih, weight_hh_raw, bias_ih, bias_hh = (params[name] for name in names)
        # Our kernels are theirs transposed, and so is the mask.
        weight_hh = weight_hh_raw * mask(rates.weight, weight_hh_raw.shape[::-1]).T
        raw_output, new_h = lstm_of_torch(output, hidden[layer], weight_ih, weight_hh, bias_ih, bias_hh)
        new_hidden.append(new_h)
        rate = rates.hidden if layer < LAYERS - 1 else rates.output
        output = raw_output * mask(rate, (1, ROWS, raw_output.shape[-1]))
    if recipe.num_experts == 1:
        logits = output @ encoder.T + params["decoder.bias"]
        log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    else:
        latent = np.tanh(output @ params["latent.0.weight"].T + params["latent.0.bias"])
        latent = latent * mask(rates.latent, (1, ROWS, latent.shape[-1]))
        latent = latent.reshape(*data.shape, recipe.num_experts, -1)
        logit = latent @ encoder.T + params["decoder.bias"]
        prior = np.exp(output @ params["prior.weight"].T)
        prior = prior / prior.sum(-1, keepdims=True)
        prob = np.exp(logit)
        prob = (prob / prob.sum(-1, keepdims=True) * prior[..., None]).sum(-2)
        log_prob = np.log(prob)  # theirs has prob + 1e-8, see docs/departures.md
    raw_loss = -np.mean(np.take_along_axis(log_prob, targets[..., None], -1))
    loss = raw_loss + recipe.alpha * np.mean(output**2)
    loss = loss + recipe.beta * np.mean((raw_output[1:] - raw_output[:-1]) ** 2)
    return raw_loss, loss, new_hidden


def gradients(params, *arguments, step=1e-30):
    """Complex-step derivatives of the loss, number by number."""
    result = {}
    for name, value in params.items():
        result[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1j * step
            result[name][index] = published_loss({**params, name: moved}, *arguments)[1].imag / step
    return result


def published_step(params, data, targets, hidden, recipe):
    """Gradient, clip_grad_norm, SGD with weight decay, at the rate of the window's length."""
    raw_loss, _, new_hidden = published_loss(params, data, targets, hidden, recipe)
    grads = gradients(params, data, targets, hidden, recipe)
    total_norm = sum(np.sum(grad**2) for grad in grads.values()) ** 0.5
    clip_coef = recipe.clip / (total_norm + 1e-6)
    if clip_coef < 1:
        grads = {name: grad * clip_coef for name, grad in grads.items()}
    lr = recipe.learning_rate * len(data) / recipe.bptt
    new = {name: value - lr * (grads[name] + recipe.weight_decay * value) for name, value in params.items()}
    return raw_loss, new, new_hidden, clip_coef


# Between the two.


def named_as_published(params):
    """Our parameters by the names there, kernels transposed."""
    named = {"encoder.weight": params["embedding"], "decoder.bias": params["decoder_bias"]}
    for layer in range(LAYERS):
        ours = params[f"layers_{layer}"]
        named[f"rnns.{layer}.weight_ih_l0"] = ours["input_kernel"].T
        named[f"rnns.{layer}.weight_hh_l0_raw"] = ours["recurrent_kernel"].T
        named[f"rnns.{layer}.bias_ih_l0"] = ours["input_bias"]
        named[f"rnns.{layer}.bias_hh_l0"] = ours["recurrent_bias"]
    if "latent" in params:
        named["latent.0.weight"], named["latent.0.bias"] = params["latent"]["kernel"].T, params["latent"]["bias"]
        named["prior.weight"] = params["mixture"]["kernel"].T
    return {name: np.asarray(value) for name, value in named.items()}


def use_the_same_masks(monkeypatch):
    """In place of drawn ones; without a key, as where parameters are made, there is no dropout."""

    def locked(keys, values, rate):
        return values if keys is None else values * mask(rate, (ROWS, 1, values.shape[-1]))

    def of_words(key, embedding, tokens, rate):
        return embedding[tokens] if key is None else (embedding * mask(rate, (VOCAB, 1)))[tokens]

    def of_weights(key, kernel, rate):
        return kernel if key is None else kernel * mask(rate, kernel.shape)

    for module, name, dropout in (
        (models, "locked_dropout", locked),
        (heads, "locked_dropout", locked),
        (models, "embedding_dropout", of_words),
        (models, "weight_drop", of_weights),
    ):
        monkeypatch.setattr(module, name, dropout)


def random_params(model):
    window = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *window, model.initial_carry(1), None)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape), shapes)


@pytest.mark.parametrize("name", TASKS)
def test_two_steps_are_those_of_the_published_code(name, monkeypatch):
    """Of different lengths and padded, the hidden state carried, every dropout on, the clipping at work."""
    use_the_same_masks(monkeypatch)
    recipe = TASKS[name]
    model, lengths = build_model(recipe, "softmax", VOCAB), recipe.window_lengths()
    sizes = lengths.padded_sizes(recipe.window_sizes)
    windows = list(window_batches(TOKENS, ROWS, lengths, sizes=sizes, seed=3, epoch=0))[:2]
    used = [int(batch["length"][0]) for batch in windows]
    assert used[0] != used[1]
    assert all(batch["tokens"].shape[1] > length for batch, length in zip(windows, used, strict=True))

    task, devices = make_task(model, recipe, recipe.learning_rate), jax.devices()[:1]
    state = create_state(task, 0, devices, initial_params=random_params(model))
    step = compile_step(task, devices=devices, mapped=False)
    params = named_as_published(state.params)
    sizes_of_layers = [recipe.hidden_size] * (LAYERS - 1) + [recipe.last_size]
    hidden = [(np.zeros((ROWS, size)), np.zeros((ROWS, size))) for size in sizes_of_layers]
    for batch, length in zip(windows, used, strict=True):
        data, targets = (batch[key][:, :length].T for key in ("tokens", "labels"))
        raw_loss, params, hidden, clip_coef = published_step(params, data, targets, hidden, recipe)
        assert clip_coef < 1
        state, metrics = step(state, batch)
        # float64: rounding is near 1e-14 in either code.
        assert metrics["loss"].total / metrics["loss"].count == pytest.approx(raw_loss, abs=1e-9)
        found = named_as_published(state.params)
        assert set(found) == set(params)
        for key, expected in params.items():
            np.testing.assert_allclose(found[key], expected, atol=1e-9, err_msg=key)
    for ours, theirs in zip(jax.tree.leaves(state.model_state), jax.tree.leaves(hidden), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
