"""Kill commands at random moments, repeat each until its end, and compare with one that was not killed.

``python -m tests.kill_runs`` prints a table and writes it as JSON, with a status of 1 if anything differs. Each
command is one of ``COMMANDS``, on one process and on two that find each other as those of a cluster do. SIGKILL
goes to all processes, as when their machines are gone; SIGTERM and SIGINT to one of them, from which the others
have to hear of it.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from etils import epath

from experiments import places
from tests.bucket import storage_service
from tests.command_processes import Processes
from tests.same_files import differences, file_names, newest_steps
from tests.sigsoftmax.small import write_corpus

SIGNALS = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
PATIENCE = 3600  # seconds for any command; a machine that is busy may need many

IMAGES = [
    "--data", "npz:images.npz", "--model", "tests.absum.own:noisy", "--batch-size", "32",
    "--validation-size", "32", "--epochs", "6", "--checkpoint-every", "3",
]  # fmt: skip
ATTACKS = ["--evaluations", "accuracy", "fourier", "--fourier.images", "24", "--fourier.epsilons", "0.1", "0.3"]
WORDS = [
    "--data", "ptb", "--recipe.embedding-size", "4", "--recipe.hidden-size", "5", "--recipe.last-size", "4",
    "--recipe.num-layers", "1", "--recipe.test-batch-size", "8", "--recipe.evaluation-batch-size", "8",
    "--batch-size", "8", "--bptt", "6", "--epochs", "3", "--finetune-epochs", "2", "--checkpoint-every", "3",
]  # fmt: skip
MEASURES = ["--evaluations", "perplexity", "rank", "--rank.contexts", "150"]

# The flags of each; evaluate is of what train, by itself, has made.
COMMANDS = {
    "absum train": [*IMAGES, "--regularizer", "absum"],
    "absum compare": [*IMAGES, "--regularizers", "none", "absum", *ATTACKS],
    "absum evaluate": ATTACKS,
    "sigsoftmax train": WORDS,
    "sigsoftmax compare": [*WORDS, "--networks", "softmax", "sigsoftmax", *MEASURES],
    "sigsoftmax evaluate": MEASURES,
}


def write_data(directory):
    """A few images and a small corpus."""
    rng = np.random.default_rng(0)
    splits = {"train": 160, "test": 40}
    images = {f"{split}_images": rng.integers(0, 256, (n, 8, 8, 1), np.uint8) for split, n in splits.items()}
    np.savez(
        directory / "images.npz", **images, **{f"{split}_labels": np.arange(n) % 4 for split, n in splits.items()}
    )
    write_corpus(directory / "corpus")


@dataclasses.dataclass
class Place:
    """Where things are.

    Args:
        data: what :func:`write_data` wrote.
        root: where the runs are written, on a disk or in a bucket.
        logs: what the processes print.
    """

    data: Path
    root: epath.Path
    logs: Path


@dataclasses.dataclass
class Row:
    """What became of a command that was killed.

    Args:
        command, processes: which.
        signals: those that were sent to it while it ran.
        resumed_from: the newest checkpoints, or what was measured, after each.
        differences: from the one that was not killed.
    """

    command: str
    processes: int
    signals: list[str] = dataclasses.field(default_factory=list)
    resumed_from: list[str] = dataclasses.field(default_factory=list)
    differences: list[str] = dataclasses.field(default_factory=list)


def arguments(name, processes, out, place):
    """Of each process."""
    experiment, command = name.split()
    data = place.data / "corpus" if experiment == "sigsoftmax" else place.data
    given = [f"experiments.{experiment}", command, *COMMANDS[name], "--data-dir", str(data), "--out", str(out)]
    if command == "evaluate":
        given += ["--run", str(_directory(f"{experiment} train", processes, place) / "whole")]
    return [given] * processes


def run_whole(name, processes, place):
    """Run a command to its end; the seconds until it has made its directory, and those until it is over."""
    out = _directory(name, processes, place) / "whole"
    start = time.monotonic()
    with Processes(arguments(name, processes, out, place), place.logs / out.parent.name / "whole") as running:
        while not out.exists() and running.are_running():
            time.sleep(0.05)
        begun = time.monotonic() - start
        statuses = running.wait(PATIENCE)
        if any(statuses):
            printed = "\n".join("\n".join(running.lines(rank)) for rank in range(processes))
            raise RuntimeError(f"{name} on {processes}: status {statuses}:\n{printed}")
    return begun, time.monotonic() - start


def run_killed(name, processes, place, *, kills, seconds, seed):
    """Kill a command at random moments and repeat it until it ends; where it ends before all kills, begin anew.

    Args:
        kills: how many signals have to find it running.
        seconds: until the one that is not killed begins to write, and until it ends.
        seed: of the moments and signals.
    """
    row, numbers, attempt = Row(name, processes), random.Random(f"{name} {processes} {seed}"), 0
    begun, whole = seconds
    while True:
        attempt += 1
        out = _directory(name, processes, place) / f"killed{attempt}"
        ended, left = False, kills - len(row.signals)
        # On average half of the work is done when the last of the signals comes.
        step = (whole - begun) / max(left, 1)
        while not ended:
            number = SIGNALS[(len(row.signals) + seed) % 3] if len(row.signals) < kills else None
            moment = begun + numbers.uniform(-0.1 * begun, step)
            ended = _run_once(row, arguments(name, processes, out, place), place, out, number, moment, numbers)
        found = differences(out, out.parent / "whole") if out.exists() else ["nothing was written"]
        row.differences += [f"killed{attempt}: {line}" for line in found]
        if len(row.signals) == kills or attempt == 3 * kills:
            return row


def _run_once(row, command, place, out, number, moment, numbers):
    """Run a command, and send it a signal at a moment if there is one; whether it came to its end before."""
    logs = place.logs / out.parent.name / f"{out.name}-after{len(row.signals)}"
    with Processes(command, logs) as running:
        end = time.monotonic() + moment
        while number is not None and time.monotonic() < end and running.are_running():
            time.sleep(0.01)
        if number is None or not running.are_running():
            statuses = running.wait(PATIENCE)
            if any(statuses):
                row.differences.append(f"status {statuses}: {running.lines(0)[-1:]}")
            return True
        ranks = range(len(command)) if number == signal.SIGKILL else [numbers.randrange(len(command))]
        for rank in ranks:
            running.send_signal(number, rank)
        statuses = running.wait(PATIENCE)
        if statuses == [0] * len(command):  # it was over as the signal came
            return True
        # Outside of what listens, say before everything is imported, a signal ends a process as it always does.
        allowed = {-number, 128 + number} if number != signal.SIGKILL else {-number}
        if not set(statuses) & allowed:
            row.differences.append(f"{number.name}: status {statuses}: {running.lines(0)[-1:]}")
    row.signals.append(number.name)
    row.resumed_from.append(_reached(out))
    return False


def _directory(name, processes, place):
    return place.root / f"{name} on {processes}".replace(" ", "-")


def _reached(out):
    """The newest checkpoints, and what was measured or begun."""
    if not out.exists():
        return "nothing"
    found = [f"{name} step {step}".lstrip() for name, step in newest_steps(out).items()]
    kinds = {"numbers.json": "", "partial.npz": "a part of "}
    paths = [name.split("/") for name in file_names(out)]
    measured = sorted(kinds[path[-1]] + path[-3] for path in paths if path[-1] in kinds)
    return ", ".join(found + measured) or "nothing"


def run_all(place, *, kills, seed=0, names=tuple(COMMANDS), processes=(1, 2), say=lambda row: None):
    """Kill the commands so many times in all.

    Args:
        kills: shared by all.
        seed: of the moments, and of which signal comes first.
        names: of ``COMMANDS``.
        processes: on how many.
        say: is told each row once it is there.

    Returns:
        A row for each command and number of processes.
    """
    cells = [(name, count) for count in processes for name in names]
    rows, trained = [], set()
    for index, (name, count) in enumerate(cells):
        before = name.replace("evaluate", "train"), count
        if name.endswith("evaluate") and before not in trained:
            run_whole(*before, place)
        seconds = run_whole(name, count, place)
        trained.add((name, count))
        share = kills // len(cells) + (index < kills % len(cells))
        if share:
            rows.append(run_killed(name, count, place, kills=share, seconds=seconds, seed=seed + index))
            say(rows[-1])
    return rows


def table(rows):
    """As Markdown."""
    lines = ["| command | processes | signals | went on from | differences |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = row.command, row.processes, ", ".join(row.signals), "; ".join(row.resumed_from)
        lines.append(f"| {' | '.join(map(str, cells))} | {'; '.join(row.differences) or 'none'} |")
    return "\n".join(lines)


def main(given=None):
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="over all commands (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out-root", help="empty directory or bucket of the runs; by default a temporary one")
    where.add_argument("--bucket", action="store_true", help="in a bucket of a storage service on this machine")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="which (all)")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="on how many (1 2)")
    parser.add_argument("--json", type=Path, default=Path("kills.json"), help="file of the table (kills.json)")
    options = parser.parse_args(given)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as service:
        local = Path(temporary)
        root = service.enter_context(storage_service()) + "/kills" if options.bucket else options.out_root
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(local / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
        write_data(local)
        place = Place(local, places.place(root or local / "runs"), local / "logs")
        rows = []

        def tell(row):
            rows.append(row)
            options.json.write_text(json.dumps([dataclasses.asdict(each) for each in rows], indent=2) + "\n")
            print(f"{row.command} on {row.processes}: {row.differences or 'the same'}", flush=True)

        run_all(
            place,
            kills=options.kills,
            seed=options.seed,
            names=options.commands,
            processes=options.processes,
            say=tell,
        )
    print(f"\n{table(rows)}\n\n{sum(len(row.signals) for row in rows)} kills, {time.monotonic() - start:.0f} s")
    return int(any(row.differences for row in rows))


if __name__ == "__main__":
    sys.exit(main())
