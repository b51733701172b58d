"""Regularisers against each other: the same seeds in pairs, and the same images in pairs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from absum_jax import mcnemar_test
from experiments.absum.run import Finished
from experiments.harness.evaluation import Comparison
from experiments.harness.paired import four_digits, over_common_seeds, p_text, table_over_seeds
from experiments.harness.stored import Measured, Partial
from experiments.harness.tables import Table

BySeed = Mapping[int, Measured]


class Pairing(NamedTuple):
    """What is compared of every two networks.

    Args:
        accuracies: ``numbers -> {column: accuracy}``.
        is_right: ``measured -> bool [N]``, for each image of a test set; ``None`` where nothing is known of single
            images.
    """

    accuracies: Callable[[dict[str, Any]], Mapping[str, float]]
    is_right: Callable[[Measured], np.ndarray | None]


def paired_comparison(pairing: Pairing, about: Callable[[dict[str, Any]], str]) -> Comparison:
    """A comparison that is :func:`compare_pairs` and no more.

    Args:
        pairing: what is compared.
        about: ``numbers of the first network -> words``, as the headings of :func:`paired_tables` begin.
    """

    def measure(finished: Finished, settings: Any, partial: Partial) -> Measured:
        del settings, partial
        words = about(finished[0][1].numbers)
        return Measured({"about": words} | compare_pairs(finished, pairing))

    return Comparison(measure, tables=lambda numbers: paired_tables(numbers, numbers["about"]))


def compare_pairs(finished: Finished, pairing: Pairing) -> dict[str, Any]:
    """One regulariser less each of the others of its model: over common seeds, and for each seed over the images.

    Args:
        finished: networks, with what was measured of each.
        pairing: what of it is compared.

    Returns:
        Plain numbers: ``reference``, which is absum or else the first, and ``others``, for each its ``name``,
        its ``seeds``, ``columns`` (see :func:`absum_jax.paired_t_test`; empty for one seed) and ``images`` (see
        :func:`absum_jax.mcnemar_test`, for each seed).
    """
    models: dict[str, dict[str, dict[int, Measured]]] = {}
    for trained, measured in finished:
        facts = trained.subject.facts
        groups = models.setdefault(facts.get("model", ""), {})
        groups.setdefault(facts["regularizer"], {})[facts["seed"]] = measured
    names = list(dict.fromkeys(name for groups in models.values() for name in groups))
    reference = "absum" if "absum" in names else names[0]
    return {
        "reference": reference,
        "others": [
            {"name": f"{model} {name}".strip()} | _pair(groups[reference], groups[name], pairing)
            for model, groups in models.items()
            for name in groups
            if name != reference
        ],
    }


def _pair(reference: BySeed, other: BySeed, pairing: Pairing) -> dict[str, Any]:
    sides = (
        {seed: pairing.accuracies(measured.numbers) for seed, measured in each.items()}
        for each in (reference, other)
    )
    found = over_common_seeds(*sides)
    images = [
        {"seed": seed} | _over_images(*map(pairing.is_right, (reference[seed], other[seed])))
        for seed in found["seeds"]
    ]
    return found | {"images": [each for each in images if len(each) > 1]}


def _over_images(reference: np.ndarray | None, other: np.ndarray | None) -> dict[str, Any]:
    """The test of the images; nothing where it is not known which are right."""
    if reference is None or other is None:
        return {}
    test = mcnemar_test(reference, other)
    return {"difference": round(test.difference, 6), **test._asdict(), "p_value": four_digits(test.p_value)}


def paired_tables(numbers: Mapping[str, Any], about: str) -> dict[str, Table]:
    """The tables of :func:`compare_pairs`; the one over seeds where there are several.

    Args:
        numbers: what it gave.
        about: what the accuracies are of, as their headings begin.
    """
    reference, others = numbers["reference"], numbers["others"]
    pairs = [(other["name"], other) for other in others]
    tables = table_over_seeds(f"{about}: {reference} less the others,", f"{reference} less", pairs)
    if lines := [_line_of_images(other["name"], each) for other in others for each in other["images"]]:
        only = f"right with {reference} only", "right with the other only"
        header = [f"{reference} less", "seed", "images", *only, "difference", "p (McNemar)"]
        tables[f"{about}: {reference} less the others, image by image"] = header, lines
    return tables


def _line_of_images(name: str, found: Mapping[str, Any]) -> list[str]:
    counts = (str(found[each]) for each in ("seed", "total", "first_only", "second_only"))
    return [name, *counts, f"{found['difference']:+.3f}", p_text(found["p_value"])]
