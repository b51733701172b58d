"""The numbers of the single Fourier attack: which worst accuracy is meant, and its columns in the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from absum_jax import FourierSweep, accuracy_interval, binary_frequencies
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.fourier_sweeps import BOUNDS, Attack
from experiments.absum.figures.words import display_epsilon
from experiments.harness.evaluation import Cell

Numbers = dict[str, Any]
Values = ArrayLike | Sequence[float]
Predicted = Mapping[str, np.ndarray]  # as fourier_images.predictions gives it


def fourier_numbers(
    attack: Attack,
    split: str,
    sweeps: Mapping[str, FourierSweep],
    predicted: Predicted,
    image_size: tuple[int, int],
) -> Numbers:
    """Plain numbers; a list has one entry for each epsilon.

    Args:
        attack: what was done.
        split: that was attacked.
        sweeps: of it, and of "validation".
        predicted: for all images of the split.
        image_size: (height, width).
    """
    sweep = sweeps[split]
    is_binary = np.asarray(_is_binary(sweep.frequencies, image_size, phase=sweep.phases))
    # Images so small that every wave is binary have no others.
    others = sweep if is_binary.all() else sweep.without(is_binary)
    found = jax.device_get(_follows(sweep))
    numbers = {
        "norm": attack.norm,
        "bounds": BOUNDS,
        "phases": _rounded(attack.phases),
        "split": split,
        "images": int(sweep.total),
        "frequencies": len(sweep.frequencies),
        "binary_attacks": int(is_binary.sum()),
        "epsilons": _rounded(attack.epsilons),
        "clean_accuracy": round(float(found["clean"]), 6),
        "average_robust_accuracy": round(float(found["average"]), 6),
        "mean_accuracy": _rounded(found["mean"]),
        **_worst(found),
        "without_binary": _worst(jax.device_get(_follows(others))),
    }
    if "classes_chosen" in predicted:
        numbers["chosen_on_validation"] = _chosen(sweeps["validation"], predicted)
    return numbers


_is_binary = jax.jit(binary_frequencies, static_argnums=1)


@jax.jit
def _follows(sweep: FourierSweep) -> dict[str, Any]:
    """What follows from the counts, as one program: op by op, each of some thirty would be compiled by itself."""
    return {
        "clean": sweep.clean_accuracy,
        "average": sweep.average_robust_accuracy,
        "mean": sweep.mean_accuracy,
        "worst": sweep.worst_accuracy,
        "interval": accuracy_interval(sweep.worst_correct, sweep.total),
        "frequency": sweep.worst_frequency,
        "phase": sweep.worst_phase,
    }


def _worst(found: Mapping[str, Any]) -> Numbers:
    return {
        "worst_accuracy": _rounded(found["worst"]),
        "worst_accuracy_interval": _pairs(found["interval"]),
        "worst_frequency": found["frequency"].tolist(),
        "worst_phase": _rounded(found["phase"]),
    }


def _chosen(validation: FourierSweep, predicted: Predicted) -> Numbers:
    """All images of the split under the frequency that was worst for the validation images."""
    found = jax.device_get(_follows(validation))
    is_right = predicted["classes_chosen"] == predicted["labels"][None]  # [E, N]
    total = is_right.shape[1]
    return {
        "validation_images": int(validation.total),
        "frequency": found["frequency"].tolist(),
        "phase": _rounded(found["phase"]),
        "images": total,
        "clean_accuracy": round(float(np.mean(predicted["classes_clean"] == predicted["labels"])), 6),
        "accuracy": _rounded(is_right.mean(axis=1)),
        "accuracy_interval": _pairs(_interval(is_right.sum(axis=1), total)),
    }


_interval = jax.jit(accuracy_interval)


def accuracies(numbers: Numbers) -> dict[str, list[float]]:
    """Every accuracy under attack, by the name of its column: one for each epsilon."""
    found = {
        "worst": numbers["worst_accuracy"],
        "worst without binary": numbers["without_binary"]["worst_accuracy"],
        "mean over frequencies": numbers["mean_accuracy"],
    }
    if "chosen_on_validation" in numbers:
        found["chosen on validation"] = numbers["chosen_on_validation"]["accuracy"]
    return found


def main_accuracies(numbers: Numbers) -> dict[str, float]:
    """Those of the largest epsilon, with the clean one of as many images as there are and the average."""
    largest = largest_epsilon(numbers)
    clean = numbers.get("chosen_on_validation", numbers)["clean_accuracy"]
    at_largest = {name: values[largest] for name, values in accuracies(numbers).items()}
    return {"clean": clean, **at_largest, "average robust": numbers["average_robust_accuracy"]}


def largest_epsilon(numbers: Numbers) -> int:
    """The place of the largest epsilon."""
    return int(np.argmax(numbers["epsilons"]))


def cells(numbers: Numbers) -> dict[str, Cell]:
    """Columns of the largest epsilon, the L2 norm's in fewer; all others are in a table of their own."""
    largest = largest_epsilon(numbers)
    epsilon = display_epsilon(numbers["epsilons"][largest])
    worst = Cell(numbers["worst_accuracy"][largest], _note(numbers, largest))
    mean = Cell(numbers["mean_accuracy"][largest])
    if numbers["norm"] == "l2":
        return {f"L2 worst at {epsilon}": worst, f"L2 mean at {epsilon}": mean}
    others = numbers["without_binary"]
    found = {
        "clean": Cell(numbers["clean_accuracy"]),
        "average robust": Cell(numbers["average_robust_accuracy"]),
        f"worst at {epsilon}": worst,
        f"worst without binary at {epsilon}": Cell(others["worst_accuracy"][largest], _note(others, largest)),
        f"mean at {epsilon}": mean,
    }
    if "chosen_on_validation" in numbers:
        low, high = numbers["chosen_on_validation"]["accuracy_interval"][largest]
        accuracy = numbers["chosen_on_validation"]["accuracy"][largest]
        found[f"chosen on validation at {epsilon}"] = Cell(accuracy, f"[{low:.2f}, {high:.2f}]")
    return found


def findings(numbers: Numbers) -> list[dict[str, Any]]:
    """The worst of every epsilon and, where validation images chose one, the accuracy under that."""
    of = f"single Fourier attack, the worst of {numbers['frequencies']} frequencies"
    if len(numbers["phases"]) > 1:
        of += f" in {len(numbers['phases'])} phases"
    found = [
        finding(f"{of} for the attacked images", numbers["norm"], epsilon, accuracy, numbers["images"])
        for epsilon, accuracy in zip(numbers["epsilons"], numbers["worst_accuracy"], strict=True)
    ]
    if chosen := numbers.get("chosen_on_validation"):
        words = f"{of} for {chosen['validation_images']} validation images"
        found += [
            finding(words, numbers["norm"], epsilon, accuracy, chosen["images"])
            for epsilon, accuracy in zip(numbers["epsilons"], chosen["accuracy"], strict=True)
        ]
    return found


def _note(found: Numbers, index: int) -> str:
    (l, m), (low, high) = found["worst_frequency"][index], found["worst_accuracy_interval"][index]
    return f"({l},{m}) [{low:.2f}, {high:.2f}]"


def _pairs(bounds: Any) -> list[list[float]]:
    return [list(pair) for pair in zip(*map(_rounded, jax.device_get(bounds)), strict=True)]


def _rounded(values: Values) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]
