"""The language model against NumPy, its parameter counts, and what dropout does to it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax import heads, models
from experiments.sigsoftmax.dropout import weight_drop
from experiments.sigsoftmax.heads import TiedHead
from experiments.sigsoftmax.models import Dropouts, LanguageModel, LSTMBody
from experiments.training.task import StepKeys
from sigsoftmax_jax import sigsoftmax_score, softmax_score
from tests.sigsoftmax.lstm_reference import unrolled_lstm
from tests.sigsoftmax.small import Memory
from tests.sigsoftmax_jax import reference

VOCAB, ROWS, STEPS = 11, 4, 5
NONE = Dropouts()
ALL = Dropouts(output=0.4, hidden=0.3, input=0.5, embedding=0.2, latent=0.3, weight=0.5)
TOKENS, LABELS = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (2, ROWS, STEPS), dtype=np.int32))
WHERE = np.arange(STEPS)[None] < np.array([[STEPS], [STEPS], [3], [1]])
KEYS = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), ROWS))


def lstm_model(num_experts=1, *, dropouts=NONE, score=sigsoftmax_score, sizes=None):
    last = 6 if num_experts == 1 else 7
    head = TiedHead(VOCAB, 6, last, num_experts, score, latent_dropout=dropouts.latent)
    return LanguageModel(LSTMBody(sizes or (8, last), dropouts), head, dropouts)


MODELS = {"plain": lstm_model(), "mixture": lstm_model(3)}
DROPPED = {"plain": lstm_model(dropouts=ALL), "mixture": lstm_model(3, dropouts=ALL)}


@functools.cache
def init(model):
    """Parameters larger than at the start of training, so that all parts of the formula matter."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS, WHERE, model.initial_carry(ROWS))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-1, 1, leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope="module", params=MODELS)
def kind(request):
    return request.param


def losses_of(model, params, keys=None, where=WHERE):
    # Not compiled as a whole: its parts are, and shared by all models of these shapes.
    batch = TOKENS, LABELS, jnp.asarray(where), model.initial_carry(ROWS)
    return model.apply(params, *batch, keys, method="token_losses")


def numpy_params(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])


def unrolled(model, params):
    """Last layer's outputs in float64."""
    x = params["embedding"][TOKENS]
    for i in range(model.body.num_layers):
        weights = params[f"layers_{i}"]
        zeros = np.zeros((ROWS, len(weights["recurrent_kernel"])))
        kernels = weights["input_kernel"], weights["recurrent_kernel"]
        bias = weights["input_bias"] + weights["recurrent_bias"]
        x, _, _ = unrolled_lstm(x, WHERE, zeros, zeros, *kernels, bias)
    return x


def decoded(params, hidden, mixture_logits, score="sigsoftmax"):
    """Log-probabilities [b, T, V] of what the decoder is applied to."""
    decoder = (np.asarray(params["params"][name], np.float64) for name in ("embedding", "decoder_bias"))
    hidden = np.asarray(hidden, np.float64).reshape(ROWS * STEPS, *hidden.shape[2:])
    if mixture_logits is None:
        result = reference.log_probs(reference.linear_logits(hidden, *decoder), score)
    else:
        weights = np.asarray(mixture_logits, np.float64).reshape(ROWS * STEPS, -1)
        result = reference.mixture_log_probs(hidden, weights, *decoder, score)
    return result.reshape(ROWS, STEPS, VOCAB)


def numpy_log_probs(model, params, score):
    weights, experts = numpy_params(params), model.head.num_experts
    x = unrolled(model, weights)
    if experts == 1:
        return decoded(params, x, None, score)
    latent = np.tanh(x @ weights["latent"]["kernel"] + weights["latent"]["bias"])
    hidden = latent.reshape(ROWS, STEPS, experts, model.head.embedding_size)
    return decoded(params, hidden, x @ weights["mixture"]["kernel"], score)


@pytest.mark.parametrize("score", ["sigsoftmax", "softmax"])
def test_log_probs_and_losses_against_numpy(kind, score):
    model = MODELS[kind]
    params = init(model)
    if score == "softmax":
        model = lstm_model(model.head.num_experts, score=softmax_score)
    expected = numpy_log_probs(model, params, score)
    log_probs, _ = model.apply(params, TOKENS, WHERE, model.initial_carry(ROWS), method="log_probs")
    losses, states = losses_of(model, params)
    # float32; logits of at most about 10.
    np.testing.assert_allclose(log_probs, expected, atol=2e-5)
    picked = -np.take_along_axis(expected, LABELS[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, np.where(WHERE, picked, 0), atol=2e-5)
    assert states.raw.shape == (ROWS, STEPS, model.head.input_size)


def test_initial_ranges():
    model = LanguageModel(LSTMBody((50, 60)), TiedHead(500, 40, 60, 2))
    params = jax.jit(model.init)(jax.random.key(0), TOKENS, WHERE, model.initial_carry(ROWS))["params"]
    assert not np.any(params["decoder_bias"])
    bounds = {
        "embedding": 0.1,
        "layers_0": 50**-0.5,
        "layers_1": 60**-0.5,
        "latent": 60**-0.5,
        "mixture": 60**-0.5,
    }
    assert set(params) == {*bounds, "decoder_bias"}
    for name, bound in bounds.items():
        for leaf in jax.tree.leaves(params[name]):
            # The largest of at least 80 uniform numbers is above 0.9 of the bound but with probability 2e-4.
            assert 0.9 * bound < np.max(np.abs(leaf)) <= bound, name
    assert all(not np.any(x) for x in jax.tree.leaves(model.initial_carry(3)))


def test_evaluation_uses_no_dropout_of_any_kind(kind):
    """Without keys it is the same function, so that it also compiles to the same."""
    arguments = TOKENS, LABELS, WHERE, MODELS[kind].initial_carry(ROWS)
    plain, dropped = (
        jax.make_jaxpr(functools.partial(model.apply, method="token_losses"))(init(MODELS[kind]), *arguments)
        for model in (MODELS[kind], DROPPED[kind])
    )
    assert "random" not in str(plain)
    assert str(plain) == str(dropped)


@pytest.fixture(scope="module")
def applied():
    """``dropouts -> (states, head's outputs)`` of the mixture with keys; parts are compiled, and shared."""
    arguments = init(MODELS["mixture"]), TOKENS, WHERE, MODELS["mixture"].initial_carry(ROWS), KEYS
    return functools.cache(lambda dropouts: lstm_model(3, dropouts=dropouts).apply(*arguments))


@pytest.mark.parametrize("name", dataclasses.asdict(ALL))
def test_each_dropout_is_applied_in_training(name, applied):
    _, (dropped, _) = applied(Dropouts(**{name: 0.5}))
    _, (plain, _) = applied(NONE)
    assert not np.allclose(dropped, plain, atol=1e-3)


def test_weight_drop_is_one_mask_a_window():
    model = lstm_model(dropouts=Dropouts(weight=0.5), sizes=(6,))
    params = init(model)
    states, _ = model.apply(params, TOKENS, WHERE, model.initial_carry(ROWS), KEYS)
    # The same dropped kernel at all time steps and in all rows, the input kernel and bias as they are.
    kernel = params["params"]["layers_0"]["recurrent_kernel"]
    dropped = weight_drop(jax.random.fold_in(KEYS.shared, 0), kernel, 0.5)
    assert np.any(dropped == 0)
    numpy = numpy_params(params)
    numpy["layers_0"]["recurrent_kernel"] = np.asarray(dropped, np.float64)
    np.testing.assert_allclose(states.raw, unrolled(model, numpy), atol=1e-5)  # float32


def test_experts_are_made_of_the_dropped_output(applied):
    states, (hidden, mixture_logits) = applied(ALL)
    weights, dropped = numpy_params(init(MODELS["mixture"])), np.asarray(states.dropped, np.float64)
    np.testing.assert_allclose(mixture_logits, dropped @ weights["mixture"]["kernel"], atol=1e-5)  # float32
    latent = np.tanh(dropped @ weights["latent"]["kernel"] + weights["latent"]["bias"])
    hidden = np.asarray(hidden).reshape(latent.shape)
    np.testing.assert_allclose(hidden, np.where(hidden == 0, 0, latent / (1 - ALL.latent)), atol=1e-5)
    assert 0 < np.mean(hidden == 0) < 2 * ALL.latent


def test_every_dropout_has_a_key_of_its_own(monkeypatch):
    model, seen = DROPPED["mixture"], []
    params, carry = init(MODELS["mixture"]), model.initial_carry(ROWS)

    def recording(original):
        def drop(keys, *arguments):
            seen.append(jnp.atleast_2d(jax.random.key_data(keys)))
            return original(keys, *arguments)

        return drop

    for module, name in (
        (models, "locked_dropout"),
        (models, "embedding_dropout"),
        (models, "weight_drop"),
        (heads, "locked_dropout"),
    ):
        monkeypatch.setattr(module, name, recording(getattr(module, name)))
    model.apply(params, TOKENS, WHERE, carry, KEYS)
    used = np.concatenate(seen)
    # Two weight drops and one embedding; in each row one on the input, one after each layer, one on the latent.
    assert len(used) == 3 + 4 * ROWS
    assert len(np.unique(used, axis=0)) == len(used)


def test_rows_do_not_depend_on_each_other(applied):
    """Nor on their place, so that they may be split over devices: what decides is a row's own key."""
    turned = StepKeys(KEYS.shared, KEYS.per_example[::-1])
    arguments = TOKENS[::-1], WHERE[::-1], MODELS["mixture"].initial_carry(ROWS), turned
    found, expected = DROPPED["mixture"].apply(init(MODELS["mixture"]), *arguments), applied(ALL)
    ours, theirs = ((states.raw, states.dropped, *outputs) for states, outputs in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one[::-1], other, atol=1e-5)  # float32, sums that may be in another order
        np.testing.assert_array_equal(one[::-1] == 0, other == 0)


def test_two_windows_are_one_longer_one(kind):
    model = MODELS[kind]
    params, everywhere = init(model), np.ones_like(WHERE)
    whole, states = losses_of(model, params, where=everywhere)
    # The first window is padded to the size of the whole, and so is the second.
    first_mask, second_mask = (np.arange(STEPS)[None] < np.full((ROWS, 1), count) for count in (2, 3))
    tokens, labels = (np.roll(array, -2, axis=1) for array in (TOKENS, LABELS))
    losses, middle = losses_of(model, params, where=first_mask)
    np.testing.assert_allclose(losses[:, :2], whole[:, :2], atol=1e-5)  # float32
    second = tokens, labels, jnp.asarray(second_mask), middle.carry
    losses, end = model.apply(params, *second, method="token_losses")
    np.testing.assert_allclose(losses[:, :3], whole[:, 2:], atol=1e-5)
    for ours, expected in zip(jax.tree.leaves(end.carry), jax.tree.leaves(states.carry), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_every_parameter_is_trained_and_the_decoder_is_not_dropped(kind):
    model, params = DROPPED[kind], init(MODELS[kind])
    carry = model.initial_carry(ROWS)

    def loss(params):
        losses, _ = model.apply(params, TOKENS, LABELS, jnp.asarray(WHERE), carry, KEYS, method="token_losses")
        _, outputs = model.apply(params, TOKENS, WHERE, carry, KEYS)
        return jnp.sum(losses), (losses, outputs)

    grads, (losses, outputs) = jax.jit(jax.grad(loss, has_aux=True))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.any(leaf != 0), path
        assert np.all(np.isfinite(leaf)), path
    expected = -np.take_along_axis(decoded(params, *outputs), LABELS[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, np.where(WHERE, expected, 0), atol=2e-5)  # float32


def test_another_body_takes_the_place_of_the_lstm():
    model = LanguageModel(Memory(6), TiedHead(VOCAB, 6, 6))
    params = init(model)
    assert set(params["params"]) == {"embedding", "decoder_bias", "kernel"}
    weights = numpy_params(params)
    words = np.where(WHERE[..., None], weights["embedding"][TOKENS], 0)
    expected = decoded(params, np.tanh(np.cumsum(words, axis=1) @ weights["kernel"]), None)
    log_probs, carry = model.apply(params, TOKENS, WHERE, model.initial_carry(ROWS), method="log_probs")
    np.testing.assert_allclose(log_probs, expected, atol=2e-5)  # float32
    np.testing.assert_allclose(carry, words.sum(1) @ weights["kernel"], atol=1e-5)


@pytest.mark.parametrize("sizes", [(), (8, 0)])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="sizes must be at least one, each at least 1, got"):
        LSTMBody(sizes)


def test_bad_rates():
    with pytest.raises(ValueError, match=r"dropout rate hidden must lie in \[0, 1\), got 1.5"):
        Dropouts(hidden=1.5)
