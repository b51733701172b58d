"""Seconds from the command to its first step, in a fresh process that finds its programs compiled."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.measure import Row

# Ends the command once its first step is done.
_PROGRAM = """
import json, os, resource, runpy, sys, time
import jax
from experiments.training import loop

began, name, out = float(sys.argv[1]), *sys.argv[2:]

def compile_step(*arguments, compiled=loop.compile_step, **options):
    step = compiled(*arguments, **options)
    def first(*arguments):
        jax.block_until_ready(step(*arguments))
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "clock": time.monotonic() - began}))
        sys.stdout.flush()
        os._exit(0)
    return first

loop.compile_step = compile_step
sys.argv = [name, "train", "--out", out]
runpy.run_module(f"experiments.{name}", run_name="__main__")
"""
DEVICES = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "NPROC": "32"}


def first_step(tiny: bool = False) -> Iterator[Row]:
    """From ``train`` with its default settings to the first step, on eight virtual devices, compiled before."""
    for name in ("absum",) if tiny else ("absum", "sigsoftmax"):
        with tempfile.TemporaryDirectory() as folder:
            _, found = _seconds(name, f"{folder}/first"), _seconds(name, f"{folder}/second")
        details = f"processor time; {found['clock']:.1f} s by the clock"
        yield Row(f"experiments.{name} train, until the first step", found["cpu"], 20, "s", details=details)


def _seconds(name: str, out: str) -> dict[str, float]:
    """Processor time of the process, user and system, and that of the clock."""
    command = [sys.executable, "-c", _PROGRAM, str(time.monotonic()), name, out]
    ended = subprocess.run(command, env=os.environ | DEVICES, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{name} did not come to its first step: {ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])
