"""What a phase has left on disk, only read: how far it is, what it ended with, which checkpoints are kept."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
from etils import epath

from experiments.training.checkpoint import Checkpoints, DamagedError
from experiments.training.phase import Line, Outputs, Phase
from experiments.training.position import Position
from experiments.training.step import TrainState, create_state


class Trained(NamedTuple):
    """What a phase gives: the last state, or the best, on every device; and the metrics of each of its epochs."""

    state: TrainState
    lines: list[Line]


class Kept(NamedTuple):
    """A checkpoint of a phase: where it lies, its step, and where the phase was (or is, where it is its end)."""

    directory: epath.Path
    step: int
    position: Position


def load(phase: Phase, outputs: Outputs) -> Trained:
    """What training gave back when it came to its end, read from its outputs; nothing is trained or written.

    Raises:
        ValueError: if it has not come to its end, or what is there is damaged or does not fit.
        OSError: if it cannot be read.
    """
    position = _require_finished(phase, outputs, epochs_done(outputs))
    like = initial_state(phase, jax.devices())
    with Checkpoints(outputs.best if phase.keep_best else outputs.newest, read_only=True) as checkpoints:
        if phase.keep_best:
            state = best_of(checkpoints, like, position.lines[: phase.num_epochs])
        else:
            state, restored = newest_of(checkpoints, like)
            # An older one may have taken the place of one that is damaged.
            position = _require_finished(phase, outputs, restored)
    return Trained(state, position.lines[: phase.num_epochs])


def _require_finished(phase: Phase, outputs: Outputs, position: Position | None) -> Position:
    if position is None or not is_finished(phase, position):
        done = 0 if position is None else position.epoch
        raise ValueError(
            f"{outputs.newest} has finished {done} of {phase.num_epochs} epochs; repeat the command that trained"
            " it first, or name one of its checkpoints (--at)"
        )
    require_length(phase, position, outputs.newest.parent)
    return position


def kept(phase: Phase, outputs: Outputs) -> tuple[Kept | None, list[Kept]]:
    """The checkpoints of a phase that are whole, be it finished or not.

    Returns:
        What it ends with so far, the best or the newest; and all within its epochs, the newest last.

    Raises:
        OSError: if one cannot be read.
    """
    newest, best = _kept_in(outputs.newest), _kept_in(outputs.best) if phase.keep_best else []
    end = next(reversed(best if phase.keep_best else newest), None)
    if end is not None and newest:
        lines = newest[-1].position.lines[: phase.num_epochs]
        end = end._replace(position=dataclasses.replace(newest[-1].position, lines=lines))
    there = {each.step: each for each in (*best, *newest) if not _is_beyond(phase, each.position)}
    return end, [there[step] for step in sorted(there)]


def _is_beyond(phase: Phase, position: Position) -> bool:
    """Whether it is of a time when more epochs were asked for."""
    return (position.epoch, position.step_in_epoch) > (phase.num_epochs, 0)


def _kept_in(directory: epath.Path) -> list[Kept]:
    if not directory.exists():
        return []
    found = []
    with Checkpoints(directory, read_only=True) as checkpoints:
        for step in reversed(checkpoints.steps()):
            try:
                found.append(Kept(directory, step, checkpoints.position_of(step)))
            except DamagedError:
                continue
    return found


def load_kept(phase: Phase, kept: Kept) -> Trained:
    """A checkpoint, with the metrics of the epochs until then.

    Raises:
        ValueError: if it is damaged, or does not fit the phase.
        OSError: if it cannot be read.
    """
    with Checkpoints(kept.directory, read_only=True) as checkpoints:
        state, _ = checkpoints.restore_step(kept.step, initial_state(phase, jax.devices()))
    return Trained(state, kept.position.lines)


def epochs_done(outputs: Outputs) -> Position | None:
    """Where the newest checkpoint is; ``None`` if there is none.

    Raises:
        ValueError: if it is damaged.
        OSError: if it cannot be read.
    """
    if not outputs.newest.exists():
        return None
    with Checkpoints(outputs.newest, read_only=True) as checkpoints:
        return checkpoints.position()


def is_finished(phase: Phase, position: Position) -> bool:
    """Whether a phase has come to its end, by its epochs or by averages from the start that gain no more."""
    stops = phase.averaging is not None and phase.averaging.from_start
    return position.epoch >= phase.num_epochs or (stops and is_triggered(phase, position))


def is_triggered(phase: Phase, position: Position) -> bool:
    """Whether the newest validation asks for an average to begin, or to end."""
    return phase.averaging is not None and phase.averaging.is_triggered(position.validation_losses)


def require_length(phase: Phase, position: Position, where: epath.Path) -> None:
    """Raise ``ValueError`` if fewer epochs are asked for than are done, and what they ended with is gone."""
    least = position.best_epoch if phase.keep_best else position.epoch
    if phase.num_epochs < least:
        of_best = f", and of them the best, {least}, is kept" if phase.keep_best else ""
        raise ValueError(
            f"{where} has {position.epoch} epochs of {phase.label}, more than the {phase.num_epochs} asked for"
            f"{of_best}; ask for at least {least}, choose another --out, or start over with --force"
        )


def initial_state(phase: Phase, devices: Sequence[jax.Device]) -> TrainState:
    """The state before the first step of a phase."""
    return create_state(
        phase.task, phase.seed, devices,
        numbers=phase.numbers, averaging=phase.averaging, initial_params=phase.initial_params,
    )  # fmt: skip


def newest_of(checkpoints: Checkpoints, like: TrainState) -> tuple[TrainState, Position]:
    """The newest state that is whole, and where it is.

    Raises:
        ValueError: if there is none.
        OSError: if it cannot be read.
    """
    saved = checkpoints.restore(like=like)
    if saved is None:
        raise ValueError(
            f"{checkpoints.directory} has no checkpoint: that of the best epoch is missing; remove"
            f" {checkpoints.directory.parent} to train this network anew, or start over with --force"
        )
    return saved


def best_of(checkpoints: Checkpoints, like: TrainState, lines: Sequence[Line]) -> TrainState:
    """The state of the best of some epochs.

    Raises:
        ValueError: if there is none, or if it is of another epoch than the lines of these call the best.
        OSError: if it cannot be read.
    """
    state, position = newest_of(checkpoints, like)
    if position.epoch != (best := Position(list(lines)).best_epoch):
        raise ValueError(
            f"{checkpoints.directory} has the checkpoint of epoch {position.epoch}, but the best of the"
            f" {len(lines)} epochs is {best}; remove {checkpoints.directory.parent} to train this network anew, or"
            " start over with --force"
        )
    return state
