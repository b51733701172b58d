"""What the command lines of the experiments have in common."""

import contextlib
import sys
from collections.abc import Iterator


def with_default(arguments: list[str] | None, default: str) -> list[str]:
    """The arguments (those of this process if ``None``), with the default sub-command before bare flags."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        return [default, *arguments]
    return arguments


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Mistakes in the input are one line and exit status 2; an interruption says how to go on."""
    try:
        yield
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
