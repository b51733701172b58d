"""Metrics: sums and counts on their way to means."""

import jax

from experiments.training.task import Metrics, merge


def compute(metrics: Metrics) -> dict[str, float]:
    """Divide sums by counts.

    Raises:
        ValueError: if nothing was counted.
    """
    found = jax.device_get(metrics)
    if empty := [name for name, mean in found.items() if not mean.count]:
        raise ValueError(f"no examples were counted for {', '.join(empty)}")
    return {name: float(mean.total) / float(mean.count) for name, mean in found.items()}


def add(summed: Metrics, metrics: Metrics) -> Metrics:
    """Add in double precision on the host, waiting for the step that the metrics come from."""
    found = jax.tree.map(float, jax.device_get(metrics))
    return merge(summed, found) if summed else found


def prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    """The values with ``prefix_`` before each name."""
    return {f"{prefix}_{name}": value for name, value in values.items()}
