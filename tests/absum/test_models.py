"""The networks in their standard form, and a user's own."""

import functools
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import conv_kernel_mask
from experiments.absum.__main__ import main
from experiments.absum.models import MODELS, LeNet, Model, Normalize, find_model, max_pool_2x2
from experiments.absum.run import build_model, open_run, variables
from tests.absum import own
from tests.absum.conftest import entries
from tests.absum.settings import ATTACK, SMALL
from tests.command_line import error_line, read

fails = functools.partial(error_line, main)


def parameter_count(name, shape, num_classes=10):
    model = build_model(name, "none", num_classes, (0.5,) * shape[-1], (0.25,) * shape[-1])
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits = jax.eval_shape(model.apply, variables, images)
    assert logits.shape == (2, num_classes)
    kernels = sum(jax.tree.leaves(conv_kernel_mask(variables["params"])))
    return kernels, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameter_counts():
    # LeNet: 5*5*20+20, 5*5*20*50+50, 4*4*50*500+500, 500*10+10.
    assert parameter_count("lenet", (28, 28, 1)) == (2, 520 + 25_050 + 400_500 + 5_010)
    # ResNet-18 with 3x3 stem: 11,173,962 with biases in the head alone, as is commonly reported for CIFAR-10.
    assert parameter_count("resnet18", (32, 32, 3)) == (20, 11_173_962)
    # Convolutions 464, 4,672, 14,528 and 57,728 with their normalisations, and 650 of the last layer.
    assert parameter_count("resnet8", (32, 32, 3)) == (9, 78_042)


def test_pooling_takes_the_largest_and_drops_an_odd_edge():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = np.stack(
        [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(3)] for i in range(2)]
    ).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(max_pool_2x2(jnp.asarray(x)), expected)


def test_normalisation():
    images = jnp.full((1, 2, 2, 2), 0.75)
    result = Normalize((0.25, 0.5), (0.5, 0.125)).apply({}, images)
    np.testing.assert_allclose(result[0, 0, 0], [1.0, 2.0])


def test_bad_input():
    with pytest.raises(ValueError, match=r"--model must be one of lenet, resnet8, resnet18, .* got 'vgg'"):
        find_model("vgg")
    with pytest.raises(ValueError, match=r"--model 'tests.absum.own:Missing' cannot be imported"):
        find_model("tests.absum.own:Missing")
    with pytest.raises(ValueError, match=r"--model 'no.such.package:Net' cannot be imported"):
        find_model("no.such.package:Net")
    with pytest.raises(ValueError, match="must name a flax module class or a Model, got str"):
        find_model("tests.absum.own:not_a_regularizer")
    images = jax.ShapeDtypeStruct((1, 12, 12, 1), jnp.float32)
    with pytest.raises(ValueError, match="at least 16x16 pixels"):
        jax.eval_shape(LeNet(10, (0.5,), (0.25,)).init, jax.random.key(0), images)


def test_an_own_class_has_no_strengths_and_an_own_entry_keeps_them():
    assert find_model("tests.absum.own:Net") == Model(own.Net)
    assert find_model("tests.absum.own:plain").strengths == {"absum": 0.125}
    assert find_model("lenet") is MODELS["lenet"]


@pytest.fixture(scope="module")
def own_network(tmp_path_factory, splits):
    """A network of a user's own class, trained without a regulariser by the command, on crops."""
    directory = tmp_path_factory.mktemp("own") / "net"
    flags = ["--model", "tests.absum.own:Net", "--regularizer", "none", "--augment", "True"]
    with entries(splits):
        main(["train", *SMALL, *flags, "--out", str(directory)])
    return directory


def test_an_own_model_trains_and_is_opened_again(own_network):
    assert read(own_network / "config.json")["identity"]["training"]["model"] == "tests.absum.own:Net"
    trained = open_run(own_network).load()
    assert isinstance(trained.subject.model, own.Net)
    assert int(trained.phases["train"].state.step) == 4


def test_a_strength_that_nobody_chose_is_asked_for(capsys, tmp_path):
    command = ["train", *SMALL, "--model", "tests.absum.own:Net", "--regularizer", "absum", "--out", "net"]
    message = "no strength of regularizer 'absum' was chosen for model 'tests.absum.own:Net': give --strength"
    assert message in fails(capsys, *command)
    assert not (tmp_path / "net").exists()
    # Of a comparison it is asked for before anything is trained, although its first network needs none.
    command = [
        *SMALL,
        *ATTACK,
        "--model",
        "tests.absum.own:Net",
        "--regularizers",
        "none",
        "absum",
        "--out",
        "net",
    ]
    assert message in fails(capsys, *command)
    assert not (tmp_path / "net").exists()


def test_an_exported_network_gives_its_own_logits(own_network, tmp_path):
    main(["export", "--run", str(own_network), "--out", "taken"])
    trained = open_run(own_network).load()
    images = trained.subject.images("test")[0][:2] / np.float32(255)
    np.save("images.npy", images)
    code = (
        "import runpy, numpy as np; loaded = runpy.run_path('taken/load.py');"
        " np.save('logits.npy', loaded['model'].apply(loaded['variables'], np.load('images.npy')))"
    )
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}, cwd=tmp_path,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert printed.stdout.startswith("[[")
    expected = trained.subject.model.apply(variables(trained), images)
    # Compiled in another process, for one device: sums may be taken in another order.
    np.testing.assert_allclose(np.load("logits.npy"), expected, rtol=1e-5, atol=1e-6)
    with np.load("taken/variables.npz") as arrays:
        kernel = arrays["params/Conv_0/kernel"]
    np.testing.assert_array_equal(kernel, trained.params["Conv_0"]["kernel"])


def test_what_loads_an_export_does_not_depend_on_where_it_is_run(own_network, tmp_path, monkeypatch, capsys):
    main(["export", "--run", str(own_network), "--out", "taken"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    runpy.run_path(str(tmp_path / "taken" / "load.py"))
    assert "[[" in capsys.readouterr().out
