"""How a command ends where something is wrong: in one line, with a status that says of which kind it was."""

import contextlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax

from experiments.places import is_of_bucket
from experiments.training.agreement import fail, has_others
from experiments.training.signals import Interrupted

# Where files are not the user's own.
_OURS = "absum_jax", "benchmarks", "experiments", "sigsoftmax_jax"
_PACKAGES = [Path(__file__).parents[2] / name for name in _OURS]
_PYTHON, _INSTALLED = Path(sysconfig.get_paths()["stdlib"]), {"site-packages", "dist-packages"}


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Mistakes in the input are one line and status 2, on all processes; an interruption says how to go on."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else flushing at the exit fails again
        sys.exit(1)
    except (ValueError, FloatingPointError, OSError) as error:
        if _is_of_own_code(error):  # a model of the user's, say: the line alone would not tell where
            traceback.print_exc()
        fail(" ".join(str(error).split()))
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(interrupted.status)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint, if there is one", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if is_of_bucket(error):
            fail(" ".join(str(error).split())[:500])
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            reason = " ".join(str(error).split())[:300]
            fail(f"it does not fit into a device's memory, a smaller batch may: {reason}")
        if not has_others():
            raise
        # Most likely another process was killed. If it is a mistake of ours, no other must wait for this one.
        if not isinstance(error, jax.errors.JaxRuntimeError):
            traceback.print_exc()
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        fail(f"{reason}; the same command, on all processes, goes on from the last checkpoint")


def _is_of_own_code(error: BaseException) -> bool:
    """Whether the innermost frame, those of Python and of installed packages aside, is of another project."""
    names = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [Path(name) for name in names if not name.startswith("<")]  # written by no one, as <frozen runpy>
    written = [each for each in files if _INSTALLED.isdisjoint(each.parts) and not each.is_relative_to(_PYTHON)]
    return bool(written) and not any(written[-1].is_relative_to(package) for package in _PACKAGES)
