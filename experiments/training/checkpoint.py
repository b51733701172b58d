"""Checkpoints of a training state, by orbax: whole or not at all, and refused where they do not fit.

When one is written is decided in ``experiments/training/loop.py``.
"""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.training.phase import Line
from experiments.training.step import TrainState
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
    """

    lines: list[Line] = dataclasses.field(default_factory=list)
    step_in_epoch: int = 0
    units: int = 0
    seconds: float = 0.0
    sums: Metrics = dataclasses.field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.lines)

    @property
    def validation_losses(self) -> list[float]:
        """One for each epoch done."""
        return [line["validation_loss"] for line in self.lines]

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
        return dataclasses.asdict(self) | {"sums": {name: list(mean) for name, mean in self.sums.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(**values | {"sums": {name: Mean(*mean) for name, mean in values["sums"].items()}})


class Checkpoints:
    """The newest checkpoint of one phase, or that of its best epoch.

    Args:
        directory: made if missing. Those in use at once have different last names.
        read_only: never write to it, nor make it.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.directory = directory.absolute()
        # Processes wait for each other while they save. Two managers, say of the newest and of the best state, do
        # so at once: their barriers need different names. The whole path may differ between machines.
        processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=directory.name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 1, save_interval_steps=0 if read_only else 1,
            create=not read_only, read_only=read_only, multiprocessing_options=processes,
        )  # fmt: skip
        # Named here, so that a manager that has not saved anything yet can read the saved shapes.
        handlers = {"state": ocp.StandardCheckpointHandler(), "position": ocp.JsonCheckpointHandler()}
        with _without_warnings():  # that it only reads
            self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close."""
        self.close()

    def save(self, state: TrainState, position: Position) -> None:
        """Start to save, in the background."""
        # Host values, as what pmap returns on several processes is local to each, which orbax refuses.
        values = jax.tree.map(np.asarray, state)
        items = {"state": ocp.args.StandardSave(values), "position": ocp.args.JsonSave(position.to_json())}
        step = int(state.step)
        self._manager.wait_until_finished()
        if step in self._manager.all_steps():
            # An interrupted validation left the state before it; or a damaged one is made again.
            self._manager.delete(step)
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def position(self) -> Position | None:
        """Where the newest checkpoint is, without its state; ``None`` if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        step = self._newest_step()
        if step is None:
            return None
        with self._naming_damage(step):
            args = ocp.args.Composite(position=ocp.args.JsonRestore())
            return Position.from_json(self._manager.restore(step, args=args)["position"])

    def restore(self, like: TrainState) -> tuple[TrainState, Position] | None:
        """The newest state, laid out over the devices as ``like`` is, and where it is; ``None`` if there is none.

        Raises:
            ValueError: if the saved tree has other leaves or shapes than ``like``: another model or optimiser; or
                if it is damaged.
        """
        step = self._newest_step()
        if step is None:
            return None
        with self._naming_damage(step):
            saved = self._manager.item_metadata(step)["state"].tree
        self._require_same_leaves(_shapes(saved), _shapes(like))
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with self._naming_damage(step):
            items = {"state": ocp.args.StandardRestore(target), "position": ocp.args.JsonRestore()}
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
            return found["state"], Position.from_json(found["position"])

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _newest_step(self) -> int | None:
        self._manager.wait_until_finished()
        return self._manager.latest_step()

    @contextlib.contextmanager
    def _naming_damage(self, step: int) -> Iterator[None]:
        hook = sys.unraisablehook
        # Where one array cannot be read, the threads that read the others fail as well, some after this has been
        # said: their tracebacks would bury it.
        sys.unraisablehook = _say_nothing
        try:
            yield
            sys.unraisablehook = hook
        except Exception as error:  # whatever orbax and its readers make of files that are cut short or missing
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ValueError(
                f"the checkpoint of step {step} in {self.directory} is damaged: {reason}; remove"
                f" {self.directory.parent} to train this network anew, or start over with --force"
            ) from error

    def _require_same_leaves(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        # Parameters first: they tell the user more than the optimiser's copies of them.
        for name in sorted(saved.keys() | wanted.keys(), key=lambda name: (not name.startswith("params"), name)):
            if saved.get(name) != wanted.get(name):
                raise ValueError(
                    f"the checkpoint in {self.directory} is of another model: {name} has shape"
                    f" {saved.get(name, 'none (it is missing)')}, expected {wanted.get(name, 'none')}"
                )


def saved_steps(directory: Path) -> list[int]:
    """The steps of the checkpoints in a directory, whether they are damaged or not."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdecimal())


def _say_nothing(unraisable: object) -> None:
    del unraisable


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in flat}


def _name(path: tuple[Any, ...]) -> str:
    """One name for a leaf, whether it lies in a state or in the plain dicts that orbax gives back."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
