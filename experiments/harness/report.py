"""What a comparison leaves behind: result.json, provenance.json, figures, and tables on the terminal."""

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from experiments.harness.directory import CONFIG
from experiments.harness.evaluation import Chosen, compare_measured
from experiments.harness.figures import write_products
from experiments.harness.run import TrainedRun
from experiments.harness.stored import Measured
from experiments.harness.tables import has_seeds, print_table, summary, table_of_runs
from experiments.places import absolute
from experiments.storage import plain, read_json, write_json
from experiments.training.devices import is_main_process, peak_memory_bytes

Finished = Sequence[tuple[TrainedRun, dict[str, Measured]]]


def write_report(
    directory: epath.Path,
    finished: Finished,
    evaluations: Chosen,
    *,
    about: Mapping[str, Any],
    title: str,
) -> None:
    """Compare what was measured, write everything into ``directory`` and print the tables.

    ``result.json`` holds settings and numbers alone and is the same file whenever the same runs are reported;
    ``provenance.json`` says how they were made; ``findings.json`` lists what evaluations
    have as findings, one by one, if there are any.

    Args:
        directory: made if missing.
        finished: trained runs with what was measured of each.
        evaluations: how it was measured.
        about: what result.json begins with: the command with its settings, the data.
        title: of the tables.
    """
    compared = compare_measured(finished, evaluations, directory)
    if not is_main_process():
        return
    experiment = finished[0][0].subject.experiment
    rows = [_row(trained, measured, evaluations) for trained, measured in finished]
    result = plain({"experiment": experiment, **about, "rows": rows})
    if compared:
        result["comparisons"] = plain(
            {
                name: measured.numbers | {"tables": comparison.tables(measured.numbers)}
                for name, (comparison, measured) in compared.items()
            }
        )
    write_json(directory / "result.json", result)
    write_json(directory / "provenance.json", provenance(finished))
    written = ["result.json", "provenance.json"]
    if findings := _findings(finished, evaluations):
        write_json(directory / "findings.json", plain({"experiment": experiment, **about, "findings": findings}))
        written.append("findings.json")
    for name, (evaluation, _) in evaluations.items():
        products = evaluation.products(_grouped(finished, name))
        write_products(directory, products)
        written += products
    for comparison, measured in compared.values():
        products = comparison.products(measured)
        write_products(directory, products)
        written += products
    print_table(title, table_of_runs(result))
    if has_seeds(result):
        print_table("mean ± standard deviation over seeds", summary(result))
    for each in result.get("comparisons", {}).values():
        for heading, table in each["tables"].items():
            print_table(heading, table)
    print(f"\nwrote {', '.join(written[:-1])} and {written[-1]} to {directory}")


def require_own_result(
    directory: epath.Path, experiment: str, command: str, *, run: epath.Path | None = None
) -> None:
    """Raise ``ValueError`` if a report would write over a run, or over the result of anything else.

    Args:
        directory: where it is to be written.
        experiment, command: whose result it is.
        run: the directory of the run that it is of, beside which it may lie.
    """
    is_of_run = run is not None and absolute(directory) == absolute(run)
    if not is_of_run and ((directory / CONFIG).exists() or (directory / "checkpoints").exists()):
        raise ValueError(f"{directory} holds a single run; choose another --out")
    path = directory / "result.json"
    if not path.exists():
        return
    try:
        there = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, or choose another --out") from error
    if (there.get("experiment"), there.get("command")) != (experiment, command):
        raise ValueError(f"{path} is not a result of {experiment} {command}; choose another --out")


def provenance(finished: Finished) -> dict[str, Any]:
    """How results were made: the command, versions, devices, precision, and the seconds of each part."""
    packages = ("absum-sigsoftmax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": [sys.orig_argv[0], *sys.orig_argv[1:]],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git_commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
        "platform": platform.platform(),
        "double_precision": getattr(jax.config, "jax_enable_x64", None),
        "matmul_precision": getattr(jax.config, "jax_default_matmul_precision", None) or "default",
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": [
            {
                "run": trained.subject.label,
                "train": round(sum(line["seconds"] for line in trained.lines), 3),
                **{name: each.seconds for name, each in measured.items()},
            }
            for trained, measured in finished
        ],
    }


def _row(trained: TrainedRun, measured: Mapping[str, Measured], evaluations: Chosen) -> dict[str, Any]:
    cells = {
        column: cell
        for name, (evaluation, _) in evaluations.items()
        for column, cell in evaluation.cells(measured[name].numbers).items()
    }
    numbers = {name: each.numbers for name, each in measured.items()}
    return {"facts": trained.subject.facts, "cells": cells, **numbers}


def _findings(finished: Finished, evaluations: Chosen) -> list[dict[str, Any]]:
    """The findings of the evaluations with what they are of, one after the other."""
    return [
        {"run": trained.subject.label, **trained.subject.facts, "evaluation": name, **each}
        for trained, measured in finished
        for name, (evaluation, _) in evaluations.items()
        for each in evaluation.findings(measured[name].numbers)
    ]


def _grouped(finished: Finished, name: str) -> dict[str, list[Measured]]:
    """What an evaluation gave, by what is compared, of each seed."""
    groups: dict[str, list[Measured]] = {}
    for trained, measured in finished:
        groups.setdefault(trained.subject.group, []).append(measured[name])
    return groups


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Of the checkout that this file lies in, with "+" after it if files differ; ``None`` outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL)
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if changed else "")
