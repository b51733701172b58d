"""The script for pods: one command wherever it runs, whatever the environment holds."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(directory, *arguments, **environment):
    """What the script starts, by a python3 that prints its arguments."""
    stub = directory / "python3"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$(pwd)" "$PYTHONPATH" "$@"\n')
    stub.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    clean.pop("PYTHONPATH", None)
    clean |= {"PATH": f"{directory}:{os.environ['PATH']}", **environment}
    command = ["bash", ROOT / "experiments" / "run_pod.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=directory, check=False)


def test_it_starts_the_experiment_with_all_its_arguments_and_guesses_nothing(tmp_path):
    arguments = ["train", "--data", "a b", "--out", "x"]
    for environment in ({}, {"TPU_WORKER_HOSTNAMES": "localhost"}, {"TPU_WORKER_HOSTNAMES": "a,b"}):
        ended = run(tmp_path, "absum", *arguments, **environment)
        assert (ended.returncode, ended.stderr) == (0, "")
        where, path, *given = ended.stdout.splitlines()
        assert (where, path) == (str(tmp_path), str(ROOT))  # paths among the flags are the caller's
        assert given == ["-m", "experiments.absum", *arguments]
    _, path, *given = run(tmp_path, "sigsoftmax", PYTHONPATH="mine").stdout.splitlines()
    assert (path, given) == (f"{ROOT}:mine", ["-m", "experiments.sigsoftmax"])


def test_without_an_experiment_it_says_how_it_is_used(tmp_path):
    ended = run(tmp_path)
    assert ended.returncode != 0
    assert "usage: run_pod.sh absum|sigsoftmax [COMMAND] [FLAGS]" in ended.stderr
