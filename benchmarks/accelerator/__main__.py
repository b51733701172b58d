"""Measure all that is to be measured on an accelerator; the same command goes on where the last one stopped.

Every item writes NAME.json into the directory: device, versions, command, seconds and results. The time that is
given ends it between two pieces of work (a row, an epoch, a part of an attack) with exit status 0 and a line that
says what is left; the status is 1 if a piece failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.accelerator.items import ITEMS
from benchmarks.accelerator.work import Budget, Call, work_through
from benchmarks.measure import share_gpu_memory
from experiments.harness.mistakes import one_line_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Work through the items, and give the exit status."""
    options = parser().parse_args(arguments)
    budget = Budget.of_minutes(options.minutes)
    share_gpu_memory()
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(options.out.absolute() / "compiled"))
    call = Call(options.out, budget, cifar=options.cifar, wikitext=options.wikitext, tiny=options.tiny)
    with one_line_errors():
        print(f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}", flush=True)
        left, num_failed = work_through({name: ITEMS[name] for name in options.names or ITEMS}, call)
        what_is_left = "; ".join(f"{name} ({what})" for name, what in left.items())
        print(f"left: {what_is_left}" if left else "nothing is left")
    return int(num_failed > 0)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    # No "choices": argparse would hold the empty list against them.
    names = f"of {', '.join(ITEMS)}; all by default"
    flags.add_argument("names", nargs="*", metavar="ITEM", type=_item, help=names)
    flags.add_argument("--out", type=Path, required=True, help="directory of the results")
    flags.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after so many; 9 by default")
    flags.add_argument("--cifar", type=Path, help="CIFAR-10: directory of its binary files, or a packed .npz")
    flags.add_argument("--wikitext", type=Path, help="directory of WikiText-2 in its standard files")
    flags.add_argument("--tiny", action="store_true", help="sizes that try the code out and measure nothing")
    return flags


def _item(name: str) -> str:
    if name not in ITEMS:
        raise argparse.ArgumentTypeError(f"ITEM must be one of {', '.join(ITEMS)}, got {name}")
    return name


if __name__ == "__main__":
    sys.exit(main())
