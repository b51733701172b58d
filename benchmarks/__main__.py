"""``python -m benchmarks --list`` names the benchmarks; ``python -m benchmarks [NAME ...]`` runs them.

The exit status is 1 if a row misses its bar, or if a benchmark that was named cannot be run here.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.measure import Clock, share_gpu_memory
from benchmarks.table import BENCHMARKS, TAKE_DATA_DIR, NotAvailableError, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks (all by default), print one line per measured ratio, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all when none is given")
    parser.add_argument("--list", action="store_true", help="print the names with what each measures")
    parser.add_argument("--tiny", action="store_true", help="sizes that try the code out and measure nothing")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds in place of time, for a busy machine")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help=f"Fashion-MNIST's files, for {', '.join(TAKE_DATA_DIR)}"
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"NAME must be one of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}")
    names = options.names or list(BENCHMARKS)
    if options.data_dir is not None and not set(names) & set(TAKE_DATA_DIR):
        parser.error(f"--data-dir is for {', '.join(TAKE_DATA_DIR)}, got {', '.join(names)}")
    if options.list:
        for name in names:
            print(f"{name:<20} {(load(name).__doc__ or '').splitlines()[0]}")
        return 0
    if "NPROC" in os.environ and not options.tiny:
        # XLA takes it for the size of its thread pool: more threads than cores cost up to a quarter.
        parser.error(f"NPROC must not be set where times are measured, got {os.environ['NPROC']!r}")
    share_gpu_memory()
    Clock.counts_cpu_seconds = options.cpu_time
    print(f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}")
    return max([_run(name, options.tiny, options.data_dir, named=bool(options.names)) for name in names])


def _run(name: str, tiny: bool, data_dir: Path | None, *, named: bool) -> int:
    """Run one benchmark; its exit status."""
    rows = []
    data = {"data_dir": data_dir} if name in TAKE_DATA_DIR else {}
    try:
        for row in load(name)(tiny, **data):
            print(row, flush=True)
            rows.append(row)
    except NotAvailableError as error:
        print(f"{name} is left out: {error}", flush=True)
        return int(named)
    return int(not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
