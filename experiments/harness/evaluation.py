"""Evaluations as values: what is measured of a trained run, stored beside it, and used again where it fits."""

import dataclasses
import json
import sys
import time
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from experiments.harness.figures import write_products
from experiments.harness.settings import choices, to_json
from experiments.storage import plain, read_arrays, read_json, remove, write_arrays, write_json
from experiments.training.devices import is_main_process, wait_for_all

if TYPE_CHECKING:
    from experiments.harness.run import TrainedRun

DIRECTORY = "evaluations"


class Measured(NamedTuple):
    """What an evaluation gave.

    Args:
        numbers: plain values, for ``result.json``; the same whenever the same run is measured again.
        arrays: what figures need besides.
        seconds: that it took.
    """

    numbers: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = types.MappingProxyType({})
    seconds: float = 0.0


class Cell(NamedTuple):
    """An entry of a table: a number, and what is said beside it where a table has one run in a line."""

    value: float
    note: str = ""


Group = Mapping[str, Sequence[Measured]]  # what is compared, by name, with one of these for each seed


def _no_check(subject: Any, settings: Any) -> None:
    del subject, settings


def _no_cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    del numbers
    return {}


def _no_products(group: Group) -> dict[str, Any]:
    del group
    return {}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Something that is measured of a trained run.

    Args:
        measure: ``(trained run, settings, partial) -> Measured``. Long work writes what it has to ``partial`` as
            it goes, and begins with what is there.
        settings: a frozen dataclass; its defaults, and the flags ``--NAME.FIELD`` of the command line.
        data: ``(trained run, settings) -> plain value``: checksums of the data that is looked at, and whatever
            else decides what is measured.
        version: one more whenever ``measure`` gives other numbers than before.
        check: ``(subject, settings)`` raises ``ValueError``, before anything is trained, for settings that no run
            could use or that do not fit this one.
        cells: ``numbers -> {column: cell}`` of the tables.
        products: ``group -> {file name: figure or text}``, for one run and for comparisons.
    """

    measure: "Callable[[TrainedRun, Any, Partial], Measured]"
    settings: Any
    data: "Callable[[TrainedRun, Any], Any]"
    version: int = 1
    check: Callable[[Any, Any], None] = _no_check
    cells: Callable[[dict[str, Any]], dict[str, Cell]] = _no_cells
    products: Callable[[Group], dict[str, Any]] = _no_products


Chosen = Mapping[str, tuple[Evaluation, Any]]  # name -> evaluation and its settings


def chosen(table: Mapping[str, Evaluation], names: Sequence[str], settings: Any) -> Chosen:
    """The named evaluations with their settings.

    Args:
        table: all evaluations.
        names: which; none for all.
        settings: has an attribute for the settings of each; a missing one means their defaults.

    Raises:
        ValueError: for an unknown name.
    """
    if unknown := [name for name in names if name not in table]:
        raise ValueError(f"--evaluations must be of {choices(table)}, got {unknown[0]!r}")
    return {name: (table[name], getattr(settings, name, table[name].settings)) for name in names or table}


def check(subject: Any, evaluations: Chosen) -> None:
    """Raise ``ValueError`` if an evaluation cannot be made of what the run is of."""
    for evaluation, settings in evaluations.values():
        evaluation.check(subject, settings)


def evaluate(trained: "TrainedRun", evaluations: Chosen, directory: Path) -> dict[str, Measured]:
    """Measure, or read what was measured before with the same settings, version, data and parameters.

    Args:
        trained: the run.
        evaluations: name -> evaluation and its settings.
        directory: gets ``evaluations/NAME/`` with numbers.json, arrays.npz and the figures of each and, while it
            is measured, partial.npz.
    """
    return {name: _Stored(trained, name, *each, directory).measured() for name, each in evaluations.items()}


class Partial:
    """The arrays that an evaluation has so far, on disk until it is done.

    Args:
        path: their file.
        key: what they are of; those of anything else are not read.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self._path, self._key = path, np.asarray(json.dumps(key, sort_keys=True))

    def read(self) -> dict[str, np.ndarray]:
        """What was written last, or nothing."""
        if not self._path.exists():
            return {}
        try:
            arrays = read_arrays(self._path)
        except ValueError as error:
            print(f"{error}; begun anew", file=sys.stderr)
            return {}
        return arrays if str(arrays.pop("key", None)) == str(self._key) else {}

    def write(self, **arrays: np.ndarray) -> None:
        """Keep these arrays, in place of those written before; on the first process."""
        if is_main_process():
            write_arrays(self._path, {**arrays, "key": self._key})


class _Stored:
    """One evaluation of one run, and its files."""

    def __init__(
        self, trained: "TrainedRun", name: str, evaluation: Evaluation, settings: Any, directory: Path
    ) -> None:
        self._trained, self._evaluation, self._settings = trained, evaluation, settings
        self._directory = directory / DIRECTORY / name
        self._key = {
            "settings": to_json(settings),
            "version": evaluation.version,
            "data": evaluation.data(trained, settings),
            "params": checksum({phase: each.state.evaluated_params for phase, each in trained.phases.items()}),
        }

    def measured(self) -> Measured:
        """What is stored, or else measured now."""
        wait_for_all(f"evaluation {self._directory.name}")
        if (found := self._read()) is not None:
            return found
        partial = Partial(self._directory / "partial.npz", self._key)
        start = time.monotonic()
        measured = self._evaluation.measure(self._trained, self._settings, partial)
        seconds = round(time.monotonic() - start, 3)
        # As they will be read again: lists for tuples, strings for keys.
        measured = measured._replace(numbers=plain(measured.numbers), seconds=seconds)
        if is_main_process():
            self._write(measured)
        return measured

    def _write(self, measured: Measured) -> None:
        write_arrays(self._directory / "arrays.npz", measured.arrays)
        write_products(self._directory, self._evaluation.products({self._trained.subject.label: [measured]}))
        values = {"key": self._key, "numbers": measured.numbers, "seconds": measured.seconds}
        write_json(self._directory / "numbers.json", values)  # last, as it is what vouches for the rest
        remove(self._directory / "partial.npz")

    def _read(self) -> Measured | None:
        """What is stored, if it is of the same key; ``None``, and a line, if it is damaged."""
        path = self._directory / "numbers.json"
        if not path.exists():
            return None
        try:
            values = read_json(path)
            if missing := [name for name in ("key", "numbers", "seconds") if name not in values]:
                raise ValueError(f"{path} is damaged: it has no {missing[0]}")
            if values["key"] != self._key:
                return None
            return Measured(values["numbers"], read_arrays(self._directory / "arrays.npz"), values["seconds"])
        except ValueError as error:
            print(f"{path.parent} is measured anew: {error}", file=sys.stderr)
            return None


def checksum(tree: Any) -> str:
    """Eight hexadecimal digits that tell one tree of arrays from another (CRC-32), names and shapes included."""
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found = zlib.crc32(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(array.tobytes(), found)
    return f"{found:08x}"
