"""Regularisers against each other, against computations by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.absum.evaluations.paired import Pairing, compare_pairs, paired_tables
from experiments.harness.stored import Measured

PAIRING = Pairing(lambda numbers: numbers, lambda measured: measured.arrays.get("right"))
RIGHT = {"none": [1, 1, 0, 0, 0, 0, 0, 0], "absum": [1, 0, 1, 1, 1, 1, 1, 0]}  # 1 against 5


def runs(accuracies, right=RIGHT, first_seed=0):
    """Trained runs with what was measured: name -> the accuracy of each seed."""
    return [
        (
            SimpleNamespace(subject=SimpleNamespace(facts={"regularizer": name, "strength": 1.0, "seed": seed})),
            Measured(
                {"worst": accuracy, "mean": accuracy / 2 + 0.25},
                {"right": np.array(right[name], bool)} if name in right else {},
            ),
        )
        for name, seeds in accuracies.items()
        for seed, accuracy in enumerate(seeds, start=first_seed)
    ]


SEVERAL = runs({"none": [0.52, 0.43, 0.50], "absum": [0.62, 0.66, 0.64], "l1": [0.5, 0.7, 0.6]})


def test_differences_over_seeds_are_those_by_hand():
    found = compare_pairs(SEVERAL, PAIRING)
    assert (found["reference"], [other["name"] for other in found["others"]]) == ("absum", ["none", "l1"])
    none = found["others"][0]
    assert none["seeds"] == [0, 1, 2]
    # 0.10, 0.23 and 0.14 have the mean 0.15667 and the standard deviation 0.06658; t is 4.3027 at 2 degrees.
    half = 4.302653 * np.std([0.10, 0.23, 0.14], ddof=1) / np.sqrt(3)
    worst = none["columns"]["worst"]
    np.testing.assert_allclose(worst["difference"], 0.47 / 3, atol=1e-6)
    np.testing.assert_allclose([worst["low"], worst["high"]], [0.47 / 3 - half, 0.47 / 3 + half], atol=2e-6)
    # With 2 degrees of freedom p is 1 - t / sqrt(t^2 + 2).
    t = 0.47 / 3 / (half / 4.302653)
    np.testing.assert_allclose(worst["p_value"], 1 - t / np.sqrt(t**2 + 2), rtol=1e-3)
    np.testing.assert_allclose(none["columns"]["mean"]["difference"], 0.47 / 6, atol=1e-6)


def test_images_are_compared_for_each_seed():
    none, l1 = compare_pairs(SEVERAL, PAIRING)["others"]
    assert [each["seed"] for each in none["images"]] == [0, 1, 2]
    # Six coins, five on one side: 2 (1 + 6) / 64.
    expected = {"first_only": 5, "second_only": 1, "total": 8, "difference": 0.5, "p_value": 0.2188}
    assert none["images"][0] == {"seed": 0, **expected}
    assert l1["images"] == []  # nothing is known of its images


def test_tables_say_what_the_numbers_say():
    over_seeds, by_image = paired_tables(compare_pairs(SEVERAL, PAIRING), "toys").items()
    heading, (header, lines) = over_seeds
    assert heading == "toys: absum less the others, mean difference over seeds [95 % interval], p"
    assert header == ["absum less", "seeds", "worst", "mean"]
    assert lines[0] == ["none", "3", "+0.157 [-0.009, +0.322] p 0.055", "+0.078 [-0.004, +0.161] p 0.055"]
    assert [line[0] for line in lines] == ["none", "l1"]
    heading, (header, lines) = by_image
    assert heading == "toys: absum less the others, image by image"
    assert header[:5] == ["absum less", "seed", "images", "right with absum only", "right with the other only"]
    assert lines == [["none", str(seed), "8", "5", "1", "+0.500", "0.219"] for seed in range(3)]


def test_one_seed_has_images_only():
    found = compare_pairs(runs({"none": [0.5], "absum": [0.6]}, first_seed=4), PAIRING)
    (other,) = found["others"]
    assert (other["seeds"], other["columns"]) == ([4], {})
    ((heading, (_, lines)),) = paired_tables(found, "toys").items()
    assert heading.endswith("image by image")
    assert [line[:2] for line in lines] == [["none", "4"]]


def test_the_first_is_the_reference_where_absum_is_not_among_them():
    found = compare_pairs(runs({"l1": [0.5, 0.6], "none": [0.4, 0.6]}), PAIRING)
    assert found["reference"] == "l1"
    assert found["others"][0]["columns"]["worst"]["difference"] == pytest.approx(0.05, abs=1e-6)


def test_one_regulariser_alone_has_nothing_to_be_compared_with():
    found = compare_pairs(runs({"none": [0.5, 0.6]}), PAIRING)
    assert found == {"reference": "none", "others": []}
    assert paired_tables(found, "toys") == {}


def test_only_seeds_of_both_are_paired():
    finished = runs({"none": [0.5, 0.6, 0.7], "absum": [0.6, 0.8]})
    (other,) = compare_pairs(finished[1:], PAIRING)["others"]
    assert other["seeds"] == [1]
    (other,) = compare_pairs(runs({"none": [0.5]}) + runs({"absum": [0.6]}, first_seed=1), PAIRING)["others"]
    assert (other["seeds"], other["columns"], other["images"]) == ([], {}, [])


def test_small_p_values_are_not_zero():
    many = {"none": [0] * 40, "absum": [1] * 40}
    found = compare_pairs(runs({"none": [0.1, 0.1], "absum": [0.5, 0.5]}, many), PAIRING)
    over_seeds, by_image = paired_tables(found, "toys").values()
    assert over_seeds[1][0][2].endswith("p <0.001")
    assert by_image[1][0][-1] == "<0.001"
    assert found["others"][0]["images"][0]["p_value"] == float(f"{2.0**-39:.4g}")
