"""Checkpoints of a training state, by orbax: whole or not at all, and refused where they do not fit."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.training.interrupts import uninterrupted
from experiments.training.position import Position
from experiments.training.step import TrainState


class Checkpoints:
    """The newest checkpoints of one run.

    Args:
        directory: made if missing. Those in use at once have different last names.
        keep: how many to keep.
    """

    def __init__(self, directory: Path, *, keep: int = 1) -> None:
        self.directory = directory.absolute()
        # Processes wait for each other while they save. Two managers, say of the newest and of the best state, do
        # so at once: their barriers need different names. The whole path may differ between machines.
        processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=directory.name)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, multiprocessing_options=processes)
        # Named here, so that a manager that has not saved anything yet can read the saved shapes.
        handlers = {"state": ocp.StandardCheckpointHandler(), "position": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)

    def save(self, state: TrainState, position: Position) -> None:
        """Start to save, in the background."""
        # Host values, as what pmap returns on several processes is local to each, which orbax refuses.
        values = jax.tree.map(np.asarray, state)
        items = {"state": ocp.args.StandardSave(values), "position": ocp.args.JsonSave(position.to_json())}
        with uninterrupted():
            self._manager.save(int(state.step), args=ocp.args.Composite(**items))

    def restore(self, like: TrainState) -> tuple[TrainState, Position] | None:
        """The newest state, laid out over the devices as ``like`` is, and where it is; ``None`` if there is none.

        Raises:
            ValueError: if the saved tree has other leaves or shapes than ``like``: another model or optimiser.
        """
        self._manager.wait_until_finished()
        step = self._manager.latest_step()
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
        with uninterrupted():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _naming_damage(self, step: int) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f"the checkpoint of step {step} in {self.directory} is damaged: {reason}") from error

    def _require_same_leaves(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        # Parameters first: they tell the user more than the optimiser's copies of them.
        for name in sorted(saved.keys() | wanted.keys(), key=lambda name: (not name.startswith("params"), name)):
            if saved.get(name) != wanted.get(name):
                raise ValueError(
                    f"the checkpoint in {self.directory} is of another model: {name} has shape"
                    f" {saved.get(name, 'none (it is missing)')}, expected {wanted.get(name, 'none')}"
                )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in flat}


def _name(path: tuple[Any, ...]) -> str:
    """One name for a leaf, whether it lies in a state or in the plain dicts that orbax gives back."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
