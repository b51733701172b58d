"""Checkpoints of a training state, by orbax: whole or not at all, verified, and refused where they do not fit.

When one is written is decided in ``experiments/training/loop.py``.
"""

import contextlib
import errno
import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from experiments.places import absolute
from experiments.training.access import of_access, of_access_below, quoted_reason
from experiments.training.array_storage import require_reachable
from experiments.training.devices import is_main_process
from experiments.training.position import Position
from experiments.training.step import TrainState

Read = TypeVar("Read")


class DamagedError(ValueError):
    """A checkpoint is not as it was written."""


class Checkpoints:
    """The newest checkpoints of one phase, or that of its best epoch.

    Args:
        directory: made if missing. Those in use at once have different last names.
        keep: how many of the newest; where one is damaged, the one before it is taken.
        read_only: never write to it, nor make it.
    """

    def __init__(self, directory: epath.Path, *, keep: int = 1, read_only: bool = False) -> None:
        self.directory = absolute(directory)
        require_reachable(self.directory)
        # Processes wait for each other while they save. Two managers, say of the newest and of the best state, do
        # so at once: their barriers need different names. The whole path may differ between machines.
        processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=directory.name)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep, save_interval_steps=0 if read_only else 1,
            create=not read_only, read_only=read_only, multiprocessing_options=processes,
        )  # fmt: skip
        # Named here, so that a manager that has not saved anything yet can read the saved shapes.
        handlers = {"state": ocp.StandardCheckpointHandler(), "position": ocp.JsonCheckpointHandler()}
        for logger in ("absl", "asyncio"):
            logging.getLogger(logger).addFilter(_is_not_raised_as_well)
        _hush_late_threads()
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
        record = {"position": position.to_json(), "shapes": _shapes(values), "checksums": _checksums(values)}
        items = {"state": ocp.args.StandardSave(values), "position": ocp.args.JsonSave(_sealed(record))}
        step = int(state.step)
        with self._naming_failure():
            # What is there of this step, or of later ones, is damaged, or was saved in an interrupted validation.
            for old in [each for each in self.steps() if each >= step]:
                self._manager.delete(old)
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def wait(self) -> None:
        """Wait until what was saved is on disk."""
        with self._naming_failure():
            self._manager.wait_until_finished()

    def position(self) -> Position | None:
        """Where the newest checkpoint is, without its state; ``None`` if there is none.

        Raises:
            DamagedError: if it is damaged, as are those before it.
            OSError: if it cannot be read, which says nothing of what it holds.
        """
        found = self._newest_whole(self._record)
        return None if found is None else Position.from_json(found[0]["position"])

    def position_of(self, step: int) -> Position:
        """Where the checkpoint of a step is, without its state.

        Raises:
            DamagedError: if it is damaged.
            OSError: as :meth:`position`.
        """
        return Position.from_json(self._record(step)["position"])

    def restore_step(self, step: int, like: TrainState) -> tuple[TrainState, Position]:
        """As :meth:`restore`, the state of this step."""
        return self._restore(step, like)

    def restore(self, like: TrainState) -> tuple[TrainState, Position] | None:
        """The newest state, laid out over the devices as ``like`` is, and where it is; ``None`` if there is none.

        Raises:
            ValueError: if the saved tree has other leaves or shapes than ``like``: another model or optimiser.
            DamagedError: if it is damaged, as are those before it.
            OSError: as :meth:`position`; the one before it is not taken, as the newest may well be whole.
        """
        found = self._newest_whole(lambda step: self._restore(step, like))
        if found is None:
            return None
        restored, damage = found
        if damage is not None and is_main_process():
            step = int(restored[0].step)
            print(f"{damage}; the one before it, of step {step}, is taken", file=sys.stderr)
        return restored

    def close(self) -> None:
        """Wait until everything is on disk."""
        with self._naming_failure():
            self._manager.wait_until_finished()
            self._manager.close()

    def steps(self) -> list[int]:
        """Those of which there are checkpoints, the newest first."""
        self._manager.wait_until_finished()
        return sorted(self._manager.all_steps(), reverse=True)

    def _newest_whole(self, read: Callable[[int], Read]) -> tuple[Read, DamagedError | None] | None:
        """What is read of the newest checkpoint or, where that is damaged, of the one before; and the damage."""
        damage = None
        for step in self.steps():
            try:
                return read(step), damage
            except DamagedError as error:
                damage = damage or error
        if damage is None:
            return None
        raise DamagedError(
            f"{damage}; remove {self.directory.parent} to train this network anew, or start over with --force"
        ) from damage

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, Position]:
        record = self._record(step)
        self._require_same_leaves(record["shapes"], _shapes(like))
        with self._naming_damage(step):
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            state = self._manager.restore(step, args=args)["state"]
            for name, checksum in _checksums(state).items():
                if checksum != record["checksums"][name]:
                    raise ValueError(f"{name} is not what was written")
        return state, Position.from_json(record["position"])

    def _record(self, step: int) -> dict[str, Any]:
        """What is kept of a checkpoint besides its arrays: where it is, and what they are."""
        with self._naming_damage(step):
            args = ocp.args.Composite(position=ocp.args.JsonRestore())
            return _unsealed(self._manager.restore(step, args=args)["position"])

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the threads that write in the background have met
            time.sleep(1)  # until those that write the other arrays have met it, too: see _hush_late_threads
            raise OSError(
                f"a checkpoint could not be written to {self.directory}: {_reason(error)}; once that is mended,"
                " the same command goes on from the one before it"
            ) from error

    @contextlib.contextmanager
    def _naming_damage(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever orbax and its readers make of files that are cut short or missing
            checkpoint = f"the checkpoint of step {step} in {self.directory}"
            blocked = of_access(error) or of_access_below(self.directory / str(step))
            if blocked is not None:
                advice = "repeat the same command once that is mended"
                raise OSError(f"{checkpoint} could not be read: {_reason(blocked)}; {advice}") from error
            raise DamagedError(f"{checkpoint} is damaged: {_reason(error)}") from error

    def _require_same_leaves(self, saved: dict[str, list[int]], wanted: dict[str, list[int]]) -> None:
        # Parameters first: they tell the user more than the optimiser's copies of them.
        for name in sorted(saved.keys() | wanted.keys(), key=lambda name: (not name.startswith("params"), name)):
            if saved.get(name) != wanted.get(name):
                there = tuple(saved[name]) if name in saved else "none (it is missing)"
                here = tuple(wanted[name]) if name in wanted else "none"
                raise ValueError(
                    f"the checkpoint in {self.directory} is of another model: {name} has shape {there}, expected"
                    f" {here}"
                )


def saved_steps(directory: epath.Path) -> list[int]:
    """The steps of the checkpoints in a directory, whether they are damaged or not."""
    if not directory.exists():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def _hush_late_threads() -> None:
    """Say nothing of threads that end after all was over, as the array of another could not be read or written.

    What the first one has met is raised; hundreds of lines of theirs would bury it.
    """
    say = sys.unraisablehook
    if getattr(say, "hushes_late_threads", False):
        return

    def hook(raised: Any) -> None:
        if str(raised.exc_value) != "Event loop is closed":
            say(raised)

    hook.hushes_late_threads = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(map(_name, path)): leaf for path, leaf in flat}


def _shapes(tree: Any) -> dict[str, list[int]]:
    return {name: list(leaf.shape) for name, leaf in _leaves(tree).items()}


def _checksums(tree: Any) -> dict[str, str]:
    """CRC-32 of the values of each leaf."""
    return {name: f"{zlib.crc32(np.asarray(leaf).tobytes()):08x}" for name, leaf in _leaves(tree).items()}


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def _sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum of its own."""
    return {"record": record, "checksum": f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"}


def _unsealed(sealed: dict[str, Any]) -> dict[str, Any]:
    if "record" not in sealed or sealed != _sealed(sealed["record"]):
        raise ValueError("its position is not what was written")
    return sealed["record"]


def _is_not_raised_as_well(record: logging.LogRecord) -> bool:
    """Whether a message is neither orbax's, which raises its errors, nor of an error that it did not wait for."""
    is_of_orbax = f"{os.sep}orbax{os.sep}" in record.pathname
    return not is_of_orbax and "exception was never retrieved" not in str(record.msg)


def _reason(error: BaseException) -> str:
    """Why something failed, in few words: what the system says, where a reader or writer quotes it."""
    text = str(error) or type(error).__name__
    said = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
    return quoted_reason(text) or next((each for each in said if each in text), text.splitlines()[0][:200])
