"""A run: checked before anything is made, resumed, made longer, loaded; and a comparison of several."""

import dataclasses
import errno
import json
import shutil

import jax
import numpy as np
import pytest

from experiments.harness.directory import held
from experiments.harness.evaluation import chosen
from experiments.harness.run import Run, compare, train_one
from experiments.places import place
from tests.command_line import only
from tests.harness.subject import Toy, make_evaluation


def trained(directory, **settings):
    run = Run(Toy(**settings), directory)
    run.check()
    run.prepare()
    return run.train()


def same(one, other):
    for found, wanted in zip(*(jax.tree.leaves(each.phases) for each in (one, other)), strict=True):
        if isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(found, wanted)


def files(directory):
    return {path.relative_to(directory): path.stat().st_mtime_ns for path in directory.rglob("*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, trained(directory)


def test_phases_follow_one_another(whole):
    directory, run = whole
    assert list(run.phases) == ["base", "finetune"]
    assert [line["epoch"] for line in run.lines] == [1, 2, 3]
    assert run.final_phase == "finetune"  # this toy only gets better
    assert {path.name for path in directory.iterdir()} == {
        "config.json",
        "checkpoints",
        "metrics.jsonl",
        "steps.jsonl",
        "finetune",
    }
    config = json.loads((directory / "config.json").read_text())
    assert config["experiment"] == "toy"
    settings = {"rate": 0.05, "epochs": 2, "finetune_epochs": 1, "seed": 0, "finetune_rate": 0.05}
    assert config["settings"] == settings
    logged = [json.loads(line)["epoch"] for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert logged == [1, 2]


def test_a_finished_run_can_be_written_for_tensorboard_as_well(tmp_path, whole):
    pytest.importorskip("tensorboardX")
    directory = shutil.copytree(whole[0], tmp_path / "run")
    run = Run(Toy(), directory, tensorboard=True)
    run.prepare()
    run.train()
    found = sorted(str(path.relative_to(directory)) for path in directory.rglob("*tfevents*"))
    name = "events.out.tfevents.00000000"
    assert found == [
        f"finetune/tensorboard/metrics/{name}0005",
        f"finetune/tensorboard/steps/{name}0005",
        f"tensorboard/metrics/{name}0010",
        f"tensorboard/steps/{name}0010",
    ]


def test_what_is_done_is_read_and_nothing_is_written(whole):
    directory, run = whole
    before = files(directory)
    same(trained(directory), run)
    same(Run(Toy(), directory).load(), run)
    kept = {name: time for name, time in files(directory).items() if name.suffix in (".json", ".jsonl")}
    assert kept == {name: before[name] for name in kept}


def test_a_run_can_be_made_longer_and_what_followed_is_done_anew(tmp_path, whole, capsys):
    trained(tmp_path / "run", epochs=1)
    capsys.readouterr()
    same(trained(tmp_path / "run"), whole[1])
    assert "tune toy 0.05, seed 0: begins anew, as the phase before it has changed" in capsys.readouterr().err
    longer = trained(tmp_path / "run", finetune_epochs=2)
    assert [len(phase.lines) for phase in longer.phases.values()] == [2, 2]
    assert "begins anew" not in capsys.readouterr().err


def test_fewer_epochs_than_are_done_are_refused_before_anything_changes(whole):
    directory, _ = whole
    before = files(directory)
    for fewer, label in (({"epochs": 1}, "train"), ({"epochs": 2, "finetune_epochs": 0}, None)):
        run = Run(Toy(**fewer), directory)
        if label is None:  # a phase that is not asked for is left alone
            run.check()
            continue
        with pytest.raises(ValueError, match=f"has 2 epochs of {label} toy .* more than the 1 asked for"):
            run.check()
    assert files(directory) == before


def test_a_run_whose_first_phase_is_done_can_be_loaded(tmp_path, whole):
    trained(tmp_path / "run", finetune_epochs=0)
    loaded = Run(Toy(), tmp_path / "run").load()
    assert list(loaded.phases) == ["base"]
    np.testing.assert_array_equal(loaded.params["w"], whole[1].phases["base"].state.params["w"])
    with pytest.raises(ValueError, match="has finished 2 of 3 epochs"):
        Run(Toy(epochs=3), tmp_path / "run").load()


def test_a_fine_tuning_of_other_parameters_is_not_loaded(tmp_path):
    trained(tmp_path / "run", epochs=1)
    trained(tmp_path / "run", epochs=2, finetune_epochs=0)
    assert list(Run(Toy(), tmp_path / "run").load().phases) == ["base"]


@pytest.mark.parametrize("damage", ["", "not json\n", '{"epoch": 1, "step": "x"}\n', None])
def test_a_log_that_is_lost_or_damaged_is_written_again(tmp_path, whole, damage):
    trained(tmp_path / "run", finetune_epochs=0)
    path = tmp_path / "run" / "metrics.jsonl"
    before = [json.loads(line)["train_loss"] for line in path.read_text().splitlines()]
    path.unlink() if damage is None else path.write_text(damage)
    trained(tmp_path / "run", finetune_epochs=0)
    assert [json.loads(line)["train_loss"] for line in path.read_text().splitlines()] == before


def test_a_comparison_checks_all_before_it_makes_any(tmp_path):
    runs = [Run(Toy(), tmp_path / "a"), Run(Toy(rate=-1.0), tmp_path / "b")]
    with pytest.raises(ValueError, match=r"rate must be positive, got -1\.0"), compare(runs, {}, tmp_path):
        pass
    evaluation = make_evaluation()
    wrong = {"norm": (evaluation, dataclasses.replace(evaluation.settings, order=0))}
    message = r"--norm\.order must be at least 1, got 0"
    with pytest.raises(ValueError, match=message), compare(runs[:1], wrong, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_trains_and_measures_every_run(tmp_path):
    table = {"norm": make_evaluation()}
    runs = [Run(Toy(rate=rate, finetune_epochs=0), tmp_path / f"{rate}") for rate in (0.05, 0.01)]
    with compare(runs, chosen(table, (), None), tmp_path) as finished:
        assert (tmp_path / ".lock").exists()
    assert [trained.subject.rate for trained, _ in finished] == [0.05, 0.01]
    for run, (each, measured) in zip(runs, finished, strict=True):
        np.testing.assert_allclose(measured["norm"].numbers["norm"], np.linalg.norm(each.params["w"]), rtol=1e-6)
        stored = only(run.directory / "evaluations" / "norm")
        assert (stored / "numbers.json").exists()
        assert (stored / "norm.txt").read_text() == f"{each.subject.label} 1\n"


def test_evaluating_elsewhere_leaves_the_run_alone(tmp_path, whole):
    directory, run = whole
    before = files(directory)
    _, measured = Run(Toy(), directory).evaluate(chosen({"norm": make_evaluation()}, (), None), tmp_path / "out")
    np.testing.assert_allclose(measured["norm"].numbers["norm"], np.linalg.norm(run.params["w"]), rtol=1e-6)
    assert files(directory) == before


def test_a_directory_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path, whole):
    (tmp_path / "file").write_text("")
    measured = []
    evaluations = chosen({"norm": make_evaluation(measured)}, (), None)
    with pytest.raises(OSError, match="file"):
        Run(Toy(), whole[0]).evaluate(evaluations, tmp_path / "file" / "out")
    assert measured == []


def test_a_directory_that_cannot_be_written_is_found_before_anything_is_trained(tmp_path, monkeypatch):
    """As on a disk that is full or can only be read: no file can be opened."""
    trained(tmp_path / "begun", epochs=1, finetune_epochs=0)
    before = files(tmp_path)
    steps = []
    monkeypatch.setattr("experiments.harness.run.train", lambda *arguments: steps.append(arguments))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train_one(Run(Toy(), tmp_path / "file" / "run"))
    monkeypatch.setattr("experiments.storage.write_bytes", read_only)
    for directory in ("begun", "new"):
        with pytest.raises(OSError, match=r"Read-only file system.*writable"):
            Run(Toy(epochs=1, finetune_epochs=0), tmp_path / directory).prepare()
    assert steps == []
    assert {name: before[name] for name in before if name.name != "begun"}.items() <= files(tmp_path).items()


def test_a_bucket_that_can_hold_no_checkpoints_is_refused():
    with pytest.raises(ValueError, match="checkpoints must be on a disk or in gs://, got s3://bucket/run: orbax"):
        Run(Toy(), place("s3://bucket/run")).check()


def reported(runs, directory, *, force=False):
    with compare(runs, {}, directory, force=force):
        pass


def read_only(path, content):
    raise OSError(errno.EROFS, "Read-only file system", str(path))


def test_a_second_run_on_the_same_directory_is_refused(tmp_path, whole):
    directory = shutil.copytree(whole[0], tmp_path / "run")
    before = files(directory)
    evaluations = chosen({"norm": make_evaluation()}, (), None)
    with held(directory):
        for work in (
            lambda: train_one(Run(Toy(), directory)),
            lambda: train_one(Run(Toy(), directory), force=True),
            lambda: reported([Run(Toy(), tmp_path / "other"), Run(Toy(), directory)], tmp_path),
            lambda: reported([], directory),
            lambda: Run(Toy(), directory).evaluate(evaluations, directory),
        ):
            with pytest.raises(
                ValueError, match=r"run is in use by process \d+ on .*; wait for it, or choose another"
            ):
                work()
    assert files(directory) == before
    assert not (tmp_path / "other" / "checkpoints").exists()
    same(train_one(Run(Toy(), directory)), whole[1])
    assert not (directory / ".lock").exists()


def test_nothing_is_started_over_where_one_of_several_is_in_use(tmp_path, whole):
    first, second = (shutil.copytree(whole[0], tmp_path / name) for name in ("first", "second"))

    def inside():
        return {name: time for name, time in files(tmp_path).items() if (tmp_path / name).is_file()}

    before = inside()
    with held(second), pytest.raises(ValueError, match="second is in use"):
        reported([Run(Toy(), first), Run(Toy(), second)], tmp_path, force=True)
    assert inside() == before
