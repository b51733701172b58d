"""Dynamic evaluation against a loop in float64 NumPy, on a model whose gradient can be written down."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax import dynamic_evaluation
from experiments.sigsoftmax.dynamic_evaluation import DynamicEvaluation, dynamic_loss, gradient_rms

VOCAB = 4
RNG = np.random.default_rng(3)
# Word 3 is rare, so that its statistics lie far below the mean and those of the others above.
TRAIN, TEXT = (RNG.choice(VOCAB, size, p=[0.5, 0.3, 0.19, 0.01]).astype(np.int32) for size in (48, 24))
PARAMS = {"table": RNG.normal(size=(VOCAB, VOCAB)), "slope": RNG.normal(size=VOCAB)}
SETTINGS = DynamicEvaluation(learning_rate=0.1, decay=0.6, epsilon=0.01, segment=5, statistics_batch=3)

pytestmark = pytest.mark.usefixtures("x64")


def loss_fn(params, tokens, labels, where, carry):
    """A bigram table plus h times a slope, where h is a fading memory of the words read: h <- h / 2 + word."""

    def read(h, at):
        h = jnp.where(at[1], h / 2 + at[0], h)
        return h, h

    carry, memory = jax.lax.scan(read, carry, (tokens.T, where.T))
    logits = params["table"][tokens] + memory.T[..., None] * params["slope"][None, None]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
    return losses + jnp.where(where, 0, 100), carry  # what is padding must not count, whatever stands there


def initial_carry(rows):
    return jnp.zeros(rows)


def segment_in_numpy(params, text, streams, memory):
    """Summed loss and gradient of the mean loss over the positions of each stream; ``memory`` is updated."""
    total, count = 0.0, 0
    gradient = {name: np.zeros_like(value) for name, value in params.items()}
    for row, positions in enumerate(streams):
        for i in positions:
            memory[row] = memory[row] / 2 + text[i]
            logits = params["table"][text[i]] + memory[row] * params["slope"]
            probs = np.exp(logits) / np.exp(logits).sum()
            total -= np.log(probs[text[i + 1]])
            error = probs - np.eye(VOCAB)[text[i + 1]]
            gradient["table"][text[i]] += error
            gradient["slope"] += memory[row] * error
            count += 1
    return total, {name: g / count for name, g in gradient.items()}


def rms_in_numpy(batch, segment):
    bounds = [row * (len(TRAIN) - 1) // batch for row in range(batch + 1)]
    memory, squares = np.zeros(batch), []
    for start in range(0, max(np.diff(bounds)), segment):
        streams = [range(b + start, min(b + start + segment, e)) for b, e in itertools.pairwise(bounds)]
        gradient = segment_in_numpy(PARAMS, TRAIN, streams, memory)[1]
        squares.append({name: g**2 for name, g in gradient.items()})
    return {name: np.sqrt(np.mean([each[name] for each in squares], axis=0)) for name in PARAMS}


def loss_in_numpy(rms, settings):
    mean = np.mean([value.mean() for value in rms.values()])
    rates = {name: np.minimum(value / mean, 1 / settings.decay) for name, value in rms.items()}
    params, memory, total = {name: value.copy() for name, value in PARAMS.items()}, np.zeros(1), 0.0
    for start in range(0, len(TEXT) - 1, settings.segment):
        positions = range(start, min(start + settings.segment, len(TEXT) - 1))
        loss, gradient = segment_in_numpy(params, TEXT, [positions], memory)
        total += loss
        for name, value in params.items():
            pull = settings.decay * rates[name] * (PARAMS[name] - value)
            params[name] = value + pull - settings.learning_rate * gradient[name] / (rms[name] + settings.epsilon)
    return total


def jax_params():
    return jax.tree.map(jnp.array, PARAMS)


@pytest.mark.parametrize(("batch", "segment"), [(3, 5), (1, 7), (5, 4)])
def test_statistics_are_the_root_of_the_mean_square(batch, segment):
    settings = dataclasses.replace(SETTINGS, statistics_batch=batch, segment=segment)
    found = gradient_rms(loss_fn, jax_params(), initial_carry, TRAIN, settings)
    for name, expected in rms_in_numpy(batch, segment).items():
        # Double precision, sums of tens of terms.
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)


@pytest.mark.parametrize("segments_per_call", [1, 2, 64])
def test_evaluation_equals_the_loop(segments_per_call, monkeypatch):
    monkeypatch.setattr(dynamic_evaluation, "_SEGMENTS_PER_CALL", segments_per_call)
    params, rms = jax_params(), gradient_rms(loss_fn, jax_params(), initial_carry, TRAIN, SETTINGS)
    mean = np.mean([np.mean(value) for value in rms.values()])
    pulled_whole = SETTINGS.decay * np.concatenate([np.ravel(value) for value in rms.values()]) / mean > 1
    assert 0 < pulled_whole.sum() < pulled_whole.size  # the clipping is at work, and not everywhere
    found = dynamic_loss(loss_fn, params, initial_carry, TEXT, SETTINGS, rms=rms)
    assert found.count == len(TEXT) - 1
    # Double precision, five updates that each may double an error.
    assert found.total == pytest.approx(loss_in_numpy(rms_in_numpy(3, 5), SETTINGS), rel=1e-11)
    jax.tree.map(np.testing.assert_array_equal, params, PARAMS)  # the caller's parameters are not learned into


@pytest.mark.parametrize("change", [{"learning_rate": 0.09}, {"decay": 0.5}, {"epsilon": 0.02}, {"segment": 4}])
def test_every_setting_counts(change):
    rms = rms_in_numpy(3, 5)
    settings = dataclasses.replace(SETTINGS, **change)
    found = dynamic_loss(loss_fn, jax_params(), initial_carry, TEXT, settings, rms=rms)
    assert found.total == pytest.approx(loss_in_numpy(rms, settings), rel=1e-11)
    assert found.total != pytest.approx(loss_in_numpy(rms, SETTINGS), rel=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_no_learning_is_static_evaluation(decay):
    settings = dataclasses.replace(SETTINGS, learning_rate=0.0, decay=decay)
    found = dynamic_loss(loss_fn, jax_params(), initial_carry, TEXT, settings, rms=rms_in_numpy(3, 5))
    static = segment_in_numpy(PARAMS, TEXT, [range(len(TEXT) - 1)], np.zeros(1))[0]
    assert found.total == pytest.approx(static, rel=1e-13)
    without_decay = dataclasses.replace(settings, decay=0.0)
    again = dynamic_loss(loss_fn, jax_params(), initial_carry, TEXT, without_decay, rms=rms_in_numpy(3, 5))
    assert found.total == again.total  # to the last bit: nothing has moved away from where it is pulled to


def test_parameters_that_never_had_a_gradient_stay():
    rms = {name: np.zeros_like(value) for name, value in PARAMS.items()}
    settings = dataclasses.replace(SETTINGS, learning_rate=0.0)
    found = dynamic_loss(loss_fn, jax_params(), initial_carry, TEXT, settings, rms=rms)
    assert np.isfinite(found.total)


def test_all_settings_share_one_compilation(count_compilations):
    rms = rms_in_numpy(3, 5)
    dynamic_loss(loss_fn, jax_params(), initial_carry, TEXT, SETTINGS, rms=rms)
    others = [dataclasses.replace(SETTINGS, learning_rate=rate, decay=rate) for rate in (0.01, 0.02)]
    params = jax_params()
    with count_compilations() as compiled:
        for settings in others:
            dynamic_loss(loss_fn, params, initial_carry, TEXT, settings, rms=rms)
    assert compiled.count == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be finite and at least 0, got -1.0"),
        ({"decay": np.inf}, "decay must be finite and at least 0, got inf"),
        ({"epsilon": 0.0}, "epsilon must be finite and above 0, got 0.0"),
        ({"segment": 0}, "segment must be at least 1, got 0"),
        ({"statistics_batch": 0}, "statistics_batch must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **change)
