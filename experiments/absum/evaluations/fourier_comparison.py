"""Regularisers under the single Fourier attack, side by side at every epsilon and in pairs at the largest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.absum.evaluations.fourier_results import accuracies, largest_epsilon, main_accuracies
from experiments.absum.evaluations.paired import Pairing, compare_pairs, paired_tables
from experiments.absum.figures.words import NORMS, display_epsilon
from experiments.absum.run import Finished
from experiments.harness.evaluation import Comparison
from experiments.harness.stored import Measured, Partial
from experiments.harness.tables import Table, mean_and_spread


def _measure(finished: Finished, settings: Any, partial: Partial) -> Measured:
    del settings, partial
    first = finished[0][1].numbers
    by_seed: dict[str, list[dict[str, list[float]]]] = {}
    for trained, measured in finished:
        by_seed.setdefault(trained.subject.group, []).append(accuracies(measured.numbers))
    known = {"norm": first["norm"], "epsilons": first["epsilons"], "accuracies": by_seed}
    return Measured(known | compare_pairs(finished, Pairing(main_accuracies, _is_right)))


def _is_right(measured: Measured) -> np.ndarray | None:
    """Every image at the largest epsilon, under the wave that validation images chose."""
    if "classes_chosen" not in measured.arrays:
        return None
    is_right = measured.arrays["classes_chosen"] == measured.arrays["labels"][None]  # [E, N]
    return np.asarray(is_right[largest_epsilon(measured.numbers)])


def _tables(numbers: dict[str, Any]) -> dict[str, Table]:
    about = f"single Fourier attack in the {NORMS[numbers['norm']]} norm"
    largest = display_epsilon(max(numbers["epsilons"]))
    return {
        f"{about}, mean ± standard deviation over seeds": _by_epsilon(numbers),
        **paired_tables(numbers, f"{about} at {largest}"),
    }


def _by_epsilon(numbers: Mapping[str, Any]) -> Table:
    """One line for each regulariser and epsilon."""
    by_seed = numbers["accuracies"]
    columns = list(next(iter(by_seed.values()))[0])
    lines = [
        [name, display_epsilon(epsilon), str(len(found))]
        + [mean_and_spread([each[column][i] for each in found]) for column in columns]
        for name, found in by_seed.items()
        for i, epsilon in enumerate(numbers["epsilons"])
    ]
    return ["regularizer", "epsilon", "seeds", *columns], lines


COMPARISON = Comparison(_measure, tables=_tables)
