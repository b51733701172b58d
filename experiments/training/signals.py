"""Signals to stop: the first sets a flag, which the work reads where it can stop; a second ends the process."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = signal.SIGINT, signal.SIGTERM
# Seconds within which a further signal is the first one, delivered twice: by the terminal to the whole group, say,
# and by the program that started this one.
_TWICE = 1.0
_HEARD = "stops once what is done is kept; a second signal ends at once"
_LAST_WORDS = b"ended at once; the same command goes on from the last checkpoint, if there is one\n"


class Interrupted(KeyboardInterrupt):
    """Raised where work stops because a signal asked for it.

    Args:
        number: of the signal.
        saved: what of the work is kept.
    """

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {saved}; the same command goes on from there")
        self.status = 128 + number  # as a shell reports it


class _Flag:
    number = 0  # of the first signal
    is_set_by_signals = False


def received() -> int:
    """The signal that has asked to stop, or 0."""
    return _Flag.number


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Let SIGTERM and SIGINT set the flag for the time of the context.

    Nothing happens within another such context, which goes on, and in threads other than the main one, which
    signals do not reach.
    """
    if _Flag.is_set_by_signals or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Flag.number, _Flag.is_set_by_signals = 0, True
    # Python runs a handler once the main thread is back from whatever it waits for, a compilation of minutes, say.
    # That is soon enough for the flag, but a second signal has to be heard at once, by a thread.
    heard, written = os.pipe()
    os.set_blocking(written, False)
    wakeup_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _set_flag) for number in STOPPING}
    thread = threading.Thread(target=_end_at_second, args=(heard,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(written)
        thread.join()
        _Flag.number, _Flag.is_set_by_signals = 0, False


def _set_flag(number: int, frame: FrameType | None) -> None:
    del frame
    _Flag.number = _Flag.number or number


def _end_at_second(heard: int) -> None:
    """Read the numbers of all signals that come, until the other end of the pipe is closed."""
    first = None
    with open(heard, "rb", buffering=0) as numbers:
        while byte := numbers.read(1):
            if byte[0] not in STOPPING:
                continue
            if first is None:
                first = time.monotonic()
                os.write(2, f"{signal.Signals(byte[0]).name}: {_HEARD}\n".encode())
            elif time.monotonic() - first >= _TWICE:
                os.write(2, _LAST_WORDS)
                os._exit(128 + byte[0])
