"""A network in its directory: what makes it what it is, what is lost and damaged, and what is refused."""

import dataclasses
import functools
import json
import re
import shutil
import sys

import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.config import Training
from experiments.absum.models import MODELS
from experiments.absum.run import open_run
from experiments.data.image_sets import IMAGE_SETS
from tests.absum import own
from tests.absum.conftest import image_set
from tests.absum.settings import ATTACK, NETWORK, SMALL
from tests.command_line import error_line, only, read

fails = functools.partial(error_line, main)
EVALUATE = ["evaluate", "--run", "net", *ATTACK]
ACCURACY = ["evaluate", "--run", "net", "--evaluations", "accuracy"]


def files(directory):
    """What lies in a directory, with when each file was written and what it holds."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def change(path, **settings):
    path.write_text(json.dumps(read(path) | settings))


def inverted(splits):
    train_images, train_labels, test_images, test_labels = splits
    return 255 - train_images, train_labels, 255 - test_images, test_labels


def test_the_same_command_finds_everything_done(network):
    before = files(network)
    main(NETWORK)
    assert files(network) == before


def test_evaluating_elsewhere_leaves_a_network_as_it_is(network, tmp_path):
    before, directories = files(network), sorted(network.rglob("*"))
    main([*EVALUATE, "--out", "elsewhere"])
    assert files(network) == before
    assert sorted(network.rglob("*")) == directories
    # Measured there, not copied: the same numbers.
    there, here = (only(each / "evaluations" / "fourier") for each in (tmp_path / "elsewhere", network))
    assert read(there / "numbers.json")["numbers"] == read(here / "numbers.json")["numbers"]


@pytest.mark.parametrize("text", [None, "", "{", '{"epoch": 1, "step": "four"}\n', '{"epoch": 9}\n' * 9])
def test_lost_or_damaged_metrics_are_written_again(network, text):
    path = network / "metrics.jsonl"
    before = path.read_bytes()
    path.unlink()
    if text is not None:
        path.write_text(text)
    main([*ACCURACY, "--out", "elsewhere"])  # which does not need them
    main(NETWORK)
    assert path.read_bytes() == before


def lose_metadata(checkpoint):
    (checkpoint / "state" / "_METADATA").unlink()


def lose_data(checkpoint):
    shutil.rmtree(checkpoint / "state" / "ocdbt.process_0")
    shutil.rmtree(checkpoint / "state" / "d")


def cut_data_short(checkpoint):
    for path in [*checkpoint.rglob("d/*")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_position(checkpoint):
    (checkpoint / "position" / "metadata").write_text('{"lines": ')


def change_position(checkpoint):
    (checkpoint / "position" / "metadata").write_text('{"unknown": 1}')


@pytest.mark.parametrize(
    "damage",
    [lose_metadata, lose_data, cut_data_short, damage_position, change_position],
    ids=lambda f: f.__name__,
)
def test_a_damaged_checkpoint_is_one_line_with_a_way_out(network, capsys, monkeypatch, damage):
    # What reads the other arrays, in threads, finds its event loop closed; a user does not see that.
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: None)
    (checkpoint,) = (network / "checkpoints").iterdir()
    damage(checkpoint)
    for command in (NETWORK, EVALUATE):
        message = fails(capsys, *command)
        assert "the checkpoint of step 4 in" in message
        assert "is damaged" in message
        assert message.endswith("start over with --force")
    main([*NETWORK, "--force"])
    main(ACCURACY)


def test_a_checkpoint_of_another_model_is_named(network, capsys, monkeypatch):
    monkeypatch.setitem(MODELS, "narrow", dataclasses.replace(MODELS["narrow"], build=own.plain.build))
    message = fails(capsys, *EVALUATE)
    assert "is of another model: params/Conv_0/bias has shape (2,), expected (4,)" in message


def test_an_unfinished_network_is_not_evaluated(network, capsys):
    config = read(network / "config.json")
    for part in ("identity", "settings"):
        config[part]["training"]["epochs"] = 3
    config["identity"]["schedule"] = "the learning rate falls over all of 3 epochs"
    del config["identity"]["training"]["epochs"]
    (network / "config.json").write_text(json.dumps(config))
    message = fails(capsys, *EVALUATE)
    assert "has finished 1 of 3 epochs; repeat the command that trained it" in message


@pytest.mark.parametrize("epochs", ["2", "9"])
def test_another_number_of_epochs_is_refused_with_the_reason(network, capsys, epochs):
    before = files(network)
    message = fails(capsys, *NETWORK, "--epochs", epochs)
    assert f"schedule is 'the learning rate falls over all of 1 epochs' there, '{'the learning rate'}" in message
    assert f"over all of {epochs} epochs' here" in message
    assert "--force" in message
    assert files(network) == before


def test_other_settings_are_refused_unless_forced(network, capsys):
    assert "training.momentum is 0.9 there, 0.5 here" in fails(capsys, *NETWORK, "--momentum", "0.5")
    message = fails(capsys, *NETWORK, "--seed", "1")
    assert "seed is 0 there, 1 here" in message
    assert "--force" in message
    (network / "notes.txt").write_text("mine")
    main([*NETWORK, "--seed", "1", "--force"])
    assert read(network / "config.json")["identity"]["seed"] == 1
    assert (network / "notes.txt").read_text() == "mine"
    assert not (network / "evaluations").exists()  # those of the other seed


def test_what_no_config_vouches_for_is_neither_taken_nor_removed(network, capsys):
    (network / "config.json").unlink()
    before = files(network)
    for command in (NETWORK, [*NETWORK, "--force"]):
        message = fails(capsys, *command)
        assert "has checkpoints but no config.json" in message
        assert "choose another --out, or move it away" in message
    assert "net holds no run of absum: it has no config.json" in fails(capsys, *EVALUATE)
    assert files(network) == before


@pytest.mark.parametrize(
    "text", ['{"mine": 1}', '{"experiment": "sigsoftmax", "identity": {}, "settings": {}}', '{"identity": {}}']
)
def test_a_config_of_somebody_else_is_refused(tmp_path, capsys, text):
    for directory in ("net", "out/none-seed0"):
        (tmp_path / directory / "checkpoints").mkdir(parents=True)
        (tmp_path / directory / "config.json").write_text(text)
    before = files(tmp_path)
    for more in ([], ["--force"]):
        assert "net/config.json is not the config of a run of absum" in fails(capsys, *NETWORK, *more)
        message = fails(capsys, *SMALL, *ATTACK, "--out", "out", *more)
        assert "out/none-seed0/config.json is not the config of a run of absum" in message
    assert "is not the config of a run of absum" in fails(capsys, *EVALUATE)
    assert files(tmp_path) == before


def test_a_damaged_config_is_named(network, capsys):
    config = read(network / "config.json")
    settings = config["settings"]
    for text, message in {
        "[]": "must hold an object",
        "{": "damaged",
        '{"epochs": 1}': "is not the config of a run",
        json.dumps(config | {"settings": {"epoch": 1}}): "has unknown settings: epoch",
        json.dumps(config | {"settings": settings | {"seed": "one"}}): "settings.seed must be of type int",
    }.items():
        (network / "config.json").write_text(text)
        line = fails(capsys, *EVALUATE)
        assert "net/config.json" in line
        assert message in line
    assert "nowhere holds no run of absum" in fails(capsys, "evaluate", "--run", "nowhere")


def test_a_damaged_config_has_a_way_out(network, capsys):
    (network / "config.json").write_text("{")
    for more in ([], ["--force"]):
        assert "net/config.json is damaged" in fails(capsys, *NETWORK, *more)
    (network / "config.json").unlink()
    shutil.rmtree(network)
    main(NETWORK)


def test_other_images_of_the_same_name_are_not_taken_for_the_same(network, capsys, monkeypatch, splits):
    monkeypatch.setitem(IMAGE_SETS, "tiny", image_set(inverted(splits)))
    assert "train_checksum is" in fails(capsys, *NETWORK)
    assert "train_checksum is" in fails(capsys, *EVALUATE)


def test_other_data_are_evaluated_and_not_taken_for_its_own(network, tmp_path, monkeypatch, splits):
    main(ACCURACY)
    before = read(network / "result.json")["rows"][0]
    monkeypatch.setitem(IMAGE_SETS, "other", image_set(inverted(splits)))
    main([*ACCURACY, "--other-data", "other"])
    attacked = read(network / "result.json")
    assert attacked["dataset"]["name"] == "other"
    assert attacked["rows"][0]["accuracy"]["correct"] != before["accuracy"]["correct"]
    main(ACCURACY)
    assert read(network / "result.json")["rows"][0] == before


def test_other_data_of_another_shape_are_refused(network, capsys, monkeypatch, splits):
    train_images, train_labels, test_images, test_labels = splits
    smaller = train_images[:, 1:], train_labels, test_images[:, 1:], test_labels
    monkeypatch.setitem(IMAGE_SETS, "smaller", image_set(smaller))
    message = fails(capsys, *ACCURACY, "--other-data", "smaller")
    assert "--other-data smaller must have images of the run's shape (16, 16, 1), got (15, 16, 1)" in message


def test_moved_data_are_given_again_and_missing_ones_asked_for(network, capsys, tmp_path):
    config = read(network / "config.json")
    config["settings"]["training"] |= {"data": "mnist", "data_dir": "gone"}
    (network / "config.json").write_text(json.dumps(config))
    for command in (["evaluate"], ["export"]):
        line = fails(capsys, *command, "--run", str(network))
        assert "gone: must be a directory" in line
        assert f"--data-dir must be where the images of {network} lie now" in line
        assert "moved: must be a directory" in fails(
            capsys, *command, "--run", str(network), "--data-dir", "moved"
        )
    config["settings"]["training"]["data"] = "tiny"
    (network / "config.json").write_text(json.dumps(config))
    line = fails(capsys, *EVALUATE, "--other-data-dir", "moved")
    assert "--other-data must be given with --other-data-dir moved" in line


def test_nothing_is_written_over_the_result_of_another_command(comparison, network, capsys, tmp_path):
    before = (comparison.path / "result.json").read_bytes()
    message = "is not a result of absum evaluate; choose another --out"
    assert message in fails(capsys, *EVALUATE, "--out", str(comparison.path))
    assert (comparison.path / "result.json").read_bytes() == before
    select = ["select", *SMALL, "--fourier.images", "4", "--strengths"]
    assert "holds a single run" in fails(capsys, *select, "1", "--out", str(network))
    assert "is not a result of absum select" in fails(capsys, *select, "1", "--out", str(comparison.path))
    assert "--strengths must be different" in fails(capsys, *select, "0.01", "0.0100000001", "--out", "chosen")
    assert not (tmp_path / "chosen").exists()
    (network / "result.json").write_text("")
    assert "remove it, or choose another --out" in fails(capsys, *EVALUATE)


def test_a_parameter_that_is_not_a_number_ends_training(tmp_path, capsys):
    message = fails(capsys, *NETWORK, "--regularizer", "tests.absum.own:breaks_kernels", "--strength", "1")
    # It is so since the last step, so that the losses say nothing.
    assert "after step 4 a parameter is not finite; no checkpoint was saved before; lower the learning" in message
    assert not list((tmp_path / "net" / "checkpoints").iterdir())


def test_kernels_of_zeros_give_no_bare_nan(tmp_path, capsys):
    model = ["--model", "tests.absum.own:plain", "--evaluations", "accuracy"]
    main([*SMALL, *model, "--regularizers", "l1", "--strengths", "1000", "--out", "out"])
    (row,) = read(tmp_path / "out" / "result.json")["rows"]
    assert row["accuracy"]["absum_ratio"] is None  # of nothing
    assert not re.search(r"\bnan\b", capsys.readouterr().out)
    require_no_nan(tmp_path)


def test_no_bare_nan_anywhere(comparison):
    require_no_nan(comparison.path)


def require_no_nan(directory):
    def refuse(constant):
        raise AssertionError(constant)

    paths = [*directory.rglob("*.json"), *directory.rglob("*.jsonl")]
    assert paths
    for path in paths:
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=refuse)


def test_a_network_is_what_was_trained(comparison):
    trained = open_run(comparison.path / "absum-seed1").load()
    assert trained.subject.label == "absum, seed 1"
    assert trained.subject.facts == {"regularizer": "absum", "strength": 0.003, "seed": 1}
    assert [line["step"] for line in trained.lines] == [4]
    other = open_run(comparison.path / "absum-seed2").load()
    kernels = [each.params["Conv_0"]["kernel"] for each in (trained, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3  # another seed, another network


def test_the_validation_images_are_those_that_were_not_trained_on(comparison, splits):
    subject = open_run(comparison.path / "absum-seed1").subject
    validation, labels = subject.images("validation")
    assert len(labels) == 32
    data = subject.phases()["train"](None).data
    trained_on = np.concatenate([batch["images"] for batch in data.epoch(0, 0)])
    together = np.concatenate([validation, trained_on]).reshape(160, -1)
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(splits[0].reshape(160, -1), axis=0))


def test_the_path_of_own_images_does_not_augment_them():
    names = {"cifar10": True, "tfds:cifar100": True, "npz:cifar.npz": False, "folder:cifar": False, "svhn": False}
    assert {name: Training(data=name).augments for name in names} == names
    assert Training(data="npz:cifar.npz", augment=True).augments
