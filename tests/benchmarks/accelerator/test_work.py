"""Items are worked through piece by piece: once each, in limited time, whatever happens."""

import json
import time

import pytest

from benchmarks.accelerator.__main__ import main
from benchmarks.accelerator.items import ITEMS
from benchmarks.accelerator.work import Budget, Call, LeftOutError, OutOfTimeError, work_through
from benchmarks.table import NotAvailableError


def call(out, minutes=10.0, **flags):
    return Call(out, Budget.of_minutes(minutes), **flags)


def read(out, item):
    return json.loads((out / f"{item}.json").read_text())


class Item:
    """An item whose pieces note that they were called, and then do what they are told."""

    def __init__(self, **pieces):
        self.pieces, self.calls = pieces, []

    def __call__(self, call):
        return {name: lambda name=name: self.do(name) for name in self.pieces}

    def do(self, name):
        self.calls.append(name)
        outcome = self.pieces[name]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def test_what_is_done_is_not_done_again(tmp_path):
    item = Item(a=1, b={"x": [0.5]})
    assert work_through({"item": item}, call(tmp_path)) == ({}, 0)
    assert item.calls == ["a", "b"]
    first = (tmp_path / "item.json").read_bytes()
    assert work_through({"item": item}, call(tmp_path)) == ({}, 0)
    assert item.calls == ["a", "b"]
    assert (tmp_path / "item.json").read_bytes() == first


def test_a_file_for_each_item_says_what_was_measured_and_how(tmp_path):
    work_through({"item": Item(a={"x": 0.5}), "other": Item(b=2)}, call(tmp_path))
    values = read(tmp_path, "item")
    assert values["pieces"]["a"]["result"] == {"x": 0.5}
    assert values["pieces"]["a"]["device"] == "cpu"
    assert values["pieces"]["a"]["seconds"] >= 0
    assert values["left"] == []
    assert set(values["provenance"]) >= {"command", "versions", "devices", "commit", "matmul_precision"}
    assert values["provenance"]["versions"]["jax"]
    assert list(read(tmp_path, "other")["pieces"]) == ["b"]


def test_no_time_leaves_everything(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--minutes", "0", "--tiny"]) == 0
    left = capsys.readouterr().out.splitlines()[-1]
    assert left.startswith("left: library_tests (")
    assert all(f"{name} (" in left for name in ITEMS)
    assert all(not read(tmp_path, name)["pieces"] for name in ITEMS)


def test_the_time_ends_between_two_pieces(tmp_path):
    item = Item(a=1, b=2)
    # The clock of the budget runs out while the first piece is worked on.
    budget = Budget(time.monotonic() + 0.2)
    slow = {"a": lambda: time.sleep(0.3), "b": lambda: item.do("b")}
    assert work_through({"item": lambda call: slow, "other": item}, Call(tmp_path, budget)) == (
        {"item": "1 of 2 pieces", "other": "2 of 2 pieces"},
        0,
    )
    assert item.calls == []
    assert read(tmp_path, "item")["left"] == ["b"]


def test_a_piece_that_ran_out_of_time_goes_on(tmp_path):
    item = Item(a=OutOfTimeError(), b=2)
    assert work_through({"item": item}, call(tmp_path)) == ({"item": "1 of 2 pieces"}, 0)
    before = read(tmp_path, "item")["pieces"]["a"]["seconds"]
    item.pieces["a"] = 1
    assert work_through({"item": item}, call(tmp_path)) == ({}, 0)
    assert item.calls == ["a", "b", "a"]
    assert read(tmp_path, "item")["pieces"]["a"]["seconds"] >= before


def test_a_failure_is_noted_and_tried_again(tmp_path, capsys):
    item = Item(a=MemoryError("2 GiB"), b=2)
    assert work_through({"item": item}, call(tmp_path)) == ({"item": "1 of 2 pieces"}, 1)
    assert "item, a: failed, MemoryError: 2 GiB" in capsys.readouterr().out
    assert "MemoryError: 2 GiB" in read(tmp_path, "item")["pieces"]["a"]["error"]
    item.pieces["a"] = 1
    assert work_through({"item": item}, call(tmp_path)) == ({}, 0)
    assert item.calls == ["a", "b", "a"]
    assert "error" not in read(tmp_path, "item")["pieces"]["a"]


def test_a_piece_that_ends_the_process_does_not_block_the_others(tmp_path):
    item, other = Item(a=SystemExit(1), b=2), Item(c=3)
    for _ in range(2):
        with pytest.raises(SystemExit):
            work_through({"item": item, "other": other}, call(tmp_path))
    assert item.calls == ["a", "a"]
    with pytest.raises(SystemExit):
        work_through({"item": item, "other": other}, call(tmp_path))
    assert item.calls == ["a", "a", "b", "a"]
    assert other.calls == ["c"]
    item.pieces["a"] = 1
    assert work_through({"item": item, "other": other}, call(tmp_path)) == ({}, 0)


def test_what_is_not_installed_is_left_out_for_good(tmp_path):
    item = Item(a=NotAvailableError("pip install it"))
    assert work_through({"item": item}, call(tmp_path)) == ({}, 0)
    assert read(tmp_path, "item")["pieces"]["a"]["left_out"] == "pip install it"


def test_an_item_without_its_flag_is_left_out_and_done_later(tmp_path):
    def item(call):
        if call.cifar is None:
            raise LeftOutError("it needs a flag")
        return {"a": lambda: 1}

    assert work_through({"item": item}, call(tmp_path)) == ({"item": "left out, it needs a flag"}, 0)
    assert read(tmp_path, "item")["left_out"] == "it needs a flag"
    assert work_through({"item": item}, call(tmp_path, cifar=tmp_path)) == ({}, 0)
    assert read(tmp_path, "item")["left_out"] is None


@pytest.mark.parametrize("flag", ["--cifar", "--wikitext"])
def test_a_wrong_path_is_found_before_anything_is_done(tmp_path, flag, capsys):
    with pytest.raises(SystemExit) as exit_request:
        main(["--out", str(tmp_path), "--tiny", flag, str(tmp_path / "nowhere")])
    assert exit_request.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {flag} must be ")
    assert not (tmp_path / "library_tests.json").exists()


def test_tiny_results_are_not_taken_for_full_ones(tmp_path):
    work_through({"item": Item(a=1)}, call(tmp_path, tiny=True))
    with pytest.raises(ValueError, match=r"item\.json must be of item with full sizes"):
        work_through({"item": Item(a=1)}, call(tmp_path))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "item.json").write_text('{"item"')
    with pytest.raises(ValueError, match=r"item\.json is damaged"):
        work_through({"item": Item(a=1)}, call(tmp_path))


def test_an_item_of_ones_own_is_one_entry(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ITEMS, "own", lambda call: {"a piece": lambda: {"answer": 42}})
    assert main(["own", "--out", str(tmp_path)]) == 0
    assert "own, a piece: done" in capsys.readouterr().out
    assert read(tmp_path, "own")["pieces"]["a piece"]["result"] == {"answer": 42}


def test_a_failure_is_the_exit_status(tmp_path, monkeypatch):
    monkeypatch.setitem(ITEMS, "own", Item(a=ValueError("no")))
    assert main(["own", "--out", str(tmp_path)]) == 1


def test_an_unknown_item(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pictures", "--out", str(tmp_path)])
    assert "ITEM must be one of library_tests, " in capsys.readouterr().err
