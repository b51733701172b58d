"""Tables of results, on the terminal and in Markdown.

A column is a fact of what was trained (``facts`` in ``experiments/*/run.py``) or a cell of an evaluation
(``cells`` of the entries in ``experiments/*/evaluations/``); this file only lays them out.

``python -m experiments.harness.tables FILE.md ...`` makes the part of each file between ``<!-- table NAME -->``
and ``<!-- end -->`` anew from ``experiments/results/NAME.json``: its summary over seeds, or with
``<!-- table NAME: HEADING -->`` the table of that heading among its comparisons.
"""

import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.storage import read_json, write_text

COMMITTED = Path(__file__).parents[1] / "results"

Result = dict[str, Any]
Row = dict[str, Any]  # of a result: "facts" name -> value, "cells" name -> [number, note], and the evaluations
Table = tuple[list[str], list[list[str]]]


def table_of_runs(result: Result) -> Table:
    """One line for each run: its facts, and each number with what is said beside it."""
    rows = result["rows"]
    facts, cells = _names(rows, "facts"), _names(rows, "cells")
    lines = [
        [_text(row["facts"].get(name)) for name in facts]
        + [" ".join(filter(None, (_number(value), note))) for value, note in _cells(row, cells)]
        for row in rows
    ]
    return [*facts, *cells], lines


def summary(result: Result) -> Table:
    """One line for all seeds of a thing: mean ± standard deviation over the seeds."""
    rows = result["rows"]
    facts, cells = [name for name in _names(rows, "facts") if name != "seed"], _names(rows, "cells")
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(_text(row["facts"].get(name)) for name in facts), []).append(row)
    lines = []
    for key, group in groups.items():
        columns = zip(*([value for value, _ in _cells(row, cells)] for row in group), strict=True)
        lines.append([*key, str(len(group)), *(mean_and_spread(column) for column in columns)])
    return [*facts, "seeds", *cells], lines


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation of those that are known; the one alone, where there is one."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return _number(known[0] if known else None)
    digits = _digits(known[0])
    return f"{statistics.mean(known):,.{digits}f} ± {statistics.stdev(known):,.{digits}f}"


def has_seeds(result: Result) -> bool:
    """Whether there is more than one seed, so that a summary says something."""
    return len({row["facts"].get("seed") for row in result["rows"]}) > 1


def print_table(title: str, table: Table) -> None:
    """Print a table, whole also where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415  # not installed where only results are wanted
    from rich.table import Table as Drawn  # noqa: PLC0415

    header, lines = table
    drawn = Drawn()
    for name in header:
        drawn.add_column(name, no_wrap=not sys.stdout.isatty())
    for line in lines:
        drawn.add_row(*line)
    # A pipe has no width of its own; lines must not be cut there.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    console.print(f"\n{title}", drawn, sep="\n", markup=False, highlight=False)


def markdown(table: Table) -> str:
    """A table in Markdown."""
    header, lines = table
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])


def with_tables(text: str, directory: Path = COMMITTED) -> str:
    """A Markdown text with its marked tables made anew.

    Raises:
        ValueError: if there is no result of a name, or no table of a heading.
    """

    def table(match: re.Match[str]) -> str:
        result = read_json(directory / f"{match[1]}.json")
        made = _comparison_table(result, match[2]) if match[2] else summary(result)
        return f"{match[0].splitlines()[0]}\n{markdown(made)}\n<!-- end -->"

    return re.sub(r"<!-- table (\S+?)(?:: (.+?))? -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _comparison_table(result: Result, heading: str) -> Table:
    tables = {found: table for each in result["comparisons"].values() for found, table in each["tables"].items()}
    if heading not in tables:
        raise ValueError(f"a table must be one of {', '.join(tables)}, got {heading!r}")
    header, lines = tables[heading]
    return header, lines


def _names(rows: Sequence[Row], part: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row[part]))


def _cells(row: Row, names: Sequence[str]) -> list[tuple[float | None, str]]:
    """The row's cells of these columns; nothing where it has none."""
    return [tuple(row["cells"].get(name, (None, ""))) for name in names]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Counts have none; accuracies and ratios three; perplexities one."""
    return 0 if isinstance(value, int) else 3 if abs(value) < 10 else 1


def _text(value: Any) -> str:
    """A fact."""
    return f"{value:g}" if isinstance(value, float) else "" if value is None else f"{value}"


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        write_text(file, with_tables(file.read_text()))
