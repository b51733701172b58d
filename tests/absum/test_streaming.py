"""Networks trained on images that stay on the disk: the bits of the whole set, from the rows that are needed."""

import dataclasses
import functools
import json
import os
import signal
import sys

import jax
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.config import Settings, Training
from experiments.absum.datasets import load_dataset
from experiments.absum.run import Classifier
from experiments.data.image_sets import IMAGE_SETS
from experiments.data.images import ImageDataset
from experiments.data.prepared import write_prepared
from tests.absum.settings import SMALL
from tests.command_line import error_line, read
from tests.same_files import differences

pytest.importorskip("tensorflow_datasets")
fails = functools.partial(error_line, main)
TRAIN = ["train", *SMALL, "--regularizer", "absum", "--epochs", "2", "--data", "tfds:mine"]
STEPS, BATCH = 4, 32  # of an epoch: 160 images without 32 for validation


@pytest.fixture(scope="module")
def sets(splits, tmp_path_factory):
    """The little set, prepared; only to be read."""
    path = tmp_path_factory.mktemp("sets")
    write_prepared(ImageDataset("mine", *splits, num_classes=10), path, "mine")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is known of any set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def watch(monkeypatch):
    """Let a function see the number of each training image before it is read by it."""

    def begin(look):
        entry = IMAGE_SETS["tfds"]

        def opened(*arguments):
            records = entry.open(*arguments)

            def read_one(row):
                look(row)
                return records.read(row)

            return dataclasses.replace(records, read=read_one)

        monkeypatch.setitem(IMAGE_SETS, "tfds", dataclasses.replace(entry, open=opened))

    return begin


@pytest.fixture
def rows(watch):
    """The numbers of the training images that are read one by one."""
    found = []
    watch(found.append)
    return found


def classifier(sets, stream=True):
    training = Training(data="tfds:mine", data_dir=sets, stream=stream, batch_size=BATCH, validation_size=32)
    return Classifier(Settings(training=training), load_dataset(training))


def test_a_streamed_network_has_the_bits_of_one_whose_images_were_in_memory(sets, tmp_path, rows, capsys):
    main([*TRAIN, "--data-dir", str(sets), "--out", "whole"])
    assert rows == []
    main([*TRAIN, "--data-dir", str(sets), "--out", "streamed", "--stream"])
    assert "looking at tfds:mine: 160/160 images in " in capsys.readouterr().err
    assert len(rows) == 160 + 32 + 2 * STEPS * BATCH  # once all, those for validation, two epochs
    streamed, whole = tmp_path / "streamed", tmp_path / "whole"
    assert differences(streamed, whole) == ["config.json differs"]
    one, other = read(streamed / "config.json"), read(whole / "config.json")
    assert one["identity"] == other["identity"]
    assert [each["settings"]["training"].pop("stream") for each in (one, other)] == [True, False]
    assert one == other
    # What is known of all images is kept, so that an evaluation reads the validation images at most.
    rows.clear()
    main(["evaluate", "--run", "streamed", "--evaluations", "accuracy", "--out", "of-streamed"])
    assert "looking at" not in capsys.readouterr().err
    assert len(rows) <= 32
    main(["evaluate", "--run", "whole", "--evaluations", "accuracy", "--out", "of-whole"])
    ours, theirs = (read(tmp_path / name / "result.json") for name in ("of-streamed", "of-whole"))
    assert ours["rows"] == theirs["rows"]
    assert ours["dataset"] == theirs["dataset"]
    # Either way it is the same run, which is done.
    before = (streamed / "metrics.jsonl").read_bytes()
    main([*TRAIN, "--data-dir", str(sets), "--out", "streamed"])
    assert (streamed / "metrics.jsonl").read_bytes() == before


def test_an_interrupted_network_goes_on_at_the_very_record(sets, tmp_path, rows, watch, capsys):
    command = [*TRAIN, "--data-dir", str(sets), "--stream"]
    main([*command, "--out", "uninterrupted"])
    rows.clear()
    signals = iter([signal.SIGTERM])

    def stop(row):
        # Within the first epoch, and once a step of it was taken, as no more than 64 images are read ahead.
        if len(rows) >= 3 * BATCH and next(signals, None):
            os.kill(os.getpid(), signal.SIGTERM)

    watch(stop)
    with pytest.raises(SystemExit) as exit_info:
        main([*command, "--out", "stopped"])
    assert exit_info.value.code == 143
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    step = int(checkpoint.name)
    assert 0 < step < STEPS
    rows.clear()
    main([*command, "--out", "stopped"])
    assert len(rows) == 32 + (2 * STEPS - step) * BATCH
    capsys.readouterr()
    assert differences(tmp_path / "stopped", tmp_path / "uninterrupted") == []


def test_each_process_reads_its_slices_alone(sets, rows, monkeypatch):
    whole = [batch["labels"] for batch in classifier(sets, stream=False)._training_data().epoch(1, 1)]
    subject, halves = classifier(sets), []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(jax, "process_index", lambda rank=rank: rank)
        rows.clear()
        halves.append([batch["labels"] for batch in subject._training_data().epoch(1, 1)])
        assert len(rows) == (STEPS - 1) * BATCH // 2
    for step, wanted in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([half[step] for half in halves]), wanted)


def test_a_record_that_is_damaged_later_is_one_line_and_keeps_what_was_saved(sets, tmp_path, watch, capsys):
    count = iter(range(10**6))

    def break_down(row):
        if next(count) == 160 + 32 + STEPS * BATCH + 40:  # in the second epoch
            raise ValueError(f"tfds:mine: split 'train' is damaged in record {row}")

    watch(break_down)
    command = [*TRAIN, "--data-dir", str(sets), "--stream", "--out", "net"]
    with pytest.raises(SystemExit) as exit_request:
        main(command)
    assert exit_request.value.code == 2
    # Above it is where the error comes from, as this file is not the project's.
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: tfds:mine: split 'train' is damaged in record ")
    assert len((tmp_path / "net" / "metrics.jsonl").read_text().splitlines()) == 1
    assert [path.name for path in (tmp_path / "net" / "checkpoints").iterdir()] == [str(STEPS)]


@pytest.mark.parametrize("command", ["train", "compare", "select"])
def test_what_cannot_be_streamed_is_one_line_before_anything_is_made(tmp_path, capsys, command):
    assert "--stream needs --data tfds:NAME" in fails(capsys, command, "--stream")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_line_before_anything_is_made(sets, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grain", None)
    line = fails(capsys, *TRAIN, "--data-dir", str(sets), "--stream", "--out", "net")
    assert "--stream needs grain, not installed; it comes with the extra 'data'" in line
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(sets, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file, where a folder would be")
    assert classifier(sets).dataset.train_count == 160
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("tfds:mine: the next command looks at all images again: ")


def test_a_signal_stops_the_look_at_all_images(sets, tmp_path, watch, capsys):
    watch(lambda row: row == 150 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as exit_info:
        main([*TRAIN, "--data-dir", str(sets), "--stream", "--out", "net"])
    assert exit_info.value.code == 130
    assert "SIGINT: looking at the images of tfds:mine begins anew" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_the_setting_is_in_the_result_and_taken_from_it(sets, tmp_path, rows, capsys):
    command = ["compare", *SMALL, "--data", "tfds:mine", "--regularizers", "none", "--evaluations", "accuracy"]
    main([*command, "--data-dir", str(sets), "--stream", "--out", "first"])
    result = read(tmp_path / "first" / "result.json")
    assert result["settings"]["training"]["stream"] is True
    assert result["dataset"]["train_images"] == 160
    assert "data_dir" not in json.dumps(result)
    rows.clear()
    main(["--config", "first/result.json", "--data-dir", str(sets), "--out", "again"])
    assert len(rows) == 32 + STEPS * BATCH
    capsys.readouterr()
    assert (tmp_path / "again" / "result.json").read_bytes() == (tmp_path / "first" / "result.json").read_bytes()
