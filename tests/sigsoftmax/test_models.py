"""The language model against NumPy, its parameter counts, and what dropout does to it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from experiments.sigsoftmax import models
from experiments.sigsoftmax.activation_regularization import activation_regularization
from experiments.sigsoftmax.dropout import weight_drop
from experiments.sigsoftmax.models import Dropouts, LanguageModel
from experiments.training.task import StepKeys
from sigsoftmax_jax import softmax_score
from tests.sigsoftmax.lstm_reference import unrolled_lstm
from tests.sigsoftmax_jax import reference

VOCAB, ROWS, STEPS = 11, 4, 5
ALL = Dropouts(output=0.4, hidden=0.3, input=0.5, embedding=0.2, latent=0.3, weight=0.5)
PLAIN = LanguageModel(VOCAB, 6, 8, 6, num_layers=2)
MIXTURE = LanguageModel(VOCAB, 6, 8, 7, num_layers=2, num_experts=3)
TOKENS, LABELS = np.random.default_rng(0).integers(0, VOCAB, (2, ROWS, STEPS), dtype=np.int32)
WHERE = np.arange(STEPS)[None] < np.array([[STEPS], [STEPS], [3], [1]])
KEYS = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), ROWS))


def with_dropout(model, dropouts=ALL):
    return dataclasses.replace(model, dropouts=dropouts)


@functools.cache
def compiled(model, method):
    return jax.jit(functools.partial(model.apply, method=method))


@functools.cache
def init(model):
    def scaled(x):
        # Larger than at the start of training, so that all parts of the formula matter.
        return 3 * x + 0.1 * jnp.arange(x.shape[-1]).reshape((1,) * (x.ndim - 1) + (-1,))

    carry = model.initial_carry(ROWS)
    return jax.jit(lambda key: jax.tree.map(scaled, model.init(key, TOKENS, WHERE, carry)))(jax.random.key(0))


@pytest.fixture(scope="module", params=["plain", "mixture"])
def model_and_params(request):
    model = {"plain": PLAIN, "mixture": MIXTURE}[request.param]
    return model, init(model)


def losses_of(model, params, keys=None, where=WHERE):
    batch = TOKENS, LABELS, where, model.initial_carry(ROWS)
    return compiled(model, "token_losses")(params, *batch, keys)


def numpy_params(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])


def unrolled(model, params):
    """Last layer's outputs in float64."""
    x, weights = params["embedding"][TOKENS], None
    for i in range(model.num_layers):
        weights = params[f"layers_{i}"]
        zeros = np.zeros((ROWS, len(weights["recurrent_kernel"])))
        kernels = weights["input_kernel"], weights["recurrent_kernel"], weights["bias"]
        x, _, _ = unrolled_lstm(x, WHERE, zeros, zeros, *kernels)
    return x


def decoded(model, params, output, score="sigsoftmax"):
    """Log-probabilities [b, T, V] of what the decoder is applied to."""
    decoder = (np.asarray(params["params"][name], np.float64) for name in ("embedding", "decoder_bias"))
    hidden = np.asarray(output.hidden, np.float64).reshape(ROWS * STEPS, *output.hidden.shape[2:])
    if model.num_experts == 1:
        result = reference.log_probs(reference.linear_logits(hidden, *decoder), score)
    else:
        weights = np.asarray(output.mixture_logits, np.float64).reshape(ROWS * STEPS, -1)
        result = reference.mixture_log_probs(hidden, weights, *decoder, score)
    return result.reshape(ROWS, STEPS, VOCAB)


def numpy_log_probs(model, params, score):
    weights = numpy_params(params)
    x = unrolled(model, weights)
    if model.num_experts == 1:
        return decoded(model, params, models.Output(x, None, x, x, ()), score)
    latent = np.tanh(x @ weights["latent"]["kernel"] + weights["latent"]["bias"])
    hidden = latent.reshape(ROWS, STEPS, model.num_experts, model.embedding_size)
    return decoded(model, params, models.Output(hidden, x @ weights["mixture"]["kernel"], x, x, ()), score)


@pytest.mark.parametrize("score", ["sigsoftmax", "softmax"])
def test_log_probs_and_losses_against_numpy(model_and_params, score):
    model, params = model_and_params
    if score == "softmax":
        model = dataclasses.replace(model, score=softmax_score)
    expected = numpy_log_probs(model, params, score)
    log_probs, _ = compiled(model, "log_probs")(params, TOKENS, WHERE, model.initial_carry(ROWS))
    losses, output = losses_of(model, params)
    # float32; logits of at most about 10.
    np.testing.assert_allclose(log_probs, expected, atol=2e-5)
    picked = -np.take_along_axis(expected, LABELS[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, np.where(WHERE, picked, 0), atol=2e-5)
    assert output.raw.shape == (ROWS, STEPS, model.last_size)
    assert (output.mixture_logits is None) == (model.num_experts == 1)


def test_parameter_counts():
    """With one bias per gate; the counts of the original code bases have two."""
    for (vocab, *sizes), expected in {
        (10_000, 400, 1150, 400, 3, 1): 24_210_800,
        (33_278, 400, 1150, 400, 3, 1): 33_545_278,
        (10_000, 280, 960, 620, 3, 15): 21_490_460,
        (33_278, 300, 1150, 650, 3, 15): 34_897_728,
    }.items():
        model = LanguageModel(vocab, *sizes)
        shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS, WHERE, model.initial_carry(ROWS))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_initial_ranges():
    model = LanguageModel(500, 40, 50, 60, num_layers=2, num_experts=2)
    params = jax.jit(model.init)(jax.random.key(0), TOKENS, WHERE, model.initial_carry(ROWS))["params"]
    assert not np.any(params["decoder_bias"])
    bounds = {
        "embedding": 0.1,
        "layers_0": 50**-0.5,
        "layers_1": 60**-0.5,
        "latent": 60**-0.5,
        "mixture": 60**-0.5,
    }
    for name, bound in bounds.items():
        for leaf in jax.tree.leaves(params[name]):
            # The largest of at least 80 uniform numbers is above 0.9 of the bound but with probability 2e-4.
            assert 0.9 * bound < np.max(np.abs(leaf)) <= bound, name
    assert all(not np.any(x) for x in jax.tree.leaves(model.initial_carry(3)))


def test_evaluation_uses_no_dropout_of_any_kind(model_and_params):
    model, params = model_and_params
    losses, output = losses_of(with_dropout(model), params)
    expected, plain = losses_of(model, params)
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(output.raw, plain.raw)


@pytest.mark.parametrize("name", dataclasses.asdict(ALL))
def test_each_dropout_is_applied_in_training(name):
    arguments = init(MIXTURE), TOKENS, WHERE, MIXTURE.initial_carry(ROWS)
    model = with_dropout(MIXTURE, Dropouts(**{name: 0.5}))
    dropped = compiled(model, "__call__")(*arguments, KEYS).hidden
    plain = compiled(MIXTURE, "__call__")(*arguments).hidden
    assert not np.allclose(dropped, plain, atol=1e-3)


def test_weight_drop_is_one_mask_a_window():
    model = with_dropout(LanguageModel(VOCAB, 6, 8, 6, num_layers=1), Dropouts(weight=0.5))
    params = init(model)
    output = compiled(model, "__call__")(params, TOKENS, WHERE, model.initial_carry(ROWS), KEYS)
    # The same dropped kernel at all time steps and in all rows, the input kernel and bias as they are.
    kernel = params["params"]["layers_0"]["recurrent_kernel"]
    dropped = weight_drop(jax.random.fold_in(KEYS.shared, 0), kernel, 0.5)
    assert np.any(dropped == 0)
    numpy = numpy_params(params)
    numpy["layers_0"]["recurrent_kernel"] = np.asarray(dropped, np.float64)
    np.testing.assert_allclose(output.raw, unrolled(model, numpy), atol=1e-5)  # float32


def test_experts_are_made_of_the_dropped_output():
    params, rate = init(MIXTURE), ALL.latent
    arguments = params, TOKENS, WHERE, MIXTURE.initial_carry(ROWS), KEYS
    output = compiled(with_dropout(MIXTURE), "__call__")(*arguments)
    weights, dropped = numpy_params(params), np.asarray(output.dropped, np.float64)
    np.testing.assert_allclose(output.mixture_logits, dropped @ weights["mixture"]["kernel"], atol=1e-5)  # float32
    latent = np.tanh(dropped @ weights["latent"]["kernel"] + weights["latent"]["bias"])
    hidden = np.asarray(output.hidden).reshape(latent.shape)
    np.testing.assert_allclose(hidden, np.where(hidden == 0, 0, latent / (1 - rate)), atol=1e-5)
    assert 0 < np.mean(hidden == 0) < 2 * rate


def test_every_dropout_has_a_key_of_its_own(monkeypatch):
    params, carry, seen = init(MIXTURE), MIXTURE.initial_carry(ROWS), []

    def recording(original):
        def drop(keys, *arguments):
            seen.append(jnp.atleast_2d(jax.random.key_data(keys)))
            return original(keys, *arguments)

        return drop

    def keys_used(keys):
        with_dropout(MIXTURE).apply(params, TOKENS, WHERE, carry, keys)
        return jnp.concatenate(seen)

    for name in ("locked_dropout", "embedding_dropout", "weight_drop"):
        monkeypatch.setattr(models, name, recording(getattr(models, name)))
    used = jax.jit(keys_used)(KEYS)
    # Two weight drops and one embedding; in each row one on the input, one after each layer, one on the latent.
    assert len(used) == 3 + 4 * ROWS
    assert len(np.unique(used, axis=0)) == len(used)


def test_rows_may_be_split_over_devices():
    run = compiled(with_dropout(MIXTURE), "__call__")

    def part(rows):
        keys = StepKeys(KEYS.shared, KEYS.per_example[rows])
        return run(init(MIXTURE), TOKENS[rows], WHERE[rows], MIXTURE.initial_carry(len(TOKENS[rows])), keys)

    whole, parts = part(slice(None)), [part(slice(0, 2)), part(slice(2, 4))]
    for name in ("hidden", "mixture_logits", "raw", "dropped"):
        joined = jnp.concatenate([getattr(part, name) for part in parts])
        # Products of other shapes round differently; the masks are the same.
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-5)
        np.testing.assert_array_equal(joined == 0, getattr(whole, name) == 0)


def test_two_windows_are_one_longer_one(model_and_params):
    model, params = model_and_params
    everywhere = np.ones_like(WHERE)
    whole, output = losses_of(model, params, where=everywhere)
    # The first window is padded to the size of the second.
    carry = model.initial_carry(ROWS)
    padded = np.arange(3)[None] < np.full((ROWS, 1), 2)
    first = TOKENS[:, :3], LABELS[:, :3], padded, carry
    losses, middle = compiled(model, "token_losses")(params, *first)
    np.testing.assert_allclose(losses[:, :2], whole[:, :2], atol=1e-5)  # float32
    second = TOKENS[:, 2:], LABELS[:, 2:], everywhere[:, 2:], middle.carry
    losses, end = compiled(model, "token_losses")(params, *second)
    np.testing.assert_allclose(losses, whole[:, 2:], atol=1e-5)
    for ours, expected in zip(jax.tree.leaves(end.carry), jax.tree.leaves(output.carry), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def shapes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from shapes_in(inner)


def test_no_array_of_tokens_experts_and_vocabulary():
    vocab, experts = 9_000, 8
    model = with_dropout(LanguageModel(vocab, 6, 8, 7, num_layers=1, num_experts=experts))
    tokens = jax.ShapeDtypeStruct((ROWS, 16), jnp.int32)
    where = jax.ShapeDtypeStruct((ROWS, 16), bool)
    carry = model.initial_carry(ROWS)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens, where, carry)

    def gradient(method):
        def loss(params, tokens, where):
            more = (tokens,) if method == "token_losses" else ()
            return jnp.sum(model.apply(params, tokens, *more, where, carry, method=method)[0])

        return jax.make_jaxpr(jax.grad(loss))(params, tokens, where).jaxpr

    limit = ROWS * 16 * experts * vocab
    assert max(map(np.prod, shapes_in(gradient("token_losses")))) < limit
    # The whole distribution, and autodiff through it, does have such an array: the test can tell.
    assert max(map(np.prod, shapes_in(gradient("log_probs")))) >= limit


def test_activation_regularization():
    rng = np.random.default_rng(0)
    dropped, raw = rng.normal(size=(2, ROWS, STEPS, 3))
    squares, differences = [], []
    for row, t in np.argwhere(WHERE):
        squares.extend(dropped[row, t] ** 2)
        if t + 1 < STEPS and WHERE[row, t + 1]:
            differences.extend((raw[row, t + 1] - raw[row, t]) ** 2)
    arrays = (jnp.asarray(a, jnp.float32) for a in (dropped, raw))
    found = activation_regularization(*arrays, jnp.asarray(WHERE), alpha=2.0, beta=1.5)
    np.testing.assert_allclose(found, 2 * np.mean(squares) + 1.5 * np.mean(differences), rtol=1e-6)  # float32


def test_activation_regularization_of_one_step_or_none_is_finite():
    gradient = jax.grad(activation_regularization, (0, 1))
    for steps in (1, 0):
        where = jnp.arange(STEPS)[None] < jnp.full((ROWS, 1), steps)
        values = jnp.ones((ROWS, STEPS, 3))
        assert activation_regularization(values, values, where, 1.0, 1.0) == steps
        assert all(np.all(np.isfinite(g)) for g in gradient(values, values, where, 1.0, 1.0))


def test_every_parameter_is_trained_and_the_decoder_is_not_dropped(model_and_params):
    model, params = model_and_params

    def loss(params):
        losses, output = losses_of(with_dropout(model), params, KEYS)
        return jnp.sum(losses), (losses, output)

    grads, (losses, output) = jax.jit(jax.grad(loss, has_aux=True))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.any(leaf != 0), path
        assert np.all(np.isfinite(leaf)), path
    expected = -np.take_along_axis(decoded(model, params, output), LABELS[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, np.where(WHERE, expected, 0), atol=2e-5)  # float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_experts": -1}, "num_experts must be at least 1, got -1"),
        ({"last_size": 7}, "last_size 7 must equal embedding_size 6 without a mixture"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_bad_rates():
    with pytest.raises(ValueError, match=r"dropout rate hidden must lie in \[0, 1\), got 1.5"):
        Dropouts(hidden=1.5)
