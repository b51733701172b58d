"""Metrics: sums on their way to means, and the file of JSON lines that they end in."""

import json
from pathlib import Path
from typing import Any

import jax

from experiments.storage import write_atomically
from experiments.training.task import Metrics, merge


def compute(metrics: Metrics) -> dict[str, float]:
    """Divide sums by counts.

    Raises:
        ValueError: if nothing was counted.
    """
    found = jax.device_get(metrics)
    if empty := [name for name, mean in found.items() if not mean.count]:
        raise ValueError(f"no examples were counted for {', '.join(empty)}")
    return {name: float(mean.total) / float(mean.count) for name, mean in found.items()}


def add(summed: Metrics, metrics: Metrics) -> Metrics:
    """Add in double precision on the host, waiting for the step that the metrics come from."""
    found = jax.tree.map(float, jax.device_get(metrics))
    return merge(summed, found) if summed else found


def prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    """The values with ``prefix_`` before each name."""
    return {f"{prefix}_{name}": value for name, value in values.items()}


class MetricsFile:
    """``metrics.jsonl``: one line of JSON per epoch, whole lines only.

    Args:
        path: the file; a missing one is made.
        resume_step: lines of later steps are dropped, as those steps will be done again.
    """

    def __init__(self, path: Path, *, resume_step: int) -> None:
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        if not path.exists() or path.read_text() != text:  # a finished run is only read
            write_atomically(path, text)

    def append(self, line: dict[str, Any]) -> None:
        """Add one line and hand it to the operating system at once."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if there is no file. A last line that was cut off is left out.

    Raises:
        ValueError: naming the file, if a whole line is not an object with a step.
    """
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not all(isinstance(line, dict) and "step" in line for line in lines):
        raise ValueError(f"{path} is damaged: expected an object with a step in every line")
    return lines
