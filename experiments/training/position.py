"""Where a run is: the part of its checkpoint that is not arrays."""

import dataclasses
from typing import Any, Self

from experiments.training.task import Mean, Metrics


@dataclasses.dataclass
class Position:
    """How far a run has come.

    Args:
        epoch: epochs done.
        step_in_epoch: steps done of the one that is running.
        units: units of data in these steps.
        seconds: that they took.
        sums: their metrics.
        validation_losses: one for each epoch done.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    units: int = 0
    seconds: float = 0.0
    sums: Metrics = dataclasses.field(default_factory=dict)
    validation_losses: list[float] = dataclasses.field(default_factory=list)

    def next_epoch(self, validation_loss: float) -> "Position":
        """The position after the validation that ends an epoch."""
        return Position(epoch=self.epoch + 1, validation_losses=[*self.validation_losses, validation_loss])

    @property
    def is_best(self) -> bool:
        """Whether the newest validation loss is the smallest so far."""
        *past, newest = self.validation_losses
        return all(newest < loss for loss in past)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"sums": {name: list(mean) for name, mean in self.sums.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(**values | {"sums": {name: Mean(*mean) for name, mean in values["sums"].items()}})
