"""Signals to stop: the first sets a flag, a second one ends the process, whatever it does."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from experiments.training.signals import Interrupted, listening, received

ROOT = Path(__file__).parents[2]
NUMBERS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@NUMBERS
def test_a_signal_sets_the_flag_for_the_time_of_the_context(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with listening():
        assert received() == 0
        with listening():  # as a command does, and the training within it
            os.kill(os.getpid(), number)
            assert received() == number
        assert received() == number
    assert received() == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_other_threads_listen_to_nothing():
    handlers = []

    def work():
        with listening():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


@NUMBERS
def test_the_line_names_the_signal_and_the_status_is_the_shells(number):
    error = Interrupted(number, "step 3 is saved")
    assert str(error) == f"{signal.Signals(number).name}: step 3 is saved; the same command goes on from there"
    assert error.status == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]


# Blocked outside of Python, whose handlers run only when that is over, as in a long compilation.
BUSY = """
import hashlib
from experiments.training.signals import listening
with listening():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes
"""


@NUMBERS
def test_a_second_signal_ends_at_once_what_does_not_listen(number):
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, text=True, stdout=-1, stderr=-1)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.send_signal(number)  # the same one, delivered twice
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(number)
        _, printed = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert printed.splitlines() == [
        f"{signal.Signals(number).name}: stops once what is done is kept; a second signal ends at once",
        "ended at once; the same command goes on from the last checkpoint, if there is one",
    ]
