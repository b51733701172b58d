"""What processes tell each other: what they are about to do, so that all do the same, and that one of them fails.

They talk by the service that they found each other by, which needs no device and no step that all of them take.
"""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
from jax._src import distributed  # nothing public gives the service; orbax takes it from there as well

from experiments.storage import plain
from experiments.training.devices import is_main_process

_DAY = 24 * 60 * 60 * 1000  # in milliseconds; a process that is slow, say to read its data, is waited for
_FAILED, _LEAVING = "experiments/failed", "experiments/leaving"
_LEAVE_TOGETHER = 10_000  # milliseconds
_ASK_EVERY = 0.5  # seconds
_numbers = itertools.count()  # of the questions, asked by all processes in the same order
_is_ending = threading.Lock()


def has_others() -> bool:
    """Whether this process has joined others, be it that they are gone by now; no device is touched."""
    return _service() is not None and distributed.global_state.num_processes > 1


def from_all(text: str) -> list[str]:
    """What each process says here, in their order; all have to be asked the same number of times."""
    if not has_others():
        return [text]
    question = f"experiments/{next(_numbers)}"
    _service().key_value_set(f"{question}/{jax.process_index()}", text)
    ranks = range(jax.process_count())
    return [_service().blocking_key_value_get(f"{question}/{rank}", _DAY) for rank in ranks]


def require_same(values: Mapping[str, Any], advice: str) -> None:
    """Let all processes compare what they are about to do.

    Args:
        values: plain values.
        advice: what to do where they differ.

    Raises:
        ValueError: on all processes, naming the first value that differs.
    """
    first, *others = map(json.loads, from_all(json.dumps(plain(values))))
    for rank, other in enumerate(others, start=1):
        for name, one, another in differences(first, other):
            raise ValueError(
                f"the processes differ: {name} is {one!r} on process 0, {another!r} on process {rank}; {advice}"
            )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The values that differ, by dotted names where they are nested, with both."""
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from ((f"{name}.{inner}", *values) for inner, *values in differences(one, other))
        elif one != other:
            yield name, one, other


@contextlib.contextmanager
def listening_for_failures() -> Iterator[None]:
    """End this process, with status 2 and one line, as soon as another one says that it fails."""
    if not has_others():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_end_with_others, args=(done,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()  # one that is within the service when Python ends takes the whole process with it


def fail(line: str) -> NoReturn:
    """Print the line and exit with status 2, as the other processes do then, whatever they wait for."""
    if not has_others():
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    fail_at_once(line)


def fail_at_once(line: str) -> NoReturn:
    """As :func:`fail`, also from a thread, and without what is done at the end of a process."""
    if not has_others():
        sys.stdout.flush()
        print(f"error: {line}", file=sys.stderr, flush=True)
        os._exit(2)
    if not _is_ending.acquire(blocking=False):
        time.sleep(60)  # another was the first to fail, and this process is being ended
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another has said so before, or the service is gone
        _service().key_value_set(_FAILED, json.dumps([jax.process_index(), line]))
    _leave(f"error: {line}")


def _end_with_others(done: threading.Event) -> None:
    while not done.wait(_ASK_EVERY):
        try:
            rank, line = json.loads(_service().key_value_try_get(_FAILED))
        except jax.errors.JaxRuntimeError:
            continue  # none has failed
        if _is_ending.acquire(blocking=False):
            _leave(f"error: process {rank} of {jax.process_count()}: {line}")


def _leave(line: str) -> NoReturn:
    """Exit at once, as whatever else this process does may wait for the others for ever."""
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # one of them is gone already
        _service().wait_at_barrier(_LEAVING, _LEAVE_TOGETHER)
    if is_main_process():
        time.sleep(1)  # the service lives in this process, and the others end in disorder without it
    os._exit(2)


def _service() -> Any:
    return distributed.global_state.client
