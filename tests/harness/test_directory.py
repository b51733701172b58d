"""The directory of a run: free or its own, and nobody else's."""

import contextlib
import json

import pytest
from etils import epath

from experiments.harness.directory import RunDirectory, read_config, require_place

IDENTITY = {"rate": 0.1, "nested": {"width": 3, "seed": 0}}
PRODUCTS = ("checkpoints", "metrics.jsonl")


def directory(path, **changes):
    return RunDirectory(path, "toy", IDENTITY | changes, PRODUCTS)


def made(path):
    directory(path).prepare({"settings": 1})
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "data").write_text("")
    (path / "notes.txt").write_text("the user's own")
    return path


def test_it_is_made_once_and_opened_again(tmp_path):
    path = tmp_path / "new" / "run"
    directory(path).check()
    assert not path.exists()
    directory(path).prepare({"settings": 1})
    assert read_config(path, "toy") == {"experiment": "toy", "identity": IDENTITY, "settings": {"settings": 1}}
    written = (path / "config.json").stat().st_mtime_ns
    directory(path).prepare({"settings": 1})
    assert (path / "config.json").stat().st_mtime_ns == written
    directory(path).prepare({"settings": 2})  # not part of what it is
    assert read_config(path, "toy")["settings"] == {"settings": 2}
    assert [each.name for each in path.iterdir()] == ["config.json"]


def test_another_identity_is_refused_by_name_and_value(tmp_path):
    path = made(tmp_path / "run")
    with pytest.raises(ValueError, match=r"another configuration \(nested.width is 3 there, 4 here\); .*--force"):
        directory(path, nested={"width": 4, "seed": 0}).check()
    with pytest.raises(ValueError, match=r"rate is 0.1 there, 0.2 here"):
        directory(path, rate=0.2).prepare({})
    with pytest.raises(ValueError, match=r"momentum is None there, 0.9 here"):
        directory(path, momentum=0.9).check()


def test_force_removes_what_a_run_of_ours_made_and_nothing_else(tmp_path):
    path = made(tmp_path / "run")
    directory(path, rate=0.2).prepare({}, force=True)
    assert {each.name for each in path.iterdir()} == {"config.json", "notes.txt"}
    assert read_config(path, "toy")["identity"]["rate"] == 0.2


@pytest.mark.parametrize("force", [False, True])
def test_what_nothing_vouches_for_is_refused_and_left_alone(tmp_path, force):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"has checkpoints but no .*, so that nothing says what it is of"):
        directory(tmp_path).prepare({}, force=force)
    assert (tmp_path / "checkpoints").exists()
    for foreign in ({"name": "a package"}, {"experiment": "other", "identity": {}, "settings": {}}):
        (tmp_path / "config.json").write_text(json.dumps(foreign))
        with pytest.raises(ValueError, match=r"config.json is not the config of a run of toy; choose another"):
            directory(tmp_path).prepare({}, force=force)
        assert json.loads((tmp_path / "config.json").read_text()) == foreign
    assert (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        directory(tmp_path).check()


def test_a_directory_of_results_is_no_place_for_a_run(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a result, not a run"):
        directory(tmp_path).check()


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run of toy: it has no config.json"):
        read_config(tmp_path, "toy")


def test_processes_that_do_not_share_it_are_told(tmp_path, monkeypatch):
    """As seen by a second process whose disk is its own: the first one's file is not there."""
    monkeypatch.setattr("experiments.harness.directory.is_main_process", lambda: False)
    monkeypatch.setattr("experiments.harness.directory.is_alone", lambda: False)
    seen_by_first = json.dumps({"whether what process 0 wrote to --out is there": True})
    monkeypatch.setattr(
        "experiments.training.agreement.from_all",
        lambda text: [seen_by_first if "wrote" in text else text, text],
    )
    with pytest.raises(
        ValueError, match="is True on process 0, False on process 1; --out must be on storage that"
    ):
        directory(tmp_path).prepare({})


@pytest.mark.parametrize("is_main", [True, False])
def test_one_process_alone_tries_whether_it_can_write(tmp_path, monkeypatch, is_main):
    monkeypatch.setattr("experiments.harness.directory.is_main_process", lambda: is_main)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|exists") if is_main else contextlib.nullcontext():
        require_place(epath.Path(tmp_path / "file" / "directory"))
    require_place(epath.Path(tmp_path / "new"))
    assert (tmp_path / "new").exists() == is_main
