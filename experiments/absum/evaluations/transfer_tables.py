"""Tables of transferred attacks: regularisers as substitutes against regularisers as targets."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.absum.evaluations.paired import paired_tables
from experiments.absum.figures.words import display_epsilon
from experiments.harness.tables import Table, mean_and_spread

ATTACKS = {"fourier": "worst frequency of validation images", "pgd": "PGD", "fgsm": "FGSM"}


def transfer_tables(numbers: dict[str, Any]) -> dict[str, Table]:
    """One for each attack: a line for each substitute, a column for each target; and targets in pairs.

    An entry is the mean over all pairs of two different networks. The spread is over the targets' seeds, of the
    mean over the substitutes.
    """
    tables = {
        f"transfer of {words} at {display_epsilon(numbers['epsilon'][attack])}: accuracy of the target on what"
        " misleads the substitute": _table(numbers, np.asarray(numbers["accuracy"][attack]))
        for attack, words in ATTACKS.items()
    }
    if "others" in numbers:
        tables |= paired_tables(numbers, "accuracy as a target of what misleads the networks of other seeds")
    return tables


def _table(numbers: dict[str, Any], accuracy: np.ndarray) -> Table:
    networks = np.asarray(numbers["networks"])
    groups = list(dict.fromkeys(numbers["networks"]))
    other = ~np.eye(len(networks), dtype=bool)
    clean = np.asarray(numbers["clean_accuracy"])

    def line(name: str, of_target: Callable[[int], float | None]) -> list[str]:
        cells = [[of_target(int(target)) for target in np.flatnonzero(networks == group)] for group in groups]
        return [name, *map(mean_and_spread, cells)]

    def mean_of(substitutes: np.ndarray) -> Callable[[int], float | None]:
        def of_target(target: int) -> float | None:
            chosen = substitutes & other[target]
            return float(accuracy[chosen, target].mean()) if chosen.any() else None

        return of_target

    lines = [line(group, mean_of(networks == group)) for group in groups]
    lines.append(line("all other networks", mean_of(np.ones(len(networks), bool))))
    lines.append(line("the target itself", lambda target: float(accuracy[target, target])))
    lines.append(line("clean", lambda target: float(clean[target])))
    return ["substitute", *groups], lines
