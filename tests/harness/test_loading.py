"""A run at any of its checkpoints, by name; and where its phases began."""

import json

import numpy as np
import pytest

from experiments.harness.run import Run
from tests.harness.subject import Toy


def trained(directory, *, checkpoint_every=None, keep_checkpoints=2, **settings):
    run = Run(Toy(**settings), directory, checkpoint_every, keep_checkpoints=keep_checkpoints)
    run.check()
    run.prepare()
    return run.train()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, trained(directory)


def test_a_checkpoint_is_named_by_its_epoch_or_by_its_phase(whole, tmp_path):
    directory, run = whole
    first = Run(Toy(), directory).load("1")
    assert list(first.phases) == ["base"]
    np.testing.assert_array_equal(first.params["w"], trained(tmp_path, epochs=1, finetune_epochs=0).params["w"])
    for name, phase in {"2": "base", "base": "base", "3": "finetune", "finetune": "finetune"}.items():
        found = Run(Toy(), directory).load(name)
        assert found.final_phase == phase
        np.testing.assert_array_equal(found.params["w"], run.phases[phase].state.params["w"])
    assert [line["epoch"] for line in found.lines] == [1, 2, 3]


def test_one_that_is_not_kept_is_an_error_that_names_those_that_are(whole, tmp_path):
    directory, _ = whole
    for name in ("7", "best", "../base"):
        with pytest.raises(
            ValueError, match=r"--at must be a checkpoint .*, of 1, 2, base, 3, finetune, got"
        ) as error:
            Run(Toy(), directory).evaluate({}, tmp_path / "out", name)
        assert repr(name) in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="--at must be a checkpoint that is kept, of none, got '1'"):
        Run(Toy(), tmp_path / "nowhere").load("1")


def test_a_run_that_is_not_finished_has_checkpoints_too(tmp_path):
    trained(tmp_path / "run", epochs=1, checkpoint_every=2)
    longer = Run(Toy(epochs=9), tmp_path / "run")
    with pytest.raises(ValueError, match=r"finished 1 of 9 epochs; .* or name one of its checkpoints \(--at\)"):
        longer.load()
    assert int(longer.load("0+4").phases["base"].state.step) == 4
    assert int(longer.load("base").phases["base"].state.step) == 5
    assert longer.load("2").final_phase == "finetune"


def test_as_many_of_the_newest_are_kept_as_asked_for(tmp_path):
    settings = {"epochs": 5, "finetune_epochs": 0}
    trained(tmp_path, keep_checkpoints=3, **settings)
    steps = [int(Run(Toy(**settings), tmp_path).load(name).phases["base"].state.step) for name in "345"]
    assert steps == [15, 20, 25]
    with pytest.raises(ValueError, match=r"of .*3, 4, 5, base, got '2'"):
        Run(Toy(**settings), tmp_path).load("2")


def test_a_further_phase_keeps_the_step_that_it_began_from(tmp_path, whole, capsys):
    directory, run = whole
    assert run.places == {
        "base": {"epoch": 2, "step": 10},
        "finetune": {"epoch": 1, "step": 5, "began_from_step": 10},
    }
    config = json.loads((directory / "finetune" / "config.json").read_text())
    assert {name: config[name] for name in ("epoch", "step")} == run.places["base"]
    trained(tmp_path / "run", epochs=1)
    capsys.readouterr()
    trained(tmp_path / "run", epochs=2)
    line = "begins anew, as the phase before it has changed: from its step 10 (epoch 2), not 5 (epoch 1)"
    assert f"tune toy 0.05, seed 0: {line}" in capsys.readouterr().err.splitlines()
    assert json.loads((tmp_path / "run" / "finetune" / "config.json").read_text()) == config


def test_a_further_phase_with_other_settings_follows_the_same_first_one(tmp_path, whole, capsys):
    directory = tmp_path / "run"
    trained(directory)
    capsys.readouterr()
    with pytest.raises(ValueError, match="of 1, 2, base, got 'finetune'"):
        Run(Toy(finetune_rate=0.1), directory).load("finetune")
    again = trained(directory, finetune_rate=0.1)
    lines = capsys.readouterr().err.splitlines()
    assert "tune toy 0.05, seed 0: begins anew, with finetune_rate 0.1, not 0.05" in lines
    assert not any(line.startswith("train toy 0.05, seed 0: 5") for line in lines)  # the first phase is read
    np.testing.assert_array_equal(*(run.phases["base"].state.params["w"] for run in (again, whole[1])))
    direct = trained(tmp_path / "direct", finetune_rate=0.1)
    np.testing.assert_array_equal(*(run.params["w"] for run in (again, direct)))
    assert np.any(again.params["w"] != whole[1].params["w"])
    assert json.loads((directory / "config.json").read_text())["settings"]["finetune_rate"] == 0.1


def test_a_fine_tuning_of_other_parameters_is_no_checkpoint(tmp_path):
    trained(tmp_path / "run", epochs=1)
    trained(tmp_path / "run", epochs=2, finetune_epochs=0)
    with pytest.raises(ValueError, match="of 1, 2, base, got 'finetune'"):
        Run(Toy(), tmp_path / "run").load("finetune")
