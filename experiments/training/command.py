"""What the command lines of the experiments have in common."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import tyro


def with_default(arguments: list[str] | None, default: str) -> list[str]:
    """The arguments (those of this process if ``None``), with the default sub-command before bare flags."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        return [default, *arguments]
    return arguments


def parse(command: Any, arguments: list[str], *, prog: str, description: str | None) -> Any:
    """The config that the arguments stand for.

    Raises:
        ValueError: in one line, where the parser would draw a box.
    """
    drawn = io.StringIO()
    try:
        with contextlib.redirect_stderr(drawn):
            return tyro.cli(command, args=arguments, prog=prog, description=description)
    except SystemExit as exit_request:
        if not exit_request.code:
            raise
        words = re.sub(r"[^\x20-\x7e]+|(?<=\s)[-+|]+(?=\s)", " ", drawn.getvalue()).split()
        raise ValueError(" ".join(words)) from exit_request


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Mistakes in the input are one line and exit status 2; an interruption says how to go on."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else flushing at the exit fails again
        sys.exit(1)
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint, if there is one", file=sys.stderr)
        sys.exit(130)
