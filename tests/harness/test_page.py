"""The page of results: what a browser finds in it, and what is refused."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.harness import page
from experiments.harness.command_line import parse
from experiments.harness.figures import new_figure, write_products
from experiments.harness.mistakes import one_line_errors
from experiments.harness.page import Report
from experiments.harness.tables import COMMITTED, summary, table_of_runs
from experiments.storage import read_json

NASTY = '<script>alert("1 & 2")</script>'


class Page(HTMLParser):
    """Tables by heading, pictures by name, the other texts by tag; every element must be closed."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.pictures, self.texts, self.open = [], {}, {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append((self.texts["h3"][-1], [], []))
        elif tag == "tr":
            self.tables[-1][2].append([])
        elif tag == "td":
            self.tables[-1][2][-1].append("")
        elif tag == "img":
            self.pictures[dict(attrs)["alt"]] = dict(attrs)["src"]
        self.texts.setdefault(tag, []).append("")
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open:
            return
        self.texts[self.open[-1]][-1] += data
        if self.open[-1] == "button":
            self.tables[-1][1].append(data)
        elif self.open[-1] == "td":
            self.tables[-1][2][-1][-1] += data

    def table(self, heading):
        (found,) = [
            (header, [line for line in lines if line]) for name, header, lines in self.tables if name == heading
        ]
        return found


def row(name, seed, accuracy, findings=None):
    cells = {"accuracy": [accuracy, f"({seed},7)"], "rank": [1234, ""]}
    facts = {"network": name, "strength": 0.01, "seed": seed}
    checks = {} if findings is None else {"checks": {"images": 8, "findings": findings}}
    return {"facts": facts, "cells": cells, "accuracy": {"accuracy": accuracy}, **checks}


def make_result(directory, rows, **others):
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"training": {"data": "embedded", "rate": 0.05, "augment": None}, "epsilons": [0.1, 0.25]}
    result = {"experiment": "toys", "command": "compare", "settings": settings, "rows": rows, **others}
    (directory / "result.json").write_text(json.dumps(result))
    return result


def make_provenance(directory):
    seconds = [{"run": "a, seed 0", "train": 12.5}, {"run": "a, seed 1", "train": 13.0, "norm": 1.25}]
    command = ["python", "-m", "experiments.toys", "--names", "a b", NASTY]
    made = {"command": command, "commit": "0123abc+", "versions": {"jax": "0.10.2"}, "seconds": seconds}
    (directory / "provenance.json").write_text(json.dumps(made))


def make(*arguments):
    """The page that the command writes for these arguments; its file is the directory's or that of --out."""
    command = parse(Report, list(map(str, arguments)), prog="report")
    command.run()
    return Page((command.out or command.directories[0] / "report.html").read_text(encoding="utf-8"))


def test_every_number_and_picture_of_a_result(tmp_path):
    tables = {"paired differences": [["order", "n"], [["2", "0.125 ± 0.5"]]]}
    rows = [row("a", 0, 0.5), row("a", 1, 0.7), row("b", 0, 0.25), row("b", 1, None)]
    result = make_result(tmp_path, rows, comparisons={"norm": {"p": 0.5, "tables": tables}})
    make_provenance(tmp_path)
    figure, axes = new_figure()
    axes.plot([0, 1])
    write_products(tmp_path, {"curve.png": figure})
    made = make(tmp_path)
    assert made.table("Runs") == table_of_runs(result)
    assert made.table("Runs")[1][0] == ["a", "0.01", "0", "0.500 (0,7)", "1,234"]
    assert made.table("Mean ± standard deviation over seeds") == summary(result)
    assert made.table("paired differences") == (["order", "n"], [["2", "0.125 ± 0.5"]])
    assert made.table("Configuration")[1] == [
        ["experiment", "toys"], ["command", "compare"], ["settings.training.data", "embedded"],
        ["settings.training.rate", "0.05"], ["settings.training.augment", ""], ["settings.epsilons", "0.1, 0.25"],
    ]  # fmt: skip
    assert made.texts["pre"] == [f"python -m experiments.toys --names 'a b' '{NASTY}'"]
    assert made.table("Provenance")[1] == [["commit", "0123abc+"], ["versions.jax", "0.10.2"]]
    assert made.table("Seconds") == (
        ["run", "train", "norm"],
        [["a, seed 0", "12.5", ""], ["a, seed 1", "13", "1.25"]],
    )
    assert list(made.pictures) == ["curve.png"]
    kind, data = made.pictures["curve.png"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "curve.png").read_bytes()
    assert "Warnings" not in made.texts["h3"]
    # It needs nothing from elsewhere.
    assert not {"link", "iframe", "a"} & set(made.texts)
    assert "http" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_the_checks_found(tmp_path):
    finding = {"category": "zero gradients", "value": 0.75, "advice": "divide the logits"}
    make_result(tmp_path, [row("a", 0, 0.5, []), row("b", 0, 0.5, [finding])])
    header, lines = make(tmp_path).table("Warnings")
    assert header == ["network", "strength", "seed", "category", "value", "advice"]
    assert lines == [["b", "0.01", "0", "zero gradients", "0.75", "divide the logits"]]
    make_result(tmp_path, [row("a", 0, 0.5, [])])
    made = make(tmp_path)
    assert "None." in made.texts["p"]
    assert "Warnings" in made.texts["h3"]


def test_rows_without_a_seed(tmp_path):
    rows = [row("a", 0, 0.5)]
    del rows[0]["facts"]["seed"]
    make_result(tmp_path, rows)
    assert make(tmp_path).table("Runs")[1] == [["a", "0.01", "0.500 (0,7)", "1,234"]]


def test_names_are_texts_and_no_elements(tmp_path):
    directory = tmp_path / "<script>x"
    tables = {NASTY: [[NASTY], [[NASTY]]]}
    facts = row(NASTY, 0, 0.5, [{"category": NASTY}])
    facts["cells"][NASTY] = [1, NASTY]
    make_result(directory, [facts], comparisons={"a": {"tables": tables}}, **{NASTY: NASTY})
    make_provenance(directory)
    figure, _ = new_figure()
    write_products(directory, {'"<script>.png': figure})
    made = make(directory)
    assert made.texts["script"] == [f"\n{page._SCRIPT}\n"]
    assert made.table("Runs")[1] == [[NASTY, "0.01", "0", "0.500 (0,7)", "1,234", f"1 {NASTY}"]]
    assert made.table(NASTY) == ([NASTY], [[NASTY]])
    assert made.texts["h2"] == [f"toys compare: {directory}"]
    assert made.texts["title"] == [str(directory)]
    assert list(made.pictures) == ['"<script>.png']


def test_several_results_once_each(tmp_path, capsys):
    make_result(tmp_path / "b", [row("a", 0, 0.5)])
    make_result(tmp_path / "b" / "a-seed0", [row("a", 0, 0.5)])
    make_result(tmp_path / "a", [row("b", 0, 0.5)])
    again = tmp_path / "a" / ".."  # the same directory by another name
    made = make(tmp_path / "b", again, "--out", tmp_path / "new" / "page.html")
    names = [tmp_path / "b", tmp_path / "b" / "a-seed0", again / "a"]
    assert made.texts["h2"] == [f"toys compare: {name}" for name in names]
    assert f"wrote {tmp_path / 'new' / 'page.html'}, of {names[0] / 'result.json'}" in capsys.readouterr().out
    before = (tmp_path / "new" / "page.html").read_bytes()
    make(tmp_path / "b", again, "--out", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_bytes() == before


@pytest.mark.parametrize("name", ["absum_embedded", "sigsoftmax_embedded"])
def test_the_committed_results(tmp_path, name):
    shutil.copy(COMMITTED / f"{name}.json", tmp_path / "result.json")
    made = make(tmp_path)
    result = read_json(tmp_path / "result.json")
    assert made.table("Runs") == table_of_runs(result)
    assert made.table("Mean ± standard deviation over seeds") == summary(result)


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, [], "DIR must be at least one directory with a result.json, got none"),
        ({}, ["absent"], "absent must be a directory with a result.json, got nothing there"),
        ({"result.json": "{}"}, ["result.json"], "result.json must be a directory with a result.json, got a file"),
        ({"config.json": "{}"}, ["."], ". must be a directory with a result.json, got none in it or below"),
        ({"result.json": "{"}, ["."], "result.json is damaged: Expecting"),
        ({"result.json": "[]"}, ["."], "result.json is damaged: it must hold an object, got list"),
        ({"result.json": "{}"}, ["."], "result.json is damaged: it must be a result that .*: KeyError.'rows'."),
        ({"result.json": '{"rows": 5}'}, ["."], "result.json is damaged: it must be a result that .*: TypeError"),
        ({"result.json": '{"rows": [{"facts": 1, "cells": {}}]}'}, ["."], "result.json is damaged: it must be"),
        ({"result.json": '{"rows": [], "comparisons": {"a": {}}}'}, ["."], "result.json is damaged: .*'tables'"),
        ({"result.json": '{"rows": []}', "provenance.json": ""}, ["."], "provenance.json is damaged"),
        ({"result.json": '{"rows": []}', "provenance.json": '{"seconds": 1}'}, ["."], "provenance.json is dam"),
        ({"result.json": '{"rows": []}', "a.png": "text"}, ["."], "a.png is damaged: it must be a PNG image"),
        ({"result.json": '{"rows": []}'}, [".", "--out", "result.json"], "--out must be a file that ends with"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_write_nothing(tmp_path, monkeypatch, capsys, files, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(SystemExit, match="2"), one_line_errors():
        parse(Report, arguments, prog="report").run()
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_page_is_whole_or_not_at_all(tmp_path, monkeypatch):
    make_result(tmp_path, [row("a", 0, 0.5)])
    make(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    make_result(tmp_path, [row("b", 0, 0.5)])

    def find_full(file):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "fsync", find_full)
    with contextlib.suppress(OSError):
        parse(Report, [str(tmp_path)], prog="report").run()
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "result.json"]


SORTING = """
class Head { attributes = {}; cellIndex = 0;
  closest(name) { return name === "th" ? this : {tBodies: [body]} }
  getAttribute(name) { return this.attributes[name] ?? null }
  setAttribute(name, value) { this.attributes[name] = value }
  removeAttribute(name) { delete this.attributes[name] } }
const head = new Head(); head.parentNode = {children: [head]};
const body = {rows: TEXTS.map(textContent => ({cells: [{textContent}]})), append(...rows) { this.rows = rows }};
let click; globalThis.document = {addEventListener(_, listener) { click = listener }};
SCRIPT
const orders = [0, 1].map(() => { click({target: head}); return body.rows.map(row => row.cells[0].textContent) });
console.log(JSON.stringify(orders));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's script")
def test_the_script_sorts_by_number_and_then_by_text(tmp_path):
    texts = ["b", "1,234", "0.5 (0,7)", "", "a", "-3", "98"]
    program = SORTING.replace("TEXTS", json.dumps(texts)).replace("SCRIPT", page._SCRIPT)
    (tmp_path / "sort.js").write_text(program)
    ran = subprocess.run(["node", tmp_path / "sort.js"], capture_output=True, text=True, check=True)
    up, down = json.loads(ran.stdout)
    assert up == ["-3", "0.5 (0,7)", "98", "1,234", "", "a", "b"]
    assert down == ["1,234", "98", "0.5 (0,7)", "-3", "b", "a", ""]
