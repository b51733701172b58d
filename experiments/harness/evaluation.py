"""Evaluations as values: what is measured of a trained run, stored beside it, and used again where it fits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath

from experiments.harness.settings import check_all, choices, to_json
from experiments.harness.stored import Measured, Partial, Stored, checksum
from experiments.harness.tables import Table

if TYPE_CHECKING:
    from experiments.harness.run import TrainedRun

    Finished = Sequence[tuple[TrainedRun, Any]]

DIRECTORY = "evaluations"


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


def _no_tables(numbers: dict[str, Any]) -> dict[str, Table]:
    del numbers
    return {}


def _no_findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    del numbers
    return []


def _no_figures(measured: Measured) -> dict[str, Any]:
    del measured
    return {}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Something that is measured of several runs together, such as what misleads one network shown to another.

    Args:
        measure: ``(trained runs with what was measured of each, settings, partial) -> Measured``.
        version: one more whenever ``measure`` gives other numbers than before.
        tables: ``numbers -> {title: table}``.
        products: ``measured -> {file name: figure or text}``.
    """

    measure: "Callable[[Finished, Any, Partial], Measured]"
    version: int = 1
    tables: Callable[[dict[str, Any]], dict[str, Table]] = _no_tables
    products: Callable[[Measured], dict[str, Any]] = _no_figures


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
        comparison: of several runs, once each was measured.
        findings: ``numbers -> plain objects``, each one accuracy with what it is of, for whoever collects them.
        score: ``numbers -> number``, the larger the better, by which settings of a run may be chosen; only where
            ``settings`` have a ``split``, so that it can be that of validation data.
        by_default: whether it is made where no evaluation is named.
    """

    measure: "Callable[[TrainedRun, Any, Partial], Measured]"
    settings: Any
    data: "Callable[[TrainedRun, Any], Any]"
    version: int = 1
    check: Callable[[Any, Any], None] = _no_check
    cells: Callable[[dict[str, Any]], dict[str, Cell]] = _no_cells
    products: Callable[[Group], dict[str, Any]] = _no_products
    comparison: Comparison | None = None
    findings: Callable[[dict[str, Any]], list[dict[str, Any]]] = _no_findings
    score: Callable[[dict[str, Any]], float] | None = None
    by_default: bool = True


Chosen = Mapping[str, tuple[Evaluation, Any]]  # name -> evaluation and its settings


def chosen(table: Mapping[str, Evaluation], names: Sequence[str], settings: Any) -> Chosen:
    """The named evaluations with their settings.

    Args:
        table: all evaluations.
        names: which; none for those that are made by default.
        settings: has an attribute for the settings of each; a missing one means their defaults.

    Raises:
        ValueError: for an unknown name.
    """
    return {name: (table[name], getattr(settings, name, table[name].settings)) for name in made(table, names)}


def made(table: Mapping[str, Evaluation], names: Sequence[str]) -> Sequence[str]:
    """The names of the evaluations that are made: those given, or without any those that are made by default.

    Raises:
        ValueError: for an unknown name.
    """
    if unknown := [name for name in names if name not in table]:
        raise ValueError(f"--evaluations must be of {choices(table)}, got {unknown[0]!r}")
    return names or [name for name, evaluation in table.items() if evaluation.by_default]


def check(subject: Any, evaluations: Chosen) -> None:
    """Raise ``ValueError``, of all that is wrong, if evaluations cannot be made of what the run is of."""
    check_all(
        functools.partial(evaluation.check, subject, settings) for evaluation, settings in evaluations.values()
    )


def evaluate(trained: "TrainedRun", evaluations: Chosen, directory: epath.Path) -> dict[str, Measured]:
    """Measure, or read what was measured before with the same settings, version, data and parameters.

    Args:
        trained: the run.
        evaluations: name -> evaluation and its settings.
        directory: gets ``evaluations/NAME/KEY/`` with numbers.json, arrays.npz and the figures of each and, while
            it is measured, partial.npz; other settings, data or parameters are another KEY.
    """
    return {name: _measured(trained, name, *each, directory) for name, each in evaluations.items()}


def compare_measured(
    finished: "Finished", evaluations: Chosen, directory: epath.Path
) -> dict[str, tuple[Comparison, Measured]]:
    """Measure several runs together, or read it where it was measured before of the same ones.

    Args:
        finished: trained runs with what was measured of each.
        evaluations: how; those without a comparison are left out.
        directory: gets ``comparisons/NAME/KEY/`` as a run gets ``evaluations/NAME/KEY/``.
    """
    found = {}
    for name, (evaluation, settings) in evaluations.items():
        if (comparison := evaluation.comparison) is None or len(finished) < 2:
            continue
        runs = [{"facts": trained.subject.facts} | _key(trained, evaluation, settings) for trained, _ in finished]
        stored = Stored(directory / "comparisons" / name, {"version": comparison.version, "runs": runs})
        of_this = [(trained, measured[name]) for trained, measured in finished]
        measure = functools.partial(comparison.measure, of_this, settings)
        found[name] = comparison, stored.measured(measure, comparison.products)
    return found


def _measured(
    trained: "TrainedRun", name: str, evaluation: Evaluation, settings: Any, directory: epath.Path
) -> Measured:
    stored = Stored(directory / DIRECTORY / name, _key(trained, evaluation, settings))
    return stored.measured(
        lambda partial: evaluation.measure(trained, settings, partial),
        lambda measured: evaluation.products({trained.subject.label: [measured]}),
    )


def _key(trained: "TrainedRun", evaluation: Evaluation, settings: Any) -> dict[str, Any]:
    return {
        "settings": to_json(settings),
        "version": evaluation.version,
        "data": evaluation.data(trained, settings),
        "params": checksum(trained.evaluated_params),
    }
