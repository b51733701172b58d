"""The README's example runs, its tables are those of the committed results, and its commands are what CI finds."""

import re
from pathlib import Path

from experiments.results import with_tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_example_runs(capsys):
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_tables_are_those_of_the_results():
    assert with_tables(README) == README


def test_files_it_names_exist():
    for name in re.findall(r"\]\((?!http)([^)]+)\)", README) + re.findall(
        r"`((?:experiments|tests)/[\w./]+)`", README
    ):
        assert (ROOT / name).exists(), name


def test_there_is_one_command_for_the_job_and_one_for_the_tests():
    commands = re.findall(r"^python3 -m pip install .*&& python3 -m (\S+).*$", README, re.MULTILINE)
    assert commands == ["experiments.absum", "pytest"]
