"""The search for the worst attack of all: against every attack in float64, what is kept, what is refused."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.absum.evaluations.fourier_sweeps import equal_phases
from experiments.absum.evaluations.worst_frequency import WORST_FREQUENCY, WorstFrequency
from experiments.harness.stored import Partial
from tests.absum.evaluations import linear

# An L2 norm at which no other wave comes as near to the worst as rounding.
SETTINGS = WorstFrequency(images=33, epsilon=0.3, l2_epsilon=2.0, phases=2, confidence=None, batch_size=8)


@pytest.fixture(scope="module")
def trained():
    return linear.trained()


def measure(trained, path, settings=SETTINGS):
    return WORST_FREQUENCY.measure(trained, settings, Partial(path / "partial.npz", {}))


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    return measure(trained, tmp_path_factory.mktemp("worst"))


@pytest.fixture(scope="module")
def counts(trained):
    """Of every attack, in float64: norm -> correct [P, F]."""
    phases = equal_phases(2)
    return {
        norm: linear.counts(trained, "test", 33, phases, epsilons=(epsilon,), norm=norm)[0]
        for norm, epsilon in {"linf": 0.3, "l2": 2.0}.items()
    }


def test_the_worst_is_that_of_all_attacks(measured, counts):
    worst = measured.numbers["worst"]
    assert worst["linf"]["correct"] == counts["linf"].min()
    assert worst["without_binary"]["correct"] == counts["linf"][:, ~linear.IS_BINARY].min()
    assert worst["l2"]["correct"] == counts["l2"].min()
    assert measured.numbers["attacks"] == {"binary": 20, "without_binary": 48}
    # Not the same attack in all three, so that one cannot stand for another.
    assert len({(*each["frequency"], each["phase"]) for each in worst.values()}) > 1


def test_which_images_stay_right_is_kept(trained, measured):
    for name, each in measured.numbers["worst"].items():
        norm, epsilon = ("l2", 2.0) if name == "l2" else ("linf", 0.3)
        wanted = linear.right(trained, "test", each["frequency"], epsilon, phase=each["phase"], norm=norm)
        np.testing.assert_array_equal(measured.arrays[f"is_right_{name}"], wanted[:33])
        assert each["accuracy"] == pytest.approx(wanted[:33].mean(), abs=1e-6)  # six digits are kept


def test_with_confidence_fewer_images_are_seen(trained, measured, tmp_path):
    found = measure(trained, tmp_path, dataclasses.replace(SETTINGS, confidence=0.9, batch_size=4))
    assert found.numbers["forward_share"] < 1
    # What is said of the wave that was found is exact, so that it cannot be below the lowest of all.
    for name, each in found.numbers["worst"].items():
        assert each["correct"] >= measured.numbers["worst"][name]["correct"]


class _KilledError(Exception):
    pass


def test_a_killed_search_goes_on_where_it_stopped(trained, measured, tmp_path, monkeypatch):
    write, seen = Partial.write, []  # how many outcomes of each search were known, at each write

    def counted(self, **arrays):
        write(self, **arrays)
        seen.append(
            [int(arrays.get(f"{name}_evaluated", np.zeros(1)).sum()) for name in ("binary", "without_binary")]
        )
        if sum(each[1] > 0 for each in seen) == 1:  # once, after a round of the second search
            raise _KilledError

    monkeypatch.setattr(Partial, "write", counted)
    with pytest.raises(_KilledError):
        measure(trained, tmp_path)
    stopped = len(seen)
    found = measure(trained, tmp_path)
    assert found.numbers == measured.numbers
    assert seen[stopped][0] == seen[stopped - 1][0] > 0  # nothing of the first search again
    assert seen[stopped][1] > seen[stopped - 1][1] > 0


def test_default_norms_are_those_of_one_wave():
    assert WorstFrequency().epsilons((28, 28, 1)) == {"linf": 0.3, "l2": 5.94}  # 0.3 sqrt(28 28 / 2)
    colour = WorstFrequency().epsilons((32, 32, 3))
    assert colour == {"linf": 16 / 255, "l2": round(16 / 255 * math.sqrt(32 * 32 * 3 / 2), 2)}


def test_cells_pairs_and_findings_are_those_of_the_numbers(trained, measured):
    worst = measured.numbers["worst"]
    cells = WORST_FREQUENCY.cells(measured.numbers)
    names = {"linf": "worst of all at 0.3", "without_binary": "worst of all without binary at 0.3"}
    for name, column in (names | {"l2": "L2 worst of all at 2"}).items():
        assert cells[column].value == worst[name]["accuracy"]
    findings = WORST_FREQUENCY.findings(measured.numbers)
    assert [(each["threat_model"], each["epsilon"], each["correct"]) for each in findings] == [
        ("Linf", 0.3, worst["linf"]["correct"]), ("L2", 2.0, worst["l2"]["correct"]),
    ]  # fmt: skip
    assert WORST_FREQUENCY.score(measured.numbers) == worst["linf"]["accuracy"]
    other = linear.trained("none")
    right = ~measured.arrays["is_right_linf"]
    against = measured._replace(arrays={"is_right_linf": right})
    compared = WORST_FREQUENCY.comparison.measure([(trained, measured), (other, against)], SETTINGS, None).numbers
    assert compared["others"][0]["images"][0]["first_only"] == worst["linf"]["correct"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 42}, "--worst-frequency.images must be at most the 41 test images"),
        ({"images": 0}, "--worst-frequency.images must be at least 1"),
        ({"epsilon": 1.5}, r"--worst-frequency.epsilon must lie in \[0, 1\]"),
        ({"l2_epsilon": 12.0}, r"--worst-frequency.l2-epsilon must lie in \[0, 11.3137\]"),
        ({"phases": 0}, "--worst-frequency.phases must be at least 1"),
        ({"confidence": 1.0}, r"--worst-frequency.confidence must lie in \(0, 1\) or be None"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trained, change, message):
    WORST_FREQUENCY.check(trained.subject, dataclasses.replace(SETTINGS, images=None))
    with pytest.raises(ValueError, match=message):
        WORST_FREQUENCY.check(trained.subject, dataclasses.replace(SETTINGS, **change))
