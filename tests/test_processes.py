"""Two processes of two devices: they give what one of four gives, agree before they begin, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.data.images import load_images
from experiments.data.prepared import write_prepared
from tests.command_processes import Processes
from tests.command_processes import run as run_command

ROOT = Path(__file__).parents[1]


def run(world, directory):
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    devices = {"NPROC": "16", "JAX_NUM_CPU_DEVICES": str(4 // world), "JAX_PLATFORMS": "cpu"}
    environment = os.environ | devices | {"PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, ROOT / "tests/process_worker.py", *map(str, (rank, world, port, directory))],
            env=environment,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * world, errors
    return [json.loads((directory / f"found{rank}.json").read_text()) for rank in range(world)]


def test_processes_do_not_matter(tmp_path):
    (alone,) = run(1, tmp_path / "one")
    for found in run(2, tmp_path / "two"):
        # Gradients are averaged in another order: float32 rounding over 12 steps.
        np.testing.assert_allclose(found["w"], alone["w"], atol=1e-5)
        np.testing.assert_allclose(found["average"], alone["average"], atol=1e-5)
        assert found["correct"] == alone["correct"]
        # A directory that the processes do not share is refused by all of them.
        assert alone["refused"] == ""
        assert found["refused"].endswith("on process 1; --out must be on storage that all processes share")
    # Only the first process wrote the log.
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    expected = (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    for line, wanted in zip(lines, expected, strict=True):
        assert json.loads(line)["validation_accuracy"] == json.loads(wanted)["validation_accuracy"]


def write_images(path, first_label=0):
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    images = {f"{split}_images": rng.integers(0, 256, (n, 8, 8, 1), np.uint8) for split, n in SPLITS.items()}
    labels = {f"{split}_labels": np.arange(n) % 4 for split, n in SPLITS.items()}
    labels["train_labels"][0] = first_label
    np.savez(path, **images, **labels)


SPLITS = {"train": 160, "test": 20}


def arguments(directory, *further, data="data", out="run"):
    return [
        "experiments.absum", "train", "--data", "npz:images.npz", "--data-dir", str(directory / data),
        "--model", "tests.absum.own:plain", "--regularizer", "none", "--batch-size", "32",
        "--validation-size", "32", "--out", str(directory / out), *further,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("others", "difference"),
    [
        (
            {"further": ["--seed", "1"]},
            "network.seed is 0 on process 0, 1 on process 1; start the same command on",
        ),
        ({"data": "other"}, "identity.train_checksum is '"),
        (
            {"out": "disk/run"},
            "whether what process 0 wrote to --out is there is True on process 0, False on process 1",
        ),
    ],
    ids=["seed", "data", "disk"],
)
def test_processes_that_differ_end_before_they_train(tmp_path, others, difference):
    write_images(tmp_path / "data" / "images.npz")
    write_images(tmp_path / "other" / "images.npz", first_label=1)
    others = arguments(tmp_path, *others.pop("further", ()), **others)
    statuses, lines = run_command([arguments(tmp_path), others], tmp_path)
    assert statuses == [2, 2]
    for each in lines:
        (line,) = (line for line in each if line.startswith("error: "))
        assert f"the processes differ: {difference}" in line
        assert each[-1] == line
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_mistake_in_the_command_of_one_process_ends_all(tmp_path):
    """Found before it joins the other, which would wait for it."""
    write_images(tmp_path / "data" / "images.npz")
    each = [arguments(tmp_path), arguments(tmp_path, "--epochs", "many")]
    statuses, lines = run_command(each, tmp_path, seconds=100)
    assert statuses == [2, 2]
    assert lines[1][-1].startswith("error: ")
    assert lines[0][-1].startswith("error: process 1 of 2: ")
    assert "--epochs" in lines[0][-1]


@pytest.mark.parametrize("broken", [0, 1])
def test_a_process_that_cannot_read_its_data_ends_all(tmp_path, broken):
    write_images(tmp_path / "data" / "images.npz")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "images.npz").write_bytes(b"PK")
    each = [arguments(tmp_path, data="other" if rank == broken else "data") for rank in range(2)]
    statuses, lines = run_command(each, tmp_path)
    assert statuses == [2, 2]
    reason = f"{tmp_path / 'other' / 'images.npz'}: must be a whole .npz file of arrays, got: "
    assert lines[broken][-1].startswith(f"error: {reason}")
    assert lines[1 - broken][-1].startswith(f"error: process {broken} of 2: {reason}")


def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    write_images(tmp_path / "data" / "images.npz")
    log = tmp_path / "run" / "metrics.jsonl"
    command = [arguments(tmp_path, "--epochs", "8")] * 2
    with Processes(command, tmp_path) as processes:
        end = time.monotonic() + 300
        while not log.exists() or not log.read_text():
            assert time.monotonic() < end, processes.lines(0)
            time.sleep(0.05)
        processes.send_signal(signal.SIGTERM, 1)
        assert processes.wait(300) == [143, 143]
        lines = [processes.lines(rank)[-1] for rank in range(2)]
    assert lines[0] == lines[1]
    assert lines[0].startswith("SIGTERM: step ")
    assert lines[0].endswith(" of train none, seed 0 is saved; the same command goes on from there")
    before = log.read_text().splitlines()
    assert 0 < len(before) < 8
    statuses, _ = run_command(command, tmp_path)
    assert statuses == [0, 0]
    after = log.read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == 8


def write_prepared_images(directory, first_label=0):
    """The images of ``write_images`` as records, which tensorflow-datasets reads as ``mine``."""
    write_images(directory / "images.npz", first_label)
    whole = load_images("npz:images.npz", directory)
    write_prepared(whole, directory, "mine")
    return whole


def test_two_processes_look_at_half_of_the_images_each_and_stream_their_slices(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = write_prepared_images(tmp_path / "data")
    command = [arguments(tmp_path, "--data", "tfds:mine", "--stream", "--epochs", "1")] * 2
    statuses, lines = run_command(command, tmp_path)
    assert statuses == [0, 0], lines
    assert any(line.startswith("looking at tfds:mine: 80/80 images in ") for line in lines[0])
    assert not any("looking at" in line for line in lines[1])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["identity"]["train_checksum"] == whole.checksum("train")


def test_processes_whose_records_differ_end_before_they_look_at_them(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_prepared_images(tmp_path / "data")
    write_prepared_images(tmp_path / "other", first_label=1)
    command = [arguments(tmp_path, "--data", "tfds:mine", "--stream", data=data) for data in ("data", "other")]
    statuses, lines = run_command(command, tmp_path)
    assert statuses == [2, 2]
    for each in lines:
        assert "the processes differ: training images of tfds:mine.checksum of 16 is '" in each[-1]
        assert each[-1].endswith("; each process must find the same records in --data-dir")
    assert not (tmp_path / "cache").exists()
