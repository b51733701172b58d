"""Two processes of two devices count what a loop counts, in one call and in parts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from absum_jax import fourier_sweep, frequency_grid
from tests.absum_jax.sweep_problem import EPSILONS, SHAPE, clean_count, linear, problem, reference
from tests.absum_jax.sweep_worker import PHASES

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests/absum_jax/sweep_worker.py"


@pytest.mark.slow
def test_processes_do_not_matter(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    devices = {"NPROC": "16", "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), "2", str(port), str(tmp_path)],
            env=os.environ | devices, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    expected = reference(*problem(), EPSILONS, np.asarray(frequency_grid(*SHAPE[:2], half=True))).tolist()
    options = {"norm": "l2", "phase": PHASES, "signs": jax.random.key(3)}
    signed = fourier_sweep(linear, *problem(), EPSILONS, **options)
    for rank in range(2):
        found = json.loads((tmp_path / f"found{rank}.json").read_text())
        assert found["whole"] == found["joined"] == expected
        assert found["clean"] == clean_count(*problem())
        assert found["parts"] > 2
        assert found["signed"] == signed.correct.tolist()
