"""The command line of the first experiment, on a little data, as its user would run it."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from experiments.absum import network as network_room
from experiments.absum.__main__ import main
from experiments.data import images as images_room
from experiments.data.images import ImageDataset
from tests.command_line import error_line, read

SMALL = ["--epochs", "1", "--batch-size", "32", "--validation-size", "32", "--learning-rate", "0.02"]
ATTACK = ["--attack-images", "24", "--epsilons", "0.1", "0.3"]


def use(monkeypatch, dataset):
    """Let the command line find this data set under the name of the embedded one."""

    def load(name, *args, **options):
        return dataset if name == "embedded" else images_room.load_images(name, *args, **options)

    monkeypatch.setattr("experiments.absum.__main__.load_images", load)


@pytest.fixture(autouse=True)
def small_data(monkeypatch, tmp_path):
    """The embedded images, cut to 160 of 16x16 pixels: 130 frequencies."""
    whole = images_room.load_images("embedded")
    small = ImageDataset(
        "embedded", whole.train_images[:160, 6:22, 6:22], whole.train_labels[:160],
        whole.test_images[:40, 6:22, 6:22], whole.test_labels[:40], num_classes=10,
    )  # fmt: skip
    use(monkeypatch, small)
    monkeypatch.setattr(network_room, "build_model", _narrow)
    monkeypatch.chdir(tmp_path)
    return small


_build_model = network_room.build_model


def _narrow(name, *statistics):
    model = _build_model(name, *statistics)
    return model.clone(features=(2, 3, 8)) if name == "lenet" else model.clone(width=2)


fails = functools.partial(error_line, main)


def test_the_main_job(tmp_path, capsys):
    main([*SMALL, *ATTACK, "--augment", "True", "--regularizers", "none", "absum", "--out", "out"])
    out = tmp_path / "out"
    result = read(out / "result.json")
    assert set(result) == {"experiment", "config", "dataset", "model", "versions", "rows"}
    assert [row["regularizer"] for row in result["rows"]] == ["none", "absum"]
    row = result["rows"][1]
    assert set(row) >= {
        "regularizer", "strength", "seed", "clean_accuracy", "epsilons", "worst_accuracy", "worst_frequency",
        "mean_accuracy", "average_robust_accuracy", "train_seconds", "attack_seconds", "absum_ratio",
    }  # fmt: skip
    assert row["epsilons"] == [0.1, 0.3]
    np.testing.assert_allclose(row["average_robust_accuracy"], np.mean(row["worst_accuracy"]), atol=1e-6)
    assert all(len(frequency) == 2 for frequency in row["worst_frequency"])
    assert 0 < row["absum_ratio"] < result["rows"][0]["absum_ratio"] < 1
    for name in ("accuracy.png", "heatmaps.png", "attacked_images.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert len((out / "absum-seed0" / "metrics.jsonl").read_text().splitlines()) == 1
    assert (out / "absum-seed0" / "checkpoints").is_dir()
    assert read(out / "config.json")["regularizers"] == ["none", "absum"]
    printed = capsys.readouterr().out
    assert "worst at 0.3" in printed
    assert "average robust" in printed
    assert not list(out.rglob("*.tmp"))


def test_what_is_done_is_used_again_and_force_starts_over(tmp_path, capsys):
    command = [*SMALL, *ATTACK, "--regularizers", "absum", "--out", "out"]
    main(command)
    cell = tmp_path / "out" / "absum-seed0"
    first = read(tmp_path / "out" / "result.json")
    row_time = (cell / "row.json").stat().st_mtime_ns
    main(command)
    assert (cell / "row.json").stat().st_mtime_ns == row_time
    assert read(tmp_path / "out" / "result.json")["rows"] == first["rows"]

    message = fails(capsys, *command, "--momentum", "0.5")
    assert "momentum is 0.9 there, 0.5 here" in message
    assert "--force" in message

    main([*command, "--epsilons", "0.2"])  # another attack goes on from the same network
    again = read(tmp_path / "out" / "result.json")["rows"][0]
    assert again["epsilons"] == [0.2]
    assert again["train_seconds"] == first["rows"][0]["train_seconds"]

    main([*command, "--momentum", "0.5", "--force"])
    assert read(cell / "config.json")["momentum"] == 0.5


def test_train_then_attack(tmp_path, capsys):
    main(["train", *SMALL, "--regularizer", "l1", "--strength", "0.002", "--seed", "3", "--out", "net"])
    assert not (tmp_path / "net" / "result.json").exists()
    main(["attack", "--run", "net", *ATTACK, "--out", "attacked"])
    row = read(tmp_path / "attacked" / "result.json")["rows"][0]
    assert (row["regularizer"], row["strength"], row["seed"]) == ("l1", 0.002, 3)
    assert row["epsilons"] == [0.1, 0.3]
    assert "has model 'lenet', not 'resnet18'" in fails(capsys, "attack", "--run", "net", "--model", "resnet18")


def test_a_checkpoint_of_another_model_is_named(tmp_path, capsys, monkeypatch):
    main(["train", *SMALL, "--out", "net"])
    monkeypatch.setattr(network_room, "build_model", lambda *args: _build_model(*args).clone(features=(2, 4, 8)))
    message = fails(capsys, "attack", "--run", "net", *ATTACK)
    assert "is of another model: params/Conv_1/bias has shape (3,), expected (4,)" in message


def invert(dataset):
    return dataclasses.replace(
        dataset, train_images=255 - dataset.train_images, test_images=255 - dataset.test_images
    )


def test_other_data_are_attacked_anew_and_never_taken_for_the_same(tmp_path, capsys, monkeypatch, small_data):
    main(["train", *SMALL, "--out", "net"])
    main(["attack", "--run", "net", *ATTACK])
    own = read(tmp_path / "net" / "result.json")["rows"][0]
    other = dataclasses.replace(invert(small_data), name="other")
    monkeypatch.setattr(
        "experiments.absum.__main__.load_images", lambda name, *_, **__: other if name == "mnist" else small_data
    )
    main(["attack", "--run", "net", *ATTACK, "--data", "mnist", "--out", "other"])
    attacked = read(tmp_path / "other" / "result.json")
    assert attacked["dataset"]["name"] == "other"
    assert attacked["rows"][0]["test_accuracy"] != own["test_accuracy"]
    main(["attack", "--run", "net", *ATTACK])
    assert read(tmp_path / "net" / "result.json")["rows"][0]["worst_accuracy"] == own["worst_accuracy"]

    use(monkeypatch, invert(small_data))  # the same name, other images: another --data-dir
    assert "training_data_checksum is" in fails(capsys, "train", *SMALL, "--out", "net")
    assert "training_data_checksum is" in fails(capsys, "attack", "--run", "net", *ATTACK)


def test_an_unfinished_network_is_not_attacked(tmp_path, capsys):
    main(["train", *SMALL, "--out", "net"])
    config = read(tmp_path / "net" / "config.json")
    (tmp_path / "net" / "config.json").write_text(json.dumps(config | {"epochs": 3}))
    assert "has finished 1 of 3 epochs" in fails(capsys, "attack", "--run", "net", *ATTACK)


def test_damaged_files_are_named(tmp_path, capsys):
    main(["train", *SMALL, "--out", "net"])
    damages = {"[]": "expected an object", "{": "damaged", '{"epochs": 1}': "missing settings"}
    for damaged, message in damages.items():
        (tmp_path / "net" / "config.json").write_text(damaged)
        line = fails(capsys, "attack", "--run", "net")
        assert "net/config.json" in line
        assert message in line


def test_a_comparison_does_not_overwrite_a_network(tmp_path, capsys):
    main(["train", *SMALL, "--out", "net"])
    before = (tmp_path / "net" / "config.json").read_text()
    assert "holds a single network" in fails(capsys, *SMALL, *ATTACK, "--out", "net")
    assert (tmp_path / "net" / "config.json").read_text() == before


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, "train", *SMALL, "--out", "file/net")


def test_select_looks_at_validation_images_only(tmp_path, monkeypatch, small_data):
    command = ["select", *SMALL, "--attack-images", "16", "--epsilons", "0.2", "--strengths", "0", "1000"]
    main([*command, "--out", "first"])
    selection = read(tmp_path / "first" / "selection.json")
    assert [row["strength"] for row in selection["rows"]] == [0, 1000]
    best = max(selection["rows"], key=lambda row: row["average_robust_accuracy"])
    assert selection["best"] == best["strength"]
    other = dataclasses.replace(small_data, test_images=255 - small_data.test_images)
    use(monkeypatch, other)
    main([*command, "--out", "second"])
    assert read(tmp_path / "second" / "selection.json")["rows"] == selection["rows"]


@pytest.mark.parametrize("name", ["weight_decay", "decoupled_weight_decay", "absum_penalty"])
def test_other_regularizers_train(tmp_path, name):
    main(["train", *SMALL, "--regularizer", name, "--strength", "0.1", "--out", name])
    last = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(last["train_loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regularizers", "none", "absurd"], "unknown regularizer 'absurd'; expected one of none, weight_decay"),
        (["train", "--strength", "-1"], "--strength must be finite and not negative, got -1.0"),
        (["--epsilons", "-0.1"], "--epsilons must lie in [0, 1]"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--model", "vgg"], "--model 'vgg' is unknown; expected one of lenet, resnet18"),
        (["--data", "imagenet"], "unknown data set 'imagenet'"),
        (["--data", "mnist"], "mnist needs a data directory"),
        (["train", "--batch-size", "12"], "--batch-size 12 is not a multiple of the 8 devices"),
        (["--attack-images", "41"], "--attack-images 41 is more than the 40 test images"),
        (["--learning-rate", "0"], "--learning-rate must be positive"),
        (["--strengths", "0.1"], "--strengths must be one for each of 4 regularizers"),
        ([*ATTACK, "--strengths", "0", "0.1", "-1", "0"], "--strength must be finite and not negative"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["attack", "--run", "nowhere"], "nowhere holds no trained network"),
        (["train", "--regularizer", "none", "--strength", "1"], "regularizer 'none' has strength 0, got 1.0"),
        (["train", "--distributed"], "--distributed needs a cluster"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, capsys, arguments, message):
    assert message in fails(capsys, *arguments)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_help_names_all_commands_and_flags(capsys):
    for arguments, words in [
        (["--help"], ["compare", "train", "attack", "select"]),
        (["compare", "--help"], ["--out", "--data", "--data-dir", "--model", "--epochs", "--seed", "--force"]),
        (["train", "--help"], ["--regularizer", "--strength"]),
        (["attack", "--help"], ["--run", "--out", "--data", "--data-dir", "--model", "--epochs", "--seed"]),
    ]:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words)
