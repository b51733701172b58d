"""Every two of what is compared, seed by seed, against computations by hand."""

from types import SimpleNamespace

import numpy as np
from scipy import stats

from experiments.harness.evaluation import Cell
from experiments.harness.paired import difference_text, over_common_seeds, paired_cells
from experiments.harness.stored import Measured

LOSSES = {"a": [10.0, 12.0, 11.5], "b": [9.0, 10.5, 10.75], "c": [9.5, 10.0, 11.0]}


def finished(losses):
    return [
        (SimpleNamespace(subject=SimpleNamespace(group=name, facts={"seed": seed})), Measured({"loss": loss}))
        for name, seeds in losses.items()
        for seed, loss in enumerate(seeds)
    ]


def compared(losses):
    comparison = paired_cells(lambda numbers: {"loss": Cell(numbers["loss"])}, "toys", digits=1)
    numbers = comparison.measure(finished(losses), None, None).numbers
    return numbers["pairs"], comparison.tables(numbers)


def test_every_two_are_compared_the_later_less_the_earlier():
    pairs, tables = compared(LOSSES)
    assert [(each["first"], each["second"]) for each in pairs] == [("b", "a"), ("c", "a"), ("c", "b")]
    for pair in pairs:
        first, second = LOSSES[pair["first"]], LOSSES[pair["second"]]
        test = stats.ttest_rel(first, second)
        found = pair["columns"]["loss"]
        expected = np.mean(first) - np.mean(second), *test.confidence_interval(0.95), test.pvalue
        # Rounded to six digits after the point, p to four digits.
        np.testing.assert_allclose(list(found.values()), expected, rtol=1e-3, atol=1e-5)
    ((heading, (header, lines)),) = tables.items()
    assert heading == "toys: mean difference over seeds [95 % interval], p"
    assert header == ["difference", "seeds", "loss"]
    assert lines[0] == ["b less a", "3", "-1.1 [-2.0, -0.1] p 0.039"]


def test_seeds_that_only_one_has_are_left_out():
    found = over_common_seeds({0: {"x": 1.0}, 1: {"x": 3.0}, 2: {"x": 4.0}}, {1: {"x": 2.0}, 2: {"x": 2.5}})
    assert found["seeds"] == [1, 2]
    assert found["columns"]["x"]["difference"] == 1.25


def test_a_column_that_one_lacks_is_left_out():
    sides = {0: {"x": 1.0, "y": 2.0}, 1: {"x": 2.0, "y": 2.0}}, {0: {"x": 1.0}, 1: {"x": 1.0}}
    assert list(over_common_seeds(*sides)["columns"]) == ["x"]
    assert difference_text(None) == ""


def test_one_seed_has_no_test_and_no_table():
    pairs, tables = compared({"a": [1.0], "b": [2.0]})
    assert [(each["seeds"], each["columns"]) for each in pairs] == [([0], {})]
    assert tables == {}
