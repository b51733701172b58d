"""The regularisers: their formulas, on the convolution kernels alone, and a user's own with every hook."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.regularizers import REGULARIZERS, absum_ratio, find_regularizer
from experiments.absum.run import open_run
from tests.absum import own
from tests.absum.settings import SMALL
from tests.command_line import error_line, read

fails = functools.partial(error_line, main)
RATE, STRENGTH = 0.5, 0.25
PLAIN = ["--model", "tests.absum.own:plain"]


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    kernel, dense = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 2, 4), (5, 6)))
    return {"Conv_0": {"kernel": jnp.asarray(kernel)}, "Dense_0": {"kernel": jnp.asarray(dense)}}


def shrunk_sums(kernel, amount):
    """Each slice over space minus its mean, clipped to +-amount."""
    return kernel - np.clip(kernel.mean((0, 1), keepdims=True), -amount, amount)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", lambda k: k),
        ("weight_decay", lambda k: k / (1 + RATE * STRENGTH)),
        ("l1", lambda k: np.sign(k) * np.maximum(np.abs(k) - RATE * STRENGTH, 0)),
        ("absum", lambda k: shrunk_sums(k, RATE * STRENGTH)),
        ("decoupled_weight_decay", lambda k: k * (1 - RATE * STRENGTH)),
        ("absum_penalty", lambda k: k),
    ],
)
def test_what_is_done_after_an_update(params, name, expected):
    regularizer = REGULARIZERS[name]
    state = regularizer.init(params, STRENGTH)
    after = regularizer.after_update(params, state, RATE, 7)
    # A few float32 roundings of numbers of size 1.
    np.testing.assert_allclose(
        after["Conv_0"]["kernel"], expected(np.asarray(params["Conv_0"]["kernel"])), atol=1e-6
    )
    np.testing.assert_array_equal(after["Dense_0"]["kernel"], params["Dense_0"]["kernel"])


def test_penalties(params):
    sums = np.abs(np.asarray(params["Conv_0"]["kernel"], np.float64).sum((0, 1))).sum()
    for name, regularizer in REGULARIZERS.items():
        state = regularizer.init(params, STRENGTH)
        value, after = regularizer.penalty(params, state)
        np.testing.assert_allclose(value, STRENGTH * sums if name == "absum_penalty" else 0, rtol=1e-6)
        assert after == state


def test_only_none_has_nothing_to_weigh():
    assert [name for name, each in REGULARIZERS.items() if not each.has_strength] == ["none"]


def test_the_ratio_of_filter_sums(params):
    kernel = np.asarray(params["Conv_0"]["kernel"], np.float64)
    expected = np.abs(kernel.sum((0, 1))).sum() / np.abs(kernel).sum()
    np.testing.assert_allclose(absum_ratio(params), expected, rtol=1e-6)
    np.testing.assert_allclose(absum_ratio(jax.tree.map(lambda leaf: 3 * leaf, params)), expected, rtol=1e-6)
    positive = {"Conv_0": {"kernel": jnp.abs(params["Conv_0"]["kernel"])}}
    np.testing.assert_allclose(absum_ratio(positive), 1, rtol=1e-6)


def test_bad_names():
    with pytest.raises(ValueError, match=r"regularizer must be one of none, weight_decay, l1, .* got 'absurd'"):
        find_regularizer("absurd")
    with pytest.raises(ValueError, match=r"regularizer 'tests.absum.own:missing' cannot be imported"):
        find_regularizer("tests.absum.own:missing")
    with pytest.raises(ValueError, match="own:not_a_regularizer must name a Regularizer, got str"):
        find_regularizer("tests.absum.own:not_a_regularizer")
    assert find_regularizer("tests.absum.own:every_hook") is own.every_hook


@pytest.mark.parametrize("name", ["weight_decay", "l1", "decoupled_weight_decay", "absum_penalty"])
def test_every_regularizer_trains(tmp_path, name):
    main(["train", *SMALL, *PLAIN, "--regularizer", name, "--strength", "0.1", "--out", "net"])
    assert read(tmp_path / "net" / "config.json")["identity"]["strength"] == 0.1
    assert np.isfinite(read(tmp_path / "net" / "metrics.jsonl")["train_loss"])  # one epoch, one line


def test_an_entry_that_uses_every_hook_trains_and_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.setitem(REGULARIZERS, "every_hook", own.every_hook)
    command = ["compare", *SMALL, *PLAIN, "--evaluations", "accuracy", "--regularizers", "every_hook"]
    main([*command, "--strengths", "0.5", "--out", "out"])
    row = read(tmp_path / "out" / "result.json")["rows"][0]
    assert row["facts"] == {"regularizer": "every_hook", "strength": 0.5, "seed": 0}
    trained = open_run(tmp_path / "out" / "every_hook-seed0").load()
    assert isinstance(trained.subject.model, own.Doubled)
    state = trained.phases["train"].state
    assert state.model_state["regularizer"] == {"strength": 0.5, "penalties": 4}
    # The update of the last step, counted from 0, has written what it knew.
    assert trained.params["inner"]["Dense_0"]["bias"][:2].tolist() == [4, 3]


def test_a_users_own_is_named_by_its_path(tmp_path, capsys):
    flags = [*PLAIN, "--regularizer", "tests.absum.own:every_hook"]
    message = (
        "no strength of regularizer 'tests.absum.own:every_hook' was chosen for model 'tests.absum.own:plain'"
    )
    assert message in fails(capsys, "train", *SMALL, *flags, "--out", "net")
    main(["train", *SMALL, *flags, "--strength", "0.5"])
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name == "train-tests.absum.own-every_hook-tiny-tests.absum.own-plain"
    assert read(directory / "config.json")["identity"]["regularizer"] == "tests.absum.own:every_hook"
