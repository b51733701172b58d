"""What is reported of the attack, against a loop in float64 over every wave, on a linear classifier."""

import dataclasses
import math

import numpy as np
import pytest

from absum_jax import accuracy_interval
from experiments.absum.evaluations.fourier import FOURIER, FOURIER_L2, Fourier, Norm
from experiments.absum.evaluations.fourier_sweeps import equal_phases, loaded
from experiments.harness.stored import Partial
from tests.absum.evaluations import linear
from tests.absum.evaluations.linear import EPSILONS, FREQUENCIES, IS_BINARY

SETTINGS = Fourier(epsilons=EPSILONS, images=33, validation_images=20, batch_size=16)
L2 = (0.8, 2.4)


class _KilledError(Exception):
    pass


class _Killing(Partial):
    """Breaks off when the second part of a split is kept."""

    def __init__(self, path, split):
        super().__init__(path, {})
        self.name, self.parts = f"{split}_correct", 0

    def write(self, **arrays):
        super().write(**arrays)
        self.parts += self.name in arrays
        if self.parts == 2:
            raise _KilledError


def measure(directory, evaluation=FOURIER, settings=SETTINGS, run=None):
    return evaluation.measure(run or linear.trained(seed=2), settings, Partial(directory / "partial.npz", {}))


@pytest.fixture(scope="module", params=[("linf", 1), ("linf", 4), ("l2", 2)], ids=str)
def found(request, tmp_path_factory):
    """An attack with its settings and its counts [E, P, F] of test and validation images by the loop."""
    norm, count = request.param
    epsilons = EPSILONS if norm == "linf" else L2
    settings = dataclasses.replace(SETTINGS, epsilons=epsilons, phases=count)
    evaluation = FOURIER if norm == "linf" else FOURIER_L2
    measured = measure(tmp_path_factory.mktemp("attack"), evaluation, settings)
    phases, run = [math.pi / 4 + 2 * math.pi * k / count for k in range(count)], linear.trained(seed=2)
    test, validation = (
        linear.counts(run, split, number, phases, epsilons, norm)
        for split, number in (("test", 33), ("validation", 20))
    )
    if count > 1:  # the problem is one where phases matter
        assert any(at_worst(test)[1])
        assert any(at_worst(validation)[1])
    return measured, phases, test, validation


def at_worst(counts):
    """Frequencies and places of the phases of the lowest counts [E, P, F]."""
    places = [np.unravel_index(each.argmin(), each.shape) for each in counts]
    return [FREQUENCIES[frequency].tolist() for _, frequency in places], [phase for phase, _ in places]


def test_every_wave_is_counted(found):
    measured, phases, test, validation = found
    for split, expected in (("test", test), ("validation", validation)):
        sweep = loaded(measured.arrays, split)
        np.testing.assert_array_equal(sweep.correct, expected)
        np.testing.assert_array_equal(sweep.frequencies, FREQUENCIES)
        np.testing.assert_allclose(sweep.phases, phases, rtol=1e-6)
    assert len(np.unique(test)) > 5  # the problem is one where waves differ
    assert measured.numbers["phases"] == np.round(phases, 6).tolist()


def test_worst_mean_and_average_are_those_of_the_loop(found):
    measured, phases, test, _ = found
    numbers, accuracy = measured.numbers, test.reshape(2, -1) / 33
    # Six digits are kept.
    np.testing.assert_allclose(numbers["worst_accuracy"], accuracy.min(axis=1), atol=1e-6)
    np.testing.assert_allclose(numbers["mean_accuracy"], accuracy.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(numbers["average_robust_accuracy"], accuracy.min(axis=1).mean(), atol=1e-6)
    frequencies, places = at_worst(test)
    assert numbers["worst_frequency"] == frequencies
    np.testing.assert_allclose(numbers["worst_phase"], np.take(phases, places), atol=1e-6)
    interval = np.stack(accuracy_interval(test.reshape(2, -1).min(axis=1), 33), axis=1)
    np.testing.assert_allclose(numbers["worst_accuracy_interval"], interval, atol=1e-6)


def test_binary_waves_are_left_out(found):
    numbers, test = found[0].numbers, found[2]
    # Every phase here is an odd multiple of pi/4.
    assert numbers["binary_attacks"] == 10 * test.shape[1] == IS_BINARY.sum() * test.shape[1]
    others = test[..., ~IS_BINARY]
    np.testing.assert_allclose(
        numbers["without_binary"]["worst_accuracy"], others.min(axis=(1, 2)) / 33, atol=1e-6
    )
    for frequency in numbers["without_binary"]["worst_frequency"]:
        assert frequency in FREQUENCIES[~IS_BINARY].tolist()
    if numbers["norm"] == "linf":  # the problem is one where that makes a difference
        assert (others.min(axis=(1, 2)) > test.min(axis=(1, 2))).any()


def test_the_wave_that_validation_images_choose_is_shown_to_all_test_images(found):
    measured, phases, _, validation = found
    run, numbers = linear.trained(seed=2), measured.numbers
    chosen = numbers["chosen_on_validation"]
    frequencies, places = at_worst(validation)
    assert chosen["frequency"] == frequencies
    assert (chosen["validation_images"], chosen["images"]) == (20, 41)
    is_right = np.stack(
        [
            linear.right(run, "test", frequency, epsilon, phase=phases[place], norm=numbers["norm"])
            for frequency, place, epsilon in zip(frequencies, places, numbers["epsilons"], strict=True)
        ]
    )
    # Each image by itself, and how many.
    arrays = measured.arrays
    np.testing.assert_array_equal(arrays["classes_chosen"] == arrays["labels"], is_right)
    np.testing.assert_allclose(chosen["accuracy"], is_right.mean(axis=1), atol=1e-6)
    interval = np.stack(accuracy_interval(is_right.sum(axis=1), 41), axis=1)
    np.testing.assert_allclose(chosen["accuracy_interval"], interval, atol=1e-6)
    clean = linear.right(run, "test", (0, 0), 0.0)
    np.testing.assert_array_equal(arrays["classes_clean"] == arrays["labels"], clean)
    assert chosen["clean_accuracy"] == pytest.approx(clean.mean(), abs=1e-6)
    assert numbers["clean_accuracy"] == pytest.approx(clean[:33].mean(), abs=1e-6)


def test_images_under_the_worst_wave_are_as_many_as_were_counted(found):
    arrays, test = found[0].arrays, found[2]
    is_right = arrays["classes_worst"] == arrays["labels"]
    np.testing.assert_array_equal(is_right[:, :33].sum(axis=1), test.min(axis=(1, 2)))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_killed_attack_gives_the_same(tmp_path, split):
    whole = measure(tmp_path / "whole")
    with pytest.raises(_KilledError):
        FOURIER.measure(linear.trained(seed=2), SETTINGS, _Killing(tmp_path / "partial.npz", split))
    arrays = Partial(tmp_path / "partial.npz", {}).read()
    assert ("test_correct" in arrays) == (split == "test")
    assert 0 < arrays[f"{split}_correct"].shape[-1] < 34
    measured = measure(tmp_path)
    assert measured.numbers == whole.numbers
    assert measured.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(measured.arrays[name], array)


def test_validation_images_choose_nothing_for_themselves(tmp_path):
    """As ``select`` attacks them: nothing of it is of test images."""
    run = linear.trained(seed=2)
    splits = {"validation": run.subject.images("validation")}
    run.subject.images = splits.__getitem__
    settings = dataclasses.replace(SETTINGS, split="validation", images=30)
    measured = measure(tmp_path, settings=settings, run=run)
    assert "chosen_on_validation" not in measured.numbers
    assert (measured.numbers["split"], measured.numbers["images"]) == ("validation", 30)
    assert "chosen on validation at 0.3" not in FOURIER.cells(measured.numbers)
    assert len(FOURIER.data(run, settings)) == 2


def test_the_data_are_all_images_that_are_looked_at():
    run = linear.trained(seed=2)
    before = FOURIER.data(run, SETTINGS)
    for split, index in (("test", 0), ("test", 40), ("validation", 19), ("validation", 20)):
        images, labels = run.subject.images(split)
        other = linear.trained(seed=2)
        splits = {name: other.subject.images(name) for name in ("test", "validation")}
        splits[split] = (
            np.where(np.arange(len(labels))[:, None, None, None] == index, 255 - images, images),
            labels,
        )
        other.subject.images = splits.__getitem__
        assert (FOURIER.data(other, SETTINGS) == before) == ((split, index) == ("validation", 20))


def test_columns_are_of_the_largest_epsilon(found):
    numbers = found[0].numbers
    evaluation = FOURIER if numbers["norm"] == "linf" else FOURIER_L2
    cells = evaluation.cells(numbers)
    if numbers["norm"] == "l2":
        assert list(cells) == ["L2 worst at 2.4", "L2 mean at 2.4"]
        return
    names = [
        "clean",
        "average robust",
        "worst at 0.3",
        "worst without binary at 0.3",
        "mean at 0.3",
        "chosen on validation at 0.3",
    ]
    assert list(cells) == names
    low, high = numbers["worst_accuracy_interval"][1]
    l, m = numbers["worst_frequency"][1]
    assert cells["worst at 0.3"] == (numbers["worst_accuracy"][1], f"({l},{m}) [{low:.2f}, {high:.2f}]")
    assert cells["worst without binary at 0.3"].value == numbers["without_binary"]["worst_accuracy"][1]
    assert cells["chosen on validation at 0.3"].value == numbers["chosen_on_validation"]["accuracy"][1]


def test_an_even_number_of_phases_has_both_signs():
    assert equal_phases(1) == (math.pi / 4,)
    for count in (2, 4, 8):
        waves = np.cos(np.array(equal_phases(count))[:, None] + np.linspace(0, 2 * np.pi, 7))
        for wave in waves:
            assert np.isclose(waves, -wave, atol=1e-9).all(axis=1).any()


@pytest.mark.parametrize(
    ("shape", "pixels", "norms"),
    [((28, 28, 1), (0.05, 0.1, 0.2, 0.3), (3.96, 5.94)), ((32, 32, 3), (2, 4, 8, 16), (1.23, 2.46))],
)
def test_colour_images_have_other_epsilons_and_both_norms_correspond(tmp_path, shape, pixels, norms):
    scale = 255 if shape[-1] == 3 else 1
    found = Norm("fourier", "linf", "").default_epsilons(shape)
    np.testing.assert_allclose(np.array(found) * scale, pixels)
    assert Norm("fourier_l2", "l2", "l2_").default_epsilons(shape) == norms
    # Those of a wave at no special frequency.
    wave = np.cos(2 * np.pi * (3 * np.arange(shape[0])[:, None] + 5 * np.arange(shape[1])) / shape[0])
    np.testing.assert_allclose(np.linalg.norm(found[-1] * wave) * math.sqrt(shape[-1]), norms[-1], atol=0.005)


def test_the_epsilons_taken_by_default_are_in_the_result(tmp_path):
    settings = Fourier(images=2, validation_images=2)
    numbers = measure(tmp_path, settings=settings).numbers
    assert numbers["epsilons"] == np.round([2 / 255, 4 / 255, 8 / 255, 16 / 255], 6).tolist()
    assert "worst at 16/255" in FOURIER.cells(numbers)
