"""What the tests of both command lines share."""

import json
import os
import random
import signal
import threading
import time

import pytest

STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def read(path):
    return json.loads(path.read_text())


def only(directory):
    """What a directory holds alone, such as what an evaluation measured by one key."""
    (found,) = directory.iterdir()
    return found


def error_line(main, capsys, *arguments):
    """The line that the command prints before it ends with status 2."""
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines if "error" in line.lower()] == [True]
    assert lines[-1].startswith("error: ")
    return lines[-1]


def shortest(work, times=2):
    """The seconds of a piece of work, of the quickest of a few: a busy machine slows some of them."""
    seconds = []
    for _ in range(times):
        start = time.monotonic()
        work()
        seconds.append(time.monotonic() - start)
    return min(seconds)


def interrupted(main, arguments, capsys, *, seconds, seed, most=6):
    """Repeat a command that SIGTERM and SIGINT stop at random moments, until it ends of itself.

    Args:
        seconds: that the command takes from its beginning to its end.
        seed: of the moments; the first comes in the middle, and the later ones where half of it was left.
        most: how many signals are sent.

    Returns:
        How often it was stopped.
    """
    random_numbers = random.Random(seed)
    # A signal may come when the command listens no more, or not yet.
    before = {number: signal.signal(number, lambda *_: None) for number in STATUSES}
    try:
        for count in range(most):
            number = random_numbers.choice(list(STATUSES))
            moment = random_numbers.uniform(0.3, 0.5) if count == 0 else random_numbers.uniform(0.05, 0.4)
            timer = threading.Timer(moment * seconds, os.kill, (os.getpid(), number))
            timer.start()
            try:
                if not _was_stopped(main, arguments, capsys, number):
                    return count
            finally:
                timer.join()
        main(list(arguments))
        return most
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _was_stopped(main, arguments, capsys, number):
    try:
        main(list(arguments))
    except SystemExit as exit_request:
        status = exit_request.code
    else:
        return False
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert (status, last_line.split(":")[0]) == (STATUSES[number], number.name), last_line
    assert last_line.endswith("; the same command goes on from there")
    return True
