"""``python -m benchmarks --list`` names the benchmarks; ``python -m benchmarks [NAME ...]`` runs them."""

import argparse
import importlib
from collections.abc import Callable, Iterator

import jax

from benchmarks.measure import Row

# name -> module:function. Imported only when run, so that one benchmark's needs do not stop another.
BENCHMARKS: dict[str, str] = {
    "absum_step": "benchmarks.absum_step:absum_step",
    "sweep_throughput": "benchmarks.fourier_sweep:throughput",
    "sweep_memory": "benchmarks.fourier_sweep:memory",
    "sweep_compiles": "benchmarks.fourier_sweep:compiles",
    "lm_step": "benchmarks.language_model_step:lm_step",
    "log_sigsoftmax": "benchmarks.sigsoftmax:log_sigsoftmax_time",
    "cross_entropy": "benchmarks.sigsoftmax:cross_entropy_time",
    "linear_time": "benchmarks.sigsoftmax:linear_time",
    "linear_memory": "benchmarks.sigsoftmax:linear_memory",
    "mixture_time": "benchmarks.sigsoftmax:mixture_time",
    "mixture_memory": "benchmarks.sigsoftmax:mixture_memory",
    "mixture_tpu_memory": "benchmarks.sigsoftmax_tpu:mixture_tpu_memory",
    "rank_memory": "benchmarks.streamed_rank:rank_memory",
}


def load(name: str) -> Callable[[], Iterator[Row]]:
    """Import the function behind a benchmark's name."""
    module, function = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), function)


def main() -> None:
    """Run the named benchmarks (all by default) and print one line per measured ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all when none is given")
    parser.add_argument("--list", action="store_true", help="print the names with what each measures")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; expected one of {', '.join(BENCHMARKS)}")
    names = options.names or list(BENCHMARKS)
    if options.list:
        for name in names:
            print(f"{name:<28} {(load(name).__doc__ or '').splitlines()[0]}")
        return
    print(f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}")
    for name in names:
        for row in load(name)():
            print(row, flush=True)


if __name__ == "__main__":
    main()
