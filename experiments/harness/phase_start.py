"""What a further phase began from: recorded beside it, and begun anew where that is something else by now."""

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
    """Whether what is there began from the parameters that the phase begins from."""
    return _recorded(outputs.newest.parent).get("starts_from") == checksum(phase.initial_params)


def begin_anew_if_changed(phase: Phase, outputs: Outputs, before: Trained) -> None:
    """Remove a further phase that began from other parameters, as the phase before it has gone on since.

    Args:
        phase: that begins from what the phase before it ended with.
        outputs: of the further phase.
        before: what the phase before it ended with.
    """
    directory = outputs.newest.parent
    there, start = _recorded(directory), {"starts_from": checksum(phase.initial_params)}
    wait_for_all(f"compared {directory.name}")
    if there.get("starts_from") != start["starts_from"] and is_main_process():
        at = place(before)
        if outputs.newest.exists():
            old = f", not {there['step']} (epoch {there['epoch']})" if "step" in there else ""
            print(
                f"{phase.label}: begins anew, as the phase before it has changed: from its step {at['step']}"
                f" (epoch {at['epoch']}){old}",
                file=sys.stderr,
            )
        remove(directory)
        write_json(directory / CONFIG, start | at)
    wait_for_all(f"prepared {directory.name}")


def _recorded(directory: epath.Path) -> dict[str, Any]:
    """What was written when the phase began; nothing, and a line, if it is damaged."""
    path = directory / CONFIG
    try:
        return read_json(path) if path.exists() else {}
    except ValueError as error:
        print(error, file=sys.stderr)
        return {}
