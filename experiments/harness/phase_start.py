"""What a further phase began from, and with what: recorded beside it, and begun anew where either has changed."""

import sys
from typing import Any

from etils import epath

from experiments.harness.directory import CONFIG
from experiments.harness.stored import checksum
from experiments.storage import read_json, remove, write_json
from experiments.training.devices import is_main_process, wait_for_all
from experiments.training.kept import Trained
from experiments.training.phase import Outputs, Phase


def place(trained: Trained) -> dict[str, int]:
    """Where in its phase a state is: the step, and the epochs that were done."""
    step = int(trained.state.step)
    return {"epoch": sum(line["step"] <= step for line in trained.lines), "step": step}


def has_same_start(phase: Phase, outputs: Outputs) -> bool:
    """Whether what is there began from the parameters that the phase begins from, with settings as its own."""
    return _start(phase).items() <= _recorded(outputs.newest.parent).items()


def begin_anew_if_changed(phase: Phase, outputs: Outputs, before: Trained) -> None:
    """Remove a further phase that began from other parameters, as the phase before it has gone on since, or by
    other settings of its own.

    Args:
        phase: that begins from what the phase before it ended with.
        outputs: of the further phase.
        before: what the phase before it ended with.
    """
    directory = outputs.newest.parent
    there, start = _recorded(directory), _start(phase)
    wait_for_all(f"compared {directory.name}")
    if not start.items() <= there.items() and is_main_process():
        at = place(before)
        if outputs.newest.exists():
            print(f"{phase.label}: begins anew, {_reason(there, start, at)}", file=sys.stderr)
        remove(directory)
        write_json(directory / CONFIG, start | at)
    wait_for_all(f"prepared {directory.name}")


def _start(phase: Phase) -> dict[str, Any]:
    return {"starts_from": checksum(phase.initial_params), "own": dict(phase.own)}


def _reason(there: dict[str, Any], start: dict[str, Any], at: dict[str, int]) -> str:
    """Why what is there is not what would begin at this place."""
    if there.get("starts_from") != start["starts_from"]:
        old = f", not {there['step']} (epoch {there['epoch']})" if "step" in there else ""
        return f"as the phase before it has changed: from its step {at['step']} (epoch {at['epoch']}){old}"
    old, new = there.get("own", {}), start["own"]
    changed = [f"{name} {new[name]}, not {old.get(name)}" for name in new if new[name] != old.get(name)]
    return f"with {', '.join(changed)}"


def _recorded(directory: epath.Path) -> dict[str, Any]:
    """What was written when the phase began; nothing, and a line, if it is damaged."""
    path = directory / CONFIG
    try:
        return read_json(path) if path.exists() else {}
    except ValueError as error:
        print(error, file=sys.stderr)
        return {}
