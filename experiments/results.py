"""Results as data: one JSON file per run, and the tables that are made from it.

``python -m experiments.results`` rewrites the tables of README.md from ``experiments/results/*.json``.
"""

import importlib.metadata
import platform
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable

from experiments.storage import read_json, replacing, write_atomically

mpl.use("Agg")

import matplotlib.pyplot as plt

COMMITTED = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"

Result = dict[str, Any]
Table = tuple[list[str], list[list[str]]]


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return {"python": platform.python_version(), **found, "devices": devices}


def absum_rows(result: Result) -> Table:
    """One line for each network: accuracies, with the worst frequency and its 95 % interval."""
    epsilons = result["rows"][0]["epsilons"]
    header = ["regularizer", "strength", "seed", "test", "clean", "average robust"]
    header += [f"worst at {epsilon:g}" for epsilon in epsilons]
    return header, [_absum_row(row) for row in result["rows"]]


def _absum_row(row: dict[str, Any]) -> list[str]:
    worst = zip(row["worst_accuracy"], row["worst_frequency"], row["worst_accuracy_interval"], strict=True)
    return [
        row["regularizer"],
        f"{row['strength']:g}",
        str(row["seed"]),
        f"{row['test_accuracy']:.3f}",
        f"{row['clean_accuracy']:.3f}",
        f"{row['average_robust_accuracy']:.3f}",
        *(f"{accuracy:.3f} ({l},{m}) [{low:.2f}, {high:.2f}]" for accuracy, (l, m), (low, high) in worst),
    ]


def absum_summary(result: Result) -> Table:
    """One line for each regulariser: mean ± standard deviation over the seeds."""
    epsilons = result["rows"][0]["epsilons"]
    header = ["regularizer", "strength", "seeds", "test", "clean", "average robust"]
    header += [f"worst at {epsilon:g}" for epsilon in epsilons]
    header += [f"mean at {epsilons[-1]:g}", "filter-sum ratio"]
    names = list(dict.fromkeys(row["regularizer"] for row in result["rows"]))
    return header, [
        _summary_line([row for row in result["rows"] if row["regularizer"] == name], len(epsilons))
        for name in names
    ]


def _summary_line(rows: list[dict[str, Any]], num_epsilons: int) -> list[str]:
    names = ("test_accuracy", "clean_accuracy", "average_robust_accuracy")
    columns = [[row[name] for row in rows] for name in names]
    columns += [[row["worst_accuracy"][i] for row in rows] for i in range(num_epsilons)]
    columns += [[row["mean_accuracy"][-1] for row in rows], [row["absum_ratio"] for row in rows]]
    first = [rows[0]["regularizer"], f"{rows[0]['strength']:g}", str(len(rows))]
    return first + [_mean_and_spread(column) for column in columns]


def _mean_and_spread(values: list[float], digits: int = 3) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def sigsoftmax_rows(result: Result) -> Table:
    """One line for each language model: perplexities of the validation and test splits, and the rank."""
    return _sigsoftmax_table([[row] for row in result["rows"]])


def sigsoftmax_summary(result: Result) -> Table:
    """One line for each kind of network: mean ± standard deviation over the seeds."""
    names = dict.fromkeys(row["network"] for row in result["rows"])
    return _sigsoftmax_table([[row for row in result["rows"] if row["network"] == name] for name in names])


_PHASES = {"base": "trained", "finetuned": "fine-tuned", "dynamic": "dynamic"}


def _sigsoftmax_table(groups: list[list[dict[str, Any]]]) -> Table:
    first = groups[0][0]
    columns = {
        f"{title}, {split}": f"{phase}_{split}_perplexity"
        for phase, title in _PHASES.items()
        for split in ("valid", "test")
        if f"{phase}_{split}_perplexity" in first
    }
    header = ["network", "experts", "parameters", "seeds" if len(groups[0]) > 1 else "seed", *columns]
    header += [f"rank of {first['rank']['contexts']} x {first['rank']['vocabulary']}", "tokens/s"]
    return header, [_sigsoftmax_line(rows, list(columns.values())) for rows in groups]


def _sigsoftmax_line(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    first = rows[0]
    seeds = str(len(rows) if len(rows) > 1 else first["seed"])
    line = [first["network"], str(first["experts"]), f"{first['parameters']:,}", seeds]
    line += [_mean_and_spread([row[name] for row in rows], digits=1) for name in columns]
    line.append(_mean_and_spread([row["rank"]["rank"] for row in rows], digits=0))
    return [*line, f"{statistics.mean(row['tokens_per_second'] for row in rows):,.0f}"]


SUMMARIES: dict[str, Callable[[Result], Table]] = {"absum": absum_summary, "sigsoftmax": sigsoftmax_summary}


def markdown(table: Table) -> str:
    """A table in Markdown."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_table(title: str, table: Table) -> None:
    """Print a table, whole also where there is no terminal."""
    header, rows = table
    drawn = RichTable(title=title, title_justify="left")
    for name in header:
        drawn.add_column(name, no_wrap=not sys.stdout.isatty())
    for row in rows:
        drawn.add_row(*row)
    # A pipe has no width of its own; lines must not be cut there.
    Console(width=None if sys.stdout.isatty() else 200).print(drawn)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and close the figure."""
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)


def with_tables(text: str, directory: Path = COMMITTED) -> str:
    """A Markdown text with the part between ``<!-- table NAME -->`` and ``<!-- end -->`` made anew.

    Raises:
        ValueError: if there is no result of that name.
    """

    def table(match: re.Match[str]) -> str:
        path = directory / f"{match[1]}.json"
        if not path.exists():
            raise ValueError(f"the text wants a table of {path}, which does not exist")
        result = read_json(path)
        summary = SUMMARIES[result["experiment"]](result)
        return f"<!-- table {match[1]} -->\n{markdown(summary)}\n<!-- end -->"

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    write_atomically(README, with_tables(README.read_text()))
