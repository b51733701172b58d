"""Two processes of two devices give what one process of four gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

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
        assert "is not the same for all processes; --out must be on shared storage" in found["refused"]
    # Only the first process wrote the log.
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    expected = (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    for line, wanted in zip(lines, expected, strict=True):
        assert json.loads(line)["validation_accuracy"] == json.loads(wanted)["validation_accuracy"]
