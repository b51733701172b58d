"""The table of what can go wrong: each row has a test, and it is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_names_tests_that_there_are():
    text = (ROOT / "docs" / "runs.md").read_text()
    _, section = text.split("## What can go wrong\n")
    rows = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/.:]+)`", row.split(" | ")[-1])
        assert named, row
        for path, _, name in (each.partition("::") for each in named):
            defined = {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}
            assert not name or name in defined, f"{path}::{name}"
