"""Accuracies under attack with their threat model, in the terms that benchmarks of robustness ask for."""

from typing import Any

from absum_jax import accuracy_interval

THREAT_MODELS = {"linf": "Linf", "l2": "L2"}  # as RobustBench names them


def finding(
    attack: str, norm: str, epsilon: float, accuracy: float, examples: int, *, threat_model: str | None = None
) -> dict[str, Any]:
    """One accuracy, as a plain object for ``findings.json``.

    Args:
        attack: what was done, and what its maker knew.
        norm: "linf" or "l2".
        epsilon: largest norm of the change, with pixels in [0, 1].
        accuracy: share of the examples that stay right, to six digits or better.
        examples: how many were attacked.
        threat_model: by default Linf or L2; "corruptions" for what no adversary chose.

    Returns:
        ``attack``, ``threat_model``, ``norm``, ``epsilon``, ``examples``, ``correct``, ``accuracy`` and its 95 %
        ``interval`` (Wilson).

    Example:
        >>> found = finding("PGD, 20 steps", "linf", 0.1, 0.25, 400)
        >>> found["threat_model"], found["correct"], found["interval"]
        ('Linf', 100, [0.2101, 0.2947])

    References:
        Croce et al., RobustBench, NeurIPS 2021 (datasets and benchmarks), https://arxiv.org/abs/2010.09670.
    """
    correct = round(accuracy * examples)
    return {
        "attack": attack,
        "threat_model": threat_model or THREAT_MODELS[norm],
        "norm": norm,
        "epsilon": epsilon,
        "examples": examples,
        "correct": correct,
        "accuracy": accuracy,
        "interval": [round(float(bound), 4) for bound in accuracy_interval(correct, examples)],
    }
