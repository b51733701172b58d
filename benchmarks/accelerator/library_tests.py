"""The tests of both libraries on the device at hand, each file in a process of its own."""

import functools
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.accelerator.work import Budget, Call, LeftOutError, OutOfTimeError, Pieces

ROOT = Path(__file__).parents[2]
LIBRARIES = ("absum_jax", "sigsoftmax_jax")


def pieces(call: Call) -> Pieces:
    """A piece for the docstrings of each library, and for each file of its tests."""
    if not (ROOT / "tests").is_dir():
        raise LeftOutError("run it in a checkout, where the tests are")
    names = [*LIBRARIES, *(files_of_tests() if not call.tiny else ())]
    if call.tiny:
        names = ["absum_jax/penalty.py"]
    return {name: functools.partial(run_tests, ROOT / name, call.budget) for name in names}


def files_of_tests() -> list[str]:
    """Of both libraries."""
    found = (path for name in LIBRARIES for path in sorted((ROOT / "tests" / name).glob("test_*.py")))
    return [str(path.relative_to(ROOT)) for path in found]


def run_tests(path: Path, budget: Budget) -> dict[str, Any]:
    """The number of tests that passed, those that failed with a message, and those that were left out with why.

    Raises:
        OutOfTimeError: if they take longer than there is time.
        RuntimeError: if pytest could not run at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", *_options(report), str(path)]
        # Empty is as good as unset, and keeps the tests' own set-up from choosing the CPU.
        environment = {"JAX_PLATFORMS": ""} | os.environ
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=max(budget.seconds_left, 1),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError from error
        if done.returncode not in (0, 1, 2, 5):  # passed, failed, not even imported, all marked slow
            said = (done.stdout + done.stderr)[-1000:]
            raise RuntimeError(f"pytest ended with status {done.returncode}: {said}")
        return _summary(report)


def _options(report: Path) -> list[str]:
    """Those of pyproject.toml but for the executed shape types, which need a package more."""
    own = "addopts=--doctest-modules --import-mode=importlib"
    return ["-q", "-o", own, "-m", "not slow", "-p", "no:cacheprovider", f"--junitxml={report}"]


def _summary(report: Path) -> dict[str, Any]:
    summary: dict[str, Any] = {"passed": 0, "failed": {}, "left_out": {}}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name')}".lstrip(":")
        for kind, into in (("failure", "failed"), ("error", "failed"), ("skipped", "left_out")):
            if (found := case.find(kind)) is not None:
                summary[into][name] = found.get("message", "")[:500]
                break
        else:
            summary["passed"] += 1
    return summary
