"""Evaluations: stored, used again where they fit, gone on with where they stopped, made anew where damaged."""

import dataclasses
import json
import os
import signal
import weakref

import numpy as np
import pytest

from experiments.harness.evaluation import chosen, evaluate
from experiments.harness.run import Run
from experiments.harness.stored import Measured, checksum
from experiments.training.signals import Interrupted, listening
from tests.command_line import only
from tests.harness.subject import Norm, Toy, make_evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = Run(Toy(finetune_epochs=0), tmp_path_factory.mktemp("run"))
    run.prepare()
    return run.train()


def measure(trained, directory, settings=None, measured=None, **changes):
    """The numbers, and the parts that were measured for them."""
    parts = [] if measured is None else measured
    evaluation = make_evaluation(parts, **changes)
    found = evaluate(trained, {"norm": (evaluation, settings or evaluation.settings)}, directory)
    return found["norm"], parts


def test_what_is_stored_is_used_again(trained, tmp_path):
    first, parts = measure(trained, tmp_path)
    assert parts == [0, 1, 2]
    again, parts = measure(trained, tmp_path)
    assert parts == []
    assert again.numbers == first.numbers
    assert again.seconds == first.seconds
    np.testing.assert_array_equal(again.arrays["1"], first.arrays["1"])
    assert {path.name for path in only(tmp_path / "evaluations" / "norm").iterdir()} == {
        "numbers.json", "arrays.npz", "norm.txt",
    }  # fmt: skip


def test_arrays_are_on_the_disk_and_not_in_memory(trained, tmp_path):
    made = []

    def measure(trained, settings, partial):
        array = np.arange(3.0)
        made.append(weakref.ref(array))
        return Measured({}, {"a": array, "b": np.ones(2)})

    evaluation = dataclasses.replace(make_evaluation(), measure=measure, products=lambda group: {})
    for _ in range(2):  # measured, then read
        found = evaluate(trained, {"norm": (evaluation, Norm())}, tmp_path)["norm"].arrays
        assert (len(made), made[0]()) == (1, None)
        assert list(found) == ["a", "b"]
        np.testing.assert_array_equal(found["a"], np.arange(3.0))
        with pytest.raises(KeyError):
            found["c"]


@pytest.mark.parametrize(
    "changes",
    [{"settings": Norm(order=3)}, {"version": 2}, {"data": lambda trained, settings: "other data"}],
    ids=["settings", "version", "data"],
)
def test_other_settings_version_or_data_are_measured_anew(trained, tmp_path, changes):
    first, _ = measure(trained, tmp_path)
    assert measure(trained, tmp_path, **changes)[1] == [0, 1, 2]
    assert measure(trained, tmp_path, **changes)[1] == []
    # What was stored before lies beside it.
    again, parts = measure(trained, tmp_path)
    assert (parts, again.numbers) == ([], first.numbers)
    stored = [json.loads(path.read_text()) for path in tmp_path.glob("evaluations/norm/*/numbers.json")]
    assert {each["key"]["version"] for each in stored} == {1, changes.get("version", 1)}


def test_other_parameters_are_measured_anew(trained, tmp_path):
    measure(trained, tmp_path)
    base = trained.phases["base"]
    params = {"w": base.state.params["w"] + 1}
    grown = dataclasses.replace(trained, phases={"base": base._replace(state=base.state.replace(params=params))})
    measured, parts = measure(grown, tmp_path)
    assert parts == [0, 1, 2]
    np.testing.assert_allclose(measured.numbers["norm"], np.linalg.norm(params["w"]), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [("numbers.json", "{}"), ("numbers.json", "{"), ("arrays.npz", "PK"), ("arrays.npz", None)],
)
def test_damage_is_measured_anew_with_a_line(trained, tmp_path, capsys, name, text):
    first, _ = measure(trained, tmp_path)
    path = only(tmp_path / "evaluations" / "norm") / name
    path.unlink() if text is None else path.write_text(text)
    again, parts = measure(trained, tmp_path)
    assert parts == [0, 1, 2]
    assert again.numbers == first.numbers
    assert f"{path.parent} is measured anew: " in capsys.readouterr().err


class _Killed(Exception):  # not an error
    pass


class _Breaking(list):
    """A list that is broken off at its third entry."""

    def append(self, part):
        if len(self) == 2:
            raise _Killed
        super().append(part)


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_broken_off_goes_on_where_it_stopped(trained, tmp_path, damaged, capsys):
    with pytest.raises(_Killed):
        measure(trained, tmp_path, measured=_Breaking())
    partial = only(tmp_path / "evaluations" / "norm") / "partial.npz"
    if damaged:
        partial.write_bytes(partial.read_bytes()[:50])
    measured, parts = measure(trained, tmp_path)
    assert parts == ([0, 1, 2] if damaged else [2])
    assert ("partial.npz is damaged" in capsys.readouterr().err) == damaged
    np.testing.assert_allclose(measured.numbers["norm"], np.linalg.norm(trained.params["w"]), rtol=1e-6)
    assert not partial.exists()


def test_parts_of_other_settings_are_not_gone_on_with(trained, tmp_path):
    with pytest.raises(_Killed):
        measure(trained, tmp_path, measured=_Breaking())
    assert measure(trained, tmp_path, settings=Norm(order=3))[1] == [0, 1, 2]
    assert measure(trained, tmp_path)[1] == [2]  # nor are they lost


def test_evaluations_are_chosen_by_name_with_their_settings():
    table = {"norm": make_evaluation(), "other": make_evaluation(), "dear": make_evaluation(by_default=False)}
    settings = dataclasses.make_dataclass("Settings", [("norm", Norm)])(Norm(order=7))
    found = chosen(table, (), settings)
    assert {name: each.order for name, (_, each) in found.items()} == {"norm": 7, "other": 2}
    assert list(chosen(table, ("dear", "other"), settings)) == ["dear", "other"]
    with pytest.raises(ValueError, match="--evaluations must be of norm, other, dear, got 'pgd'"):
        chosen(table, ("norm", "pgd"), settings)


def test_a_checksum_tells_names_shapes_dtypes_and_values_apart():
    trees = [
        {"a": np.zeros(4, np.float32)}, {"b": np.zeros(4, np.float32)}, {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)}, {"a": np.eye(1, 4, dtype=np.float32)[0]},
    ]  # fmt: skip
    assert len({checksum(tree) for tree in trees}) == len(trees)
    assert checksum({"a": np.ones((3, 2)).T}) == checksum({"a": np.ones((2, 3))})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_parts_which_are_kept(trained, tmp_path, number):
    class Measured(list):
        def append(self, part):
            super().append(part)
            if part == 1:
                os.kill(os.getpid(), number)

    parts = Measured()
    with (
        listening(),
        pytest.raises(Interrupted, match="the parts of norm that are done are kept; the same command"),
    ):
        measure(trained, tmp_path, measured=parts)
    assert parts == [0, 1]
    found, parts = measure(trained, tmp_path)
    assert parts == [2]
    np.testing.assert_allclose(found.numbers["norm"], np.linalg.norm(trained.params["w"]), rtol=1e-6)
