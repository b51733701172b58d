"""The same seeds in pairs: whether two things that were trained differ by more than their seeds do."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from absum_jax import paired_t_test
from experiments.harness.evaluation import Cell, Comparison
from experiments.harness.stored import Measured, Partial
from experiments.harness.tables import Table

if TYPE_CHECKING:
    from experiments.harness.evaluation import Finished

Numbers = dict[str, Any]
Columns = Mapping[str, float]


def paired_cells(cells: Callable[[Numbers], dict[str, Cell]], about: str, *, digits: int = 3) -> Comparison:
    """A comparison of every two of what is compared, in the cells of an evaluation.

    Args:
        cells: of the evaluation.
        about: what they are, as the heading begins.
        digits: of a difference, after the point.
    """

    def measure(finished: "Finished", settings: Any, partial: Partial) -> Measured:
        del settings, partial
        groups: dict[str, dict[int, Columns]] = {}
        for trained, measured in finished:
            subject = trained.subject
            columns = {name: cell.value for name, cell in cells(measured.numbers).items()}
            groups.setdefault(subject.group, {})[subject.facts["seed"]] = columns
        pairs = [
            {"first": second, "second": first} | over_common_seeds(groups[second], groups[first])
            for first, second in itertools.combinations(groups, 2)
        ]
        return Measured({"pairs": pairs})

    def tables(numbers: Numbers) -> dict[str, Table]:
        pairs = [(f"{pair['first']} less {pair['second']}", pair) for pair in numbers["pairs"]]
        return table_over_seeds(f"{about}:", "difference", pairs, digits=digits)

    return Comparison(measure, tables=tables)


def over_common_seeds(first: Mapping[int, Columns], second: Mapping[int, Columns]) -> Numbers:
    """The first less the second, seed by seed.

    Args:
        first, second: for each seed the number of each column.

    Returns:
        Plain numbers: the common ``seeds``, and ``columns``, the test of each column that all have, by its name
        (see :func:`absum_jax.paired_t_test`); none for fewer than two seeds.
    """
    seeds = sorted(first.keys() & second.keys())
    sides = [[each[seed] for seed in seeds] for each in (first, second)]
    return {"seeds": seeds, "columns": _tests(*sides)}


def table_over_seeds(
    about: str, differences: str, pairs: Sequence[tuple[str, Numbers]], *, digits: int = 3
) -> dict[str, Table]:
    """The table of differences over seeds, by its heading; none where no pair has seeds enough.

    Args:
        about: what they are, as the heading begins.
        differences: name of the first column.
        pairs: for each line its first entry and what :func:`over_common_seeds` gave.
        digits: of a difference, after the point.
    """
    tested = [(name, pair) for name, pair in pairs if pair["columns"]]
    if not tested:
        return {}
    columns = list(dict.fromkeys(column for _, pair in tested for column in pair["columns"]))
    lines = [
        [name, str(len(pair["seeds"])), *(difference_text(pair["columns"].get(each), digits) for each in columns)]
        for name, pair in tested
    ]
    return {f"{about} mean difference over seeds [95 % interval], p": ([differences, "seeds", *columns], lines)}


def difference_text(found: Mapping[str, float] | None, digits: int = 3) -> str:
    """A mean difference with its interval and p; nothing where there is none."""
    if found is None:
        return ""
    mean, low, high = (f"{found[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{mean} [{low}, {high}] p {p_text(found['p_value'])}"


def p_text(value: float) -> str:
    """A probability, to three digits."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def four_digits(value: float) -> float:
    """What is left of a probability in a result."""
    return float(f"{value:.4g}")


def _tests(*sides: Sequence[Columns]) -> dict[str, dict[str, float]]:
    if len(sides[0]) < 2:
        return {}
    names = [name for name in sides[0][0] if all(name in each for side in sides for each in side)]
    values = [np.asarray([[each[name] for each in side] for name in names]) for side in sides]  # [columns, seeds]
    test = jax.device_get(_paired_t_test(*values))
    bounds = {"difference": test.difference, "low": test.low, "high": test.high}
    return {
        name: {bound: round(float(value[i]), 6) for bound, value in bounds.items()}
        | {"p_value": four_digits(test.p_value[i])}
        for i, name in enumerate(names)
    }


_paired_t_test = jax.jit(paired_t_test)  # all columns in one program
