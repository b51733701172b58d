"""The phases of a run, read: as they came to their end, or as they were at a checkpoint that is kept."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.harness.phase_start import has_same_start
from experiments.training.kept import Kept, Trained, epochs_done, is_finished, kept, load, load_kept
from experiments.training.phase import Outputs, Phase

Phases = Mapping[str, Callable[[Any], Phase]]  # makers, from the parameters that the phase before it ended with


def load_ends(phases: Phases, outputs_of: Callable[[str], Outputs]) -> dict[str, Trained]:
    """What the first phase ended with, and whichever of the others came to their end as well; host values.

    Raises:
        ValueError: if the first phase has not come to its end, or something is damaged.
    """
    finished: dict[str, Trained] = {}
    params = None
    for name, make in phases.items():
        phase, outputs = make(params), outputs_of(name)
        done = epochs_done(outputs) if phase.num_epochs else None
        if finished and not (done and is_finished(phase, done) and has_same_start(phase, outputs)):
            break
        finished[name] = on_host(load(phase, outputs))
        params = finished[name].state.evaluated_params
    return finished


def load_at(phases: Phases, outputs_of: Callable[[str], Outputs], at: str) -> dict[str, Trained]:
    """A checkpoint, as the last of the phases, after what those before it ended with; host values.

    Args:
        phases: of the run, finished or not.
        outputs_of: where each keeps its states.
        at: a phase, for what it ends with so far; or a number of epochs, counted over all phases, with ``+STEPS``
            within one.

    Raises:
        ValueError: if there is no such checkpoint; those that there are are named.
    """
    ended: dict[str, Trained] = {}
    known: list[str] = []
    params, before = None, 0
    for name, make in phases.items():
        phase, outputs = make(params), outputs_of(name)
        if ended and not has_same_start(phase, outputs):
            break
        end, all_kept = kept(phase, outputs)
        found = {_name(each, before): each for each in all_kept} | ({} if end is None else {name: end})
        if at in found:
            return ended | {name: on_host(load_kept(phase, found[at]))}
        known += found
        if end is None:
            break
        ended[name] = on_host(load_kept(phase, end))
        params, before = ended[name].state.evaluated_params, before + len(ended[name].lines)
    raise ValueError(f"--at must be a checkpoint that is kept, of {', '.join(known) or 'none'}, got {at!r}")


def on_host(trained: Trained) -> Trained:
    """With host values, with which each process can compute by itself as well."""
    return trained._replace(state=jax.tree.map(np.asarray, trained.state))


def _name(kept: Kept, before: int) -> str:
    position = kept.position
    return f"{before + position.epoch}" + (f"+{position.step_in_epoch}" if position.step_in_epoch else "")
