"""The regularisers: their formulas, on the convolution kernels alone, and a user's own with every hook."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import clip_singular_values
from experiments.absum.__main__ import main
from experiments.absum.regularizers import REGULARIZERS, absum_ratio, find_regularizer
from experiments.absum.run import open_run
from experiments.absum.task import make_task
from experiments.training.step import compile_step, create_state
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
        ("spectral_norm", lambda k: k),
        ("spectral_clip", lambda k: k),  # not after step 7
        ("mean_subtraction", lambda k: k),
        ("brightness", lambda k: k),
        ("gaussian_noise", lambda k: k),
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


@pytest.mark.parametrize("name", [name for name in REGULARIZERS if name != "spectral_norm"])
def test_penalties(params, name):
    sums = np.abs(np.asarray(params["Conv_0"]["kernel"], np.float64).sum((0, 1))).sum()
    regularizer = REGULARIZERS[name]
    state = regularizer.init(params, STRENGTH)
    value, after = regularizer.penalty(params, state)
    np.testing.assert_allclose(value, STRENGTH * sums if name == "absum_penalty" else 0, rtol=1e-6)
    assert after == state


def test_the_spectral_penalty_follows_the_operator_norm_from_step_to_step(params):
    regularizer = REGULARIZERS["spectral_norm"]
    state = regularizer.init(params, STRENGTH)
    step = jax.jit(jax.value_and_grad(regularizer.penalty, has_aux=True))
    for _ in range(60):
        (value, state), gradient = step(params, state)
    kernel = np.asarray(params["Conv_0"]["kernel"], np.float64)
    response = np.fft.fft2(kernel, (16, 16), axes=(0, 1))
    norms = np.linalg.svd(response, compute_uv=False)
    np.testing.assert_allclose(value, STRENGTH * norms.max() ** 2 / 2, rtol=1e-3)  # 60 iterations
    # The penalty is quadratic in the kernel: its slope along the kernel itself is twice its value.
    along = jnp.sum(gradient["Conv_0"]["kernel"] * params["Conv_0"]["kernel"])
    np.testing.assert_allclose(along, 2 * value, rtol=1e-5)
    np.testing.assert_array_equal(gradient["Dense_0"]["kernel"], 0)


def test_singular_values_are_clipped_every_hundredth_step(params):
    regularizer = REGULARIZERS["spectral_clip"]
    state = regularizer.init(params, 1.5)
    after = jax.jit(regularizer.after_update)(params, state, RATE, 99)
    expected = clip_singular_values(params["Conv_0"]["kernel"], (16, 16), 1.5)
    np.testing.assert_allclose(after["Conv_0"]["kernel"], expected, atol=1e-6)
    assert np.abs(after["Conv_0"]["kernel"] - params["Conv_0"]["kernel"]).max() > 0.1
    np.testing.assert_array_equal(after["Dense_0"]["kernel"], params["Dense_0"]["kernel"])


def test_brightness_moves_all_pixels_of_an_image_by_one_number():
    keys, images = jax.random.split(jax.random.key(0), 200), np.full((200, 2, 2, 1), 0.5, np.float32)
    images[:, 0, 0] = 0.6
    moved = np.asarray(REGULARIZERS["brightness"].augment(keys, images, {"strength": 0.3})) - images
    np.testing.assert_allclose(moved, moved[:, :1, :1].repeat(2, 1).repeat(2, 2), atol=1e-6)
    shifts = moved[:, 0, 0, 0]
    # Uniform within +-0.3: mean 0 and standard deviation 0.173, of 200 to five standard errors.
    assert -0.3 <= shifts.min() < shifts.max() <= 0.3
    np.testing.assert_allclose([shifts.mean(), shifts.std()], [0, 0.3 / 3**0.5], atol=0.06)


def test_gaussian_noise_has_a_scale_for_each_image():
    keys, images = jax.random.split(jax.random.key(0), 200), np.full((200, 16, 16, 1), 0.5, np.float32)
    added = np.asarray(REGULARIZERS["gaussian_noise"].augment(keys, images, {"strength": 0.1})) - images
    scales = added.std((1, 2, 3))
    assert scales.max() < 0.115  # 0.1, of 256 pixels to three standard errors
    np.testing.assert_allclose([scales.mean(), added.mean()], [0.05, 0], atol=0.01)


def test_without_its_mean_brightness_does_not_reach_a_model():
    model = REGULARIZERS["mean_subtraction"].wrap_model(own.Net(3, (0.5,), (0.25,), 0.0))
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, images + 0.2), apply(variables, images), atol=1e-5)
    assert set(variables["params"]) == {"inner"}


def test_what_has_nothing_to_weigh():
    assert [name for name, each in REGULARIZERS.items() if not each.has_strength] == ["none", "mean_subtraction"]


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


@pytest.mark.parametrize("name", [name for name, each in REGULARIZERS.items() if each.has_strength])
def test_every_regularizer_trains(name):
    """In the step of a run; a smaller one than that of a command, which takes long to compile."""
    task = make_task(
        own.Net(3, (0.5,), (0.25,), 0.0), REGULARIZERS[name], (8, 8, 1),
        augment=False, learning_rate=0.1, momentum=0.9, num_steps=2,
    )  # fmt: skip
    devices = jax.devices()[:1]
    state = create_state(task, 0, devices, numbers=np.float32(0.1))
    before = jax.device_get(state.params)
    step = compile_step(task, devices=devices, mapped=False)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    for _ in range(2):
        state, metrics = step(state, {"images": images, "labels": np.array([0, 1, 2, 0], np.int32)})
        assert np.isfinite(metrics["loss"].total)
    assert state.model_state["regularizer"]["strength"] == np.float32(0.1)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        assert np.all(np.isfinite(new))
        assert np.any(new != old)


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
