"""Accuracies in the terms of benchmarks of robustness."""

from absum_jax import accuracy_interval
from experiments.absum.evaluations.findings import finding


def test_counts_and_interval_are_those_of_the_accuracy():
    found = finding("PGD", "linf", 8 / 255, 0.333333, 300)  # an accuracy of six digits
    assert (found["correct"], found["examples"], found["threat_model"]) == (100, 300, "Linf")
    low, high = accuracy_interval(100, 300)
    assert abs(found["interval"][0] - low) < 1e-4 > abs(found["interval"][1] - high)  # four digits are kept


def test_the_norm_names_the_threat_model_unless_nobody_chose():
    assert finding("wave", "l2", 1.0, 1.0, 10)["threat_model"] == "L2"
    noise = finding("noise", "l2", 1.0, 1.0, 10, threat_model="corruptions")
    assert (noise["threat_model"], noise["norm"]) == ("corruptions", "l2")
