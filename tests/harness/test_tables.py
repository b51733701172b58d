"""Tables of results."""

import json

import pytest

from experiments.harness.tables import has_seeds, markdown, summary, table_of_runs, with_tables


def row(name, seed, accuracy, rank):
    cells = {"accuracy": [accuracy, f"({seed})"], "rank": [rank, ""]}
    return {"facts": {"network": name, "strength": 0.01, "seed": seed}, "cells": cells}


RESULT = {"rows": [row("a", 0, 0.5, 98), row("a", 1, 0.7, 102), row("b", 0, 12.34, 7), row("b", 1, None, 9)]}


def test_a_line_for_each_run():
    header, lines = table_of_runs(RESULT)
    assert header == ["network", "strength", "seed", "accuracy", "rank"]
    assert lines[0] == ["a", "0.01", "0", "0.500 (0)", "98"]
    assert lines[3] == ["b", "0.01", "1", "(1)", "9"]


def test_mean_and_spread_over_the_seeds():
    header, lines = summary(RESULT)
    assert header == ["network", "strength", "seeds", "accuracy", "rank"]
    # By hand: the spread of (0.5, 0.7) is 0.2 / sqrt 2, that of (98, 102) 4 / sqrt 2; one number has none.
    assert lines == [["a", "0.01", "2", "0.600 ± 0.141", "100 ± 3"], ["b", "0.01", "2", "12.3", "8 ± 1"]]
    assert has_seeds(RESULT)
    assert not has_seeds({"rows": RESULT["rows"][::2]})


def test_marked_tables_are_made_anew(tmp_path):
    (tmp_path / "toys.json").write_text(json.dumps(RESULT))
    text = "before\n<!-- table toys -->\nold\n<!-- end -->\nafter\n"
    made = with_tables(text, tmp_path)
    assert made == f"before\n<!-- table toys -->\n{markdown(summary(RESULT))}\n<!-- end -->\nafter\n"
    assert with_tables(made, tmp_path) == made
    assert "| a | 0.01 | 2 | 0.600 ± 0.141 | 100 ± 3 |" in made
    with pytest.raises(ValueError, match=r"nothing.json does not exist"):
        with_tables("<!-- table nothing -->\n<!-- end -->", tmp_path)
