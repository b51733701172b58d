"""The single Fourier attack of a trained network: its numbers, what is kept, and where it goes on."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from absum_jax import frequency_grid
from experiments.absum.__main__ import main
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.evaluations.fourier import FOURIER_L2, Fourier
from experiments.absum.run import open_run
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from experiments.storage import read_arrays
from tests.absum.settings import ATTACK
from tests.command_line import error_line, only, read

fails = functools.partial(error_line, main)
EVALUATE = ["evaluate", "--run", "net", *ATTACK]


@pytest.fixture
def stored(network):
    """Where the attack on ``network`` is kept."""
    return only(network / "evaluations" / "fourier")


def attack(images, frequency):
    """The first 24 images under the largest epsilon, by the formula of the wave."""
    rows, columns = np.mgrid[:16, :16]
    waves = np.cos(2 * np.pi * (frequency[0] * rows + frequency[1] * columns) / 16 + np.pi / 4)
    pattern = np.float32(0.3 * waves / np.abs(waves).max())
    return np.clip(to_float(images[:24]) + pattern[None, :, :, None], 0, 1)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_every_distinct_frequency_is_counted_in_order(stored):
    arrays = read_arrays(stored / "arrays.npz")
    for split, count in (("test", 24), ("validation", 32)):
        np.testing.assert_array_equal(arrays[f"{split}_frequencies"], frequency_grid(16, 16, half=True))
        assert arrays[f"{split}_correct"].shape == (2, 1, 130)
        assert arrays[f"{split}_total"] == count
        assert arrays[f"{split}_epsilons"].tolist() == np.float32([0.1, 0.3]).tolist()


def test_what_was_attacked_is_said(stored):
    numbers = read(stored / "numbers.json")["numbers"]
    assert {
        "norm": "linf",
        "phases": [0.785398],
        "bounds": [0, 1],
        "split": "test",
        "images": 24,
        "frequencies": 130,
        "binary_attacks": 10,
        "epsilons": [0.1, 0.3],
    }.items() <= numbers.items()
    assert (numbers["chosen_on_validation"]["validation_images"], numbers["chosen_on_validation"]["images"]) == (
        32,
        40,
    )


def test_counts_are_those_of_attacked_images(network, stored):
    trained = open_run(network).load()
    images, labels = trained.subject.images("test")
    arrays = read_arrays(stored / "arrays.npz")
    for index in (0, 17, 129):
        attacked = attack(images, arrays["test_frequencies"][index])
        assert (
            np.sum(predicted_classes(trained, attacked, 24) == labels[:24]) == arrays["test_correct"][1, 0, index]
        )


def test_the_images_shown_are_those_that_are_fooled(network, stored):
    arrays = read_arrays(stored / "arrays.npz")
    shown, labels, classes = (arrays[f"example_{name}"] for name in ("images", "labels", "classes"))
    assert (shown.shape, classes.shape) == ((3, 4, 16, 16, 1), (3, 4))
    change = np.abs(shown[1:] - shown[0]).max(axis=(2, 3, 4))
    assert (change <= np.array([[0.1], [0.3]]) + 1e-6).all()  # a rounding of float32
    assert change.min() > 0
    assert 0 <= shown.min() <= shown.max() <= 1
    is_fooled = (classes[0] == labels) & (classes[2] != labels)
    trained = open_run(network).load()
    images, right = trained.subject.images("test")
    worst = arrays["test_frequencies"][arrays["test_correct"][1].argmin()]
    shown_to = to_float(images[:24]), attack(images, worst)
    clean, found = (predicted_classes(trained, each, 24) for each in shown_to)
    count = np.sum((clean == right[:24]) & (found != right[:24]))
    assert is_fooled.tolist() == [i < count for i in range(4)]


class _KilledError(Exception):
    pass


def test_a_killed_attack_goes_on_where_it_stopped(network, stored, monkeypatch):
    wanted = {name: (stored / name).read_bytes() for name in ("numbers.json", "arrays.npz")}
    arrays, numbers = read_arrays(stored / "arrays.npz"), read(stored / "numbers.json")
    for name in wanted:
        (stored / name).unlink()
    written, write = [], Partial.write

    def counted(self, **parts):
        write(self, **parts)
        written.append(sum(len(parts.get(f"{split}_frequencies", ())) for split in ("validation", "test")))
        if sum(each > 160 for each in written) == 1:  # once, among the test images
            raise _KilledError

    monkeypatch.setattr(Partial, "write", counted)
    with pytest.raises(_KilledError):
        main(EVALUATE)
    done = read_arrays(stored / "partial.npz")["test_frequencies"]
    assert 0 < len(done) == written[-1] - 130 < 130
    assert not (stored / "numbers.json").exists()
    main(EVALUATE)
    assert written == sorted(set(written))  # no frequency again
    assert written[-1] == 260
    assert not (stored / "partial.npz").exists()
    same(read_arrays(stored / "arrays.npz"), arrays)
    found = read(stored / "numbers.json")
    assert json.dumps(found["numbers"]) == json.dumps(numbers["numbers"])
    assert found["key"] == numbers["key"]


def test_parts_are_known_by_their_frequencies(network, stored, monkeypatch):
    """As they lie after a run with parts of another size, on more or fewer devices."""
    arrays, key = read_arrays(stored / "arrays.npz"), read(stored / "numbers.json")["key"]
    some = np.r_[100:130, 3:5]
    part = arrays | {
        "test_frequencies": arrays["test_frequencies"][some],
        "test_correct": arrays["test_correct"][..., some] + 1,
    }
    for file in ("arrays.npz", "numbers.json"):
        (stored / file).unlink()
    Partial(stored / "partial.npz", key).write(**part)
    main(EVALUATE)
    # What was there has been taken as it was, one too many, and the rest measured.
    expected = arrays["test_correct"].copy()
    expected[..., some] += 1
    np.testing.assert_array_equal(read_arrays(stored / "arrays.npz")["test_correct"], expected)


def test_parts_of_something_else_are_not_taken(network, stored, capsys):
    arrays, key = read_arrays(stored / "arrays.npz"), read(stored / "numbers.json")["key"]
    wrong = arrays | {"test_correct": arrays["test_correct"] + 1}
    for damage in ("another key", "cut short"):
        for file in ("arrays.npz", "numbers.json"):
            (stored / file).unlink()
        if damage == "another key":
            Partial(stored / "partial.npz", key | {"params": "00000000"}).write(**wrong)
        else:
            (stored / "partial.npz").write_bytes(b"PK\x03\x04")
        main(EVALUATE)
        same(read_arrays(stored / "arrays.npz"), arrays)
    assert "partial.npz is damaged" in capsys.readouterr().err


def test_what_is_stored_is_used_again(network, stored):
    before = {path: path.stat().st_mtime_ns for path in stored.iterdir()}
    main(EVALUATE)
    assert {path: path.stat().st_mtime_ns for path in stored.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("numbers.json", lambda whole: b"{}"),
        ("numbers.json", lambda whole: whole[: len(whole) // 2]),
        ("arrays.npz", lambda whole: whole[: len(whole) // 2]),
        ("arrays.npz", None),
    ],
)
def test_what_is_damaged_is_measured_anew(network, stored, capsys, name, damage):
    arrays, numbers = read_arrays(stored / "arrays.npz"), read(stored / "numbers.json")
    if damage is None:
        (stored / name).unlink()
    else:
        (stored / name).write_bytes(damage((stored / name).read_bytes()))
    main(EVALUATE)
    assert f"evaluations/fourier/{stored.name} is measured anew: " in capsys.readouterr().err
    same(read_arrays(stored / "arrays.npz"), arrays)
    assert read(stored / "numbers.json")["numbers"] == numbers["numbers"]


def test_lost_numbers_are_measured_anew(network, stored):
    numbers = read(stored / "numbers.json")
    (stored / "numbers.json").unlink()
    main(EVALUATE)
    assert read(stored / "numbers.json")["numbers"] == numbers["numbers"]


def test_another_epsilon_is_measured_without_training(network, stored):
    checkpoints = {path: path.stat().st_mtime_ns for path in (network / "checkpoints").rglob("*")}
    arrays = read_arrays(stored / "arrays.npz")
    main(["evaluate", "--run", "net", "--fourier.images", "24", "--fourier.epsilons", "0.3", "0"])
    assert {path: path.stat().st_mtime_ns for path in (network / "checkpoints").rglob("*")} == checkpoints
    fourier = read(network / "result.json")["rows"][0]["fourier"]
    assert fourier["epsilons"] == [0.3, 0.0]
    assert fourier["mean_accuracy"][0] == pytest.approx(arrays["test_correct"][1].mean() / 24, abs=1e-6)
    np.testing.assert_allclose(
        [fourier["worst_accuracy"][1], fourier["mean_accuracy"][1]], fourier["clean_accuracy"], atol=1e-6
    )
    # Neither has taken the place of the other: with the first settings nothing is measured anew.
    before = {path: path.stat().st_mtime_ns for path in stored.parent.rglob("*")}
    assert len(list(stored.parent.iterdir())) == 2
    main(EVALUATE)
    assert {path: path.stat().st_mtime_ns for path in stored.parent.rglob("*")} == before
    assert read(network / "result.json")["rows"][0]["fourier"] == read(stored / "numbers.json")["numbers"]


def test_numbers_of_another_key_are_measured_anew(network, stored, capsys):
    numbers = read(stored / "numbers.json")
    (stored / "numbers.json").write_text(json.dumps(numbers | {"key": numbers["key"] | {"params": "00000000"}}))
    main(EVALUATE)
    assert "numbers.json is of another key than its directory" in capsys.readouterr().err
    assert read(stored / "numbers.json")["key"] == numbers["key"]


def test_the_l2_norm_is_another_entry(network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EVALUATIONS, "fourier_l2", dataclasses.replace(FOURIER_L2, products=lambda group: {}))
        flags = ["--evaluations", "fourier_l2", "--fourier-l2.images", "24"]
        main(["evaluate", "--run", "net", *flags])
    (row,) = read(network / "result.json")["rows"]
    # Waves of amplitude 0.2 and 0.3 on 16x16 pixels: 0.2 sqrt(128) and 0.3 sqrt(128).
    assert (row["fourier_l2"]["norm"], row["fourier_l2"]["epsilons"]) == ("l2", [2.26, 3.39])
    assert set(row["cells"]) == {"L2 worst at 3.39", "L2 mean at 3.39"}


def test_settings_that_do_not_fit_are_refused_before_anything_is_read(network, capsys):
    for flags, message in {
        ("--fourier.images", "41"): "--fourier.images must be at most the 40 test images, got 41",
        ("--fourier.split", "train"): "--fourier.split must be test or validation, got 'train'",
        ("--fourier.epsilons", "nan"): "--fourier.epsilons must lie in [0, 1], at least one, got (nan,)",
        ("--fourier.phases", "0"): "--fourier.phases must be at least 1",
        ("--fourier.validation-images", "0"): "--fourier.validation-images must be at least 1",
    }.items():
        assert message in fails(capsys, "evaluate", "--run", "net", *flags)
    settings = Fourier(images=24, epsilons=(16.1,))
    with pytest.raises(ValueError, match=r"--fourier-l2.epsilons must lie in \[0, 16\], at least one"):
        FOURIER_L2.check(open_run(network).subject, settings)
    assert not (network / "result.json").exists()
