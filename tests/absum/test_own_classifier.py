"""A classifier of a user's own: its parameters from every kind of file, and the numbers of every evaluation."""

import functools

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from experiments.absum.__main__ import main
from experiments.absum.own_classifier import OwnClassifier, load_params
from experiments.absum.run import open_run, variables
from tests.absum import own
from tests.command_line import error_line, read

fails = functools.partial(error_line, main)
COMMAND = ["evaluate-own", "--data", "tiny"]
FOURIER = ["--evaluations", "accuracy", "fourier", "--fourier.images", "24", "--fourier.epsilons", "0.1", "0.3"]


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, own.variables())


def write(kind, params, tmp_path):
    path = tmp_path / f"given.{kind}"
    if kind == "msgpack":
        path.write_bytes(flax.serialization.to_bytes(params))
    elif kind == "npz":
        np.savez(path, **flax.traverse_util.flatten_dict(params, sep="/"))
    else:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(path.absolute(), params)
    return str(path)


@pytest.mark.parametrize("kind", ["msgpack", "npz", "orbax"])
def test_parameters_are_read_from_every_kind_of_file(params, tmp_path, kind):
    found = load_params(write(kind, params, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_a_trained_network_has_the_same_numbers_when_it_is_brought_from_elsewhere(network, tmp_path, monkeypatch):
    trained = open_run(network).load()
    monkeypatch.setattr(own, "predict", trained.subject.model.apply)
    # The same images stand for validation images as in the run.
    monkeypatch.setattr(OwnClassifier, "images", lambda self, split: trained.subject.images(split))
    given = write("msgpack", variables(trained), tmp_path)
    main([*COMMAND, "--predict", "tests.absum.own:predict", "--params", given, "--out", "own", *FOURIER])
    result = read(tmp_path / "own" / "result.json")
    assert (result["params"]["name"], len(result["params"]["checksum"])) == ("given.msgpack", 8)
    assert str(tmp_path) not in (tmp_path / "own" / "result.json").read_text()
    row = result["rows"][0]
    main(["evaluate", "--run", str(network), "--out", "known", *FOURIER])
    known = read(tmp_path / "known" / "result.json")["rows"][0]
    assert row["facts"] == {"model": "tests.absum.own:predict"}
    assert (row["accuracy"], row["fourier"]) == (known["accuracy"], known["fourier"])


def test_another_function_of_the_same_parameters_is_measured_itself(tmp_path, monkeypatch):
    command = [*COMMAND, "--params", "tests.absum.own:variables", "--evaluations", "accuracy", "--out", "own"]

    def correct(name):
        main([*command, "--predict", f"tests.absum.own:{name}"])
        return read(tmp_path / "own" / "result.json")["rows"][0]["accuracy"]["correct"]

    monkeypatch.setattr(own, "opposite", lambda params, images: -own.predict(params, images), raising=False)
    assert correct("predict") != correct("opposite")
    # The same function is measured again where its file has changed since, and not where it has not.
    stored = tmp_path / "own" / "evaluations" / "accuracy"
    before = {path: path.stat().st_mtime_ns for path in stored.rglob("*")}
    correct("opposite")
    assert {path: path.stat().st_mtime_ns for path in stored.rglob("*")} == before
    assert len(list(stored.iterdir())) == 2
    (tmp_path / "changed.py").write_text("")
    monkeypatch.setattr(own, "__file__", str(tmp_path / "changed.py"))
    correct("opposite")
    assert len(list(stored.iterdir())) == 3


def test_kernels_of_a_layout_that_is_not_known_leave_out_the_filter_sum_ratio(tmp_path, monkeypatch, capsys):
    weights = {"conv": {"weight": np.ones((10, 1, 16, 16), np.float32)}}
    monkeypatch.setattr(own, "torch", lambda: weights, raising=False)
    monkeypatch.setattr(
        own,
        "inner_products",
        lambda params, images: jnp.einsum("nhwi,oihw->no", images, params["conv"]["weight"]),
        raising=False,
    )
    given = ["--predict", "tests.absum.own:inner_products", "--params", "tests.absum.own:torch"]
    main([*COMMAND, *given, "--evaluations", "accuracy", "--out", "own"])
    (row,) = read(tmp_path / "own" / "result.json")["rows"]
    assert row["accuracy"]["absum_ratio"] is None
    assert list(row["cells"]) == ["test"]
    assert "no filter-sum ratio: spatial_axes must be given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--predict": "tests.absum.own:missing"}, "--predict 'tests.absum.own:missing' cannot be imported"),
        ({"--predict": "predict"}, "--predict must be package.module:name, got 'predict'"),
        ({"--predict": "tests.absum.own:predict_five"}, "must give logits (2, 10), got"),
        ({"--params": "nothing.npz"}, "--params must be a file, a directory or package.module:function"),
        ({"--params": "tests.absum.own:nothing"}, "--params 'tests.absum.own:nothing' cannot be imported"),
        ({"--params": "tests.absum.own:plain"}, "--params tests.absum.own:plain must name a function, got Model"),
        ({"--params": "damaged.npz"}, "--params damaged.npz cannot be read"),
        ({"--params": "damaged.msgpack"}, "--params damaged.msgpack cannot be read"),
        ({"--params": "tests.absum.own:too_few"}, "must take the parameters and images"),
        ({"--data": "huge"}, "data set must be one of"),
    ],
)
def test_mistakes(tmp_path, capsys, monkeypatch, changes, message):
    monkeypatch.setattr(own, "too_few", lambda: {"params": {}}, raising=False)
    for name in ("damaged.npz", "damaged.msgpack"):
        (tmp_path / name).write_bytes(b"\xc1PK")
    flags = {"--predict": "tests.absum.own:predict", "--params": "tests.absum.own:variables", "--data": "tiny"}
    arguments = [each for pair in (flags | changes).items() for each in pair]
    assert message in fails(capsys, "evaluate-own", *arguments, "--out", "out", *FOURIER)
    assert not (tmp_path / "out").exists()
