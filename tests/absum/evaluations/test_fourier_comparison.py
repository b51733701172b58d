"""The tables of several networks under the attack: every epsilon, seeds in pairs, images in pairs."""

import numpy as np
import pytest

from absum_jax import mcnemar_test, paired_t_test
from experiments.absum.evaluations.fourier import FOURIER, Fourier
from experiments.absum.evaluations.fourier_comparison import COMPARISON
from experiments.harness.stored import Partial
from tests.absum.evaluations import linear

SETTINGS = Fourier(epsilons=linear.EPSILONS[::-1], images=33, validation_images=20, batch_size=16)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two classifiers, of two seeds each; the largest epsilon is the first."""
    directory = tmp_path_factory.mktemp("attacks")
    networks = [linear.trained(name, seed) for name in ("none", "absum") for seed in (0, 1)]
    partials = [Partial(directory / f"{index}.npz", {}) for index in range(4)]
    return [(run, FOURIER.measure(run, SETTINGS, each)) for run, each in zip(networks, partials, strict=True)]


def test_main_columns_are_paired_at_the_largest_epsilon(finished):
    (other,) = COMPARISON.measure(finished, SETTINGS, None).numbers["others"]
    numbers = [measured.numbers for _, measured in finished]
    values = {
        "clean": [each["chosen_on_validation"]["clean_accuracy"] for each in numbers],
        "worst": [each["worst_accuracy"][0] for each in numbers],
        "worst without binary": [each["without_binary"]["worst_accuracy"][0] for each in numbers],
        "mean over frequencies": [each["mean_accuracy"][0] for each in numbers],
        "chosen on validation": [each["chosen_on_validation"]["accuracy"][0] for each in numbers],
        "average robust": [each["average_robust_accuracy"] for each in numbers],
    }
    assert list(other["columns"]) == list(values)
    for name, found in other["columns"].items():
        test = paired_t_test(values[name][2:], values[name][:2])
        np.testing.assert_allclose(found["difference"], test.difference, atol=1e-5)
        # With one degree of freedom intervals are wide, of float32 roundings of their own.
        np.testing.assert_allclose([found["low"], found["high"]], [test.low, test.high], rtol=1e-4, atol=1e-5)
    arrays = [measured.arrays for _, measured in finished]
    right = [each["classes_chosen"][0] == each["labels"] for each in arrays]
    for seed, found in enumerate(other["images"]):
        test = mcnemar_test(right[2 + seed], right[seed])
        assert (found["first_only"], found["second_only"], found["total"]) == (*test[:2], 41)
    assert right[0].mean() != right[2].mean()  # the networks differ


def test_every_epsilon_has_a_line(finished):
    tables = COMPARISON.tables(COMPARISON.measure(finished, SETTINGS, None).numbers)
    name = "single Fourier attack in the L-infinity norm"
    by_epsilon, over_seeds, by_image = tables
    assert by_epsilon == f"{name}, mean ± standard deviation over seeds"
    assert over_seeds.startswith(f"{name} at 0.3: absum less the others, mean difference over seeds")
    assert by_image == f"{name} at 0.3: absum less the others, image by image"
    header, lines = tables[by_epsilon]
    assert header == [
        "regularizer", "epsilon", "seeds", "worst", "worst without binary", "mean over frequencies",
        "chosen on validation",
    ]  # fmt: skip
    assert [line[:3] for line in lines] == [[r, e, "2"] for r in ("none", "absum") for e in ("0.3", "0.1")]
    worst = [measured.numbers["worst_accuracy"][1] for _, measured in finished[2:]]
    assert lines[3][3] == f"{np.mean(worst):.3f} ± {np.std(worst, ddof=1):.3f}"


def test_one_seed_has_no_spread_and_no_test_over_seeds(finished):
    tables = COMPARISON.tables(COMPARISON.measure(finished[::2], SETTINGS, None).numbers)
    assert len(tables) == 2
    (_, lines), (_, by_image) = tables.values()
    assert lines[0][3] == f"{finished[0][1].numbers['worst_accuracy'][0]:.3f}"
    assert len(by_image) == 1
