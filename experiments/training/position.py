"""How far a phase of training has come: what a checkpoint says besides its arrays."""

import dataclasses
from typing import Any, Self

from experiments.training.phase import Line
from experiments.training.task import Mean, Metrics


@dataclasses.dataclass
class Position:
    """How far a phase has come: the part of its checkpoint that is not arrays.

    Args:
        lines: the metrics of each epoch done.
        step_in_epoch: steps done of the epoch that is running.
        units: units of data in these steps.
        seconds: that they took.
        sums: their metrics.
        recent: the metrics of those that no line of the log of steps has yet.
        recent_steps: how many these are.
    """

    lines: list[Line] = dataclasses.field(default_factory=list)
    step_in_epoch: int = 0
    units: int = 0
    seconds: float = 0.0
    sums: Metrics = dataclasses.field(default_factory=dict)
    recent: Metrics = dataclasses.field(default_factory=dict)
    recent_steps: int = 0

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.lines)

    @property
    def validation_losses(self) -> list[float]:
        """One for each epoch done."""
        return [line["validation_loss"] for line in self.lines]

    @property
    def best_epoch(self) -> int:
        """The first with the smallest validation loss, counted from 1; 0 before any is done."""
        losses = self.validation_losses
        return losses.index(min(losses)) + 1 if losses else 0

    @property
    def is_best(self) -> bool:
        """Whether the newest validation loss is the smallest so far."""
        *past, newest = self.validation_losses
        return all(newest < loss for loss in past)

    def next_epoch(self, line: Line) -> "Position":
        """The position after an epoch with these metrics."""
        return Position([*self.lines, line])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        sums = {"sums": self.sums, "recent": self.recent}
        plain = {kind: {name: list(mean) for name, mean in found.items()} for kind, found in sums.items()}
        return dataclasses.asdict(self) | plain

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        sums = {kind: values.get(kind, {}) for kind in ("sums", "recent")}
        means = {kind: {name: Mean(*mean) for name, mean in found.items()} for kind, found in sums.items()}
        return cls(**values | means)
