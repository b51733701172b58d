"""A comparison whose files are all in a bucket: stopped, gone on with, looked at, and the same as on a disk."""

import os
import signal

import jax
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.run import open_run
from experiments.data.images import ImageDataset
from experiments.harness.directory import held
from experiments.places import place
from experiments.storage import read_arrays
from tests.absum.settings import ATTACK, NETWORK, SMALL
from tests.command_line import error_line


def stopped(monkeypatch, arguments):
    """The status of the command where SIGTERM comes with the third batch."""
    whole = ImageDataset.train_batches

    def batches(dataset, rows):
        for index, batch in enumerate(whole(dataset, rows)):
            if index == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataset, "train_batches", batches)
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
    return exit_info.value.code


def names(directory):
    """The files of a directory but those of checkpoints, whose names are random."""
    found = {}
    for path in directory.iterdir():
        if path.is_dir() and path.name != "checkpoints":
            found |= {f"{path.name}/{name}": file for name, file in names(path).items()}
        elif not path.is_dir():
            found[path.name] = path
    return found


def test_a_bucket_holds_what_a_disk_would(bucket, tmp_path, monkeypatch, capfd):
    there = place(f"{bucket}/net")
    train = [*NETWORK, "--checkpoint-every", "2", "--out", str(there)]
    assert stopped(monkeypatch, train) == 143
    errors = capfd.readouterr().err
    assert "absum, seed 0 is saved; the same command goes on from there" in errors
    assert "redentials" not in errors  # the storage service on this machine wants none
    assert not (there / ".lock").exists()
    main(train)
    main(NETWORK)
    for each in ("net", str(there)):
        main(["evaluate", *ATTACK, "--run", each])
        main(["export", "--run", each])
        main(["report", each])
    assert "wrote gs://bucket/net/report.html, of gs://bucket/net/result.json" in capfd.readouterr().out
    found, wanted = names(there), names(tmp_path / "net")
    assert set(found) == set(wanted)
    for name in ("config.json", "result.json"):
        assert found[name].read_bytes() == wanted[name].read_bytes(), name
    for name in (name for name in found if name.endswith(".npz")):
        for one, other in zip(*(read_arrays(each[name]).values() for each in (found, wanted)), strict=True):
            np.testing.assert_array_equal(one, other)
    states = [open_run(directory).load().phases["train"].state for directory in (there, tmp_path / "net")]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    assert os.listdir(tmp_path) == ["net"]


def test_a_second_run_in_a_directory_of_a_bucket_is_refused(bucket, capsys):
    out = place(f"{bucket}/used")
    with held(out):
        line = error_line(main, capsys, "train", *SMALL, "--out", str(out))
    assert f"error: gs://bucket/used is in use by process {os.getpid()} on " in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", *SMALL, "--out", "s3:/bucket/run"], "a place must be a path of a disk, gs://BUCKET/PATH or"),
        (["evaluate", "--run", "ftp://host/run"], "a place must be a path of a disk, gs://BUCKET/PATH or"),
        (["report", "gs://bucket"], "a place in a bucket must be gs://BUCKET/PATH, got gs://bucket"),
        (
            ["train", "--data-dir", "gs://bucket/data"],
            "data must be in a directory of a disk, got gs://bucket/data",
        ),
        (["--config", "gs://bucket/no/result.json"], "gs://bucket/no/result.json does not exist"),
        (["train", *SMALL, "--out", "gs://no-such-bucket/run"], "no-such-bucket"),
    ],
)
def test_places_that_cannot_be_used_are_one_line_and_make_nothing(bucket, tmp_path, capsys, arguments, message):
    assert message in error_line(main, capsys, *arguments)
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_one_line_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = error_line(main, capsys, "train", *SMALL, "--out", "gs://bucket/run")
    assert "gs://bucket/run needs the package gcsfs, which is not installed: it is in the extra cloud" in line
    assert os.listdir(tmp_path) == []
