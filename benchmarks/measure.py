"""Paired timing in one process, and peak memory in a fresh one."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.stages import Compiled


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured ratio: ``value`` is to stay at or below (or above) ``bar``.

    Args:
        name: what was measured.
        value: the ratio (or the size) measured.
        bar: the target.
        unit: of ``value``; ``"x"`` for a ratio.
        higher_is_better: whether ``bar`` is a lower bound.
        details: the absolute figures behind ``value``.
    """

    name: str
    value: float
    bar: float
    unit: str = "x"
    higher_is_better: bool = False
    details: str = ""

    @property
    def holds(self) -> bool:
        """Whether the target was met in this run."""
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar

    def __str__(self) -> str:
        sign = ">=" if self.higher_is_better else "<="
        verdict = "holds" if self.holds else "MISSED"
        return f"{self.name:<48} {self.value:8.3f} {self.unit:<4} {sign} {self.bar:g}  {verdict}  {self.details}"


@dataclasses.dataclass(frozen=True)
class PairedTimes:
    """Seconds of two functions called in turn, and the median of the ratios pair by pair."""

    first: list[float]
    second: list[float]

    @property
    def ratio(self) -> float:
        """Median over the pairs of first / second; drift of the machine's speed cancels."""
        return statistics.median(a / b for a, b in zip(self.first, self.second, strict=True))

    def __str__(self) -> str:
        first, second = statistics.median(self.first), statistics.median(self.second)
        return f"{first * 1e3:.1f} ms against {second * 1e3:.1f} ms, median of {len(self.first)} pairs"


class Clock:
    """What times are read from: the wall, or the CPU seconds of this process with all of its threads.

    On a machine that others keep busy, waiting for a core says nothing of the work.
    """

    counts_cpu_seconds = False

    @classmethod
    def now(cls) -> float:
        """Seconds since some moment."""
        return time.process_time() if cls.counts_cpu_seconds else time.perf_counter()


def seconds(function: Callable[[], Any]) -> float:
    """Seconds of one call, until every array in its result is ready."""
    start = Clock.now()
    jax.block_until_ready(function())
    return Clock.now() - start


def median_seconds(function: Callable[[], Any], *, repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    seconds(function)
    return statistics.median(seconds(function) for _ in range(repeats))


def paired_times(
    first: Callable[[], Any], second: Callable[[], Any], *, pairs: int = 15, pause: float = 0.0
) -> PairedTimes:
    """Call two functions in turn ``pairs`` times, after one uncounted call of each.

    Args:
        first: one.
        second: the other, which is first in every other pair.
        pairs: how often each is timed.
        pause: seconds before each, for threads that go on spinning after the other, as those of OpenMP do; then
            one more call is not counted, which wakes its own threads, as in training, where step follows step.
    """
    seconds(first), seconds(second)
    found: tuple[list[float], list[float]] = [], []
    for i in range(pairs):
        for which in (1, 0) if i % 2 else (0, 1):
            function = (first, second)[which]
            if pause:
                time.sleep(pause)
                seconds(function)
            found[which].append(seconds(function))
    return PairedTimes(*found)


def share_gpu_memory() -> None:
    """Let this process and those it starts use a GPU together; call it before anything else touches JAX."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first one takes most of it at once


def bar(*, cpu: float, accelerator: float) -> float:
    """The bar of the machine at hand."""
    return cpu if jax.default_backend() == "cpu" else accelerator


def compiled_extra_bytes(compiled: Compiled, *arguments: Any, calls: int = 1) -> int:
    """Memory that a call of a compiled program needs beyond its arguments and its result.

    On a CPU it is measured, see :func:`peak_extra_bytes`, as the peak of ``calls`` calls: how many parts of a
    program run at once, each with its memory, is chance. Elsewhere it is what the compiler has planned, as a
    device's peak cannot be set back to what it was before the call.
    """
    if jax.default_backend() != "cpu":
        return planned_extra_bytes(compiled)

    def called() -> Any:
        for _ in range(calls):
            result = jax.block_until_ready(compiled(*arguments))
        return result

    return peak_extra_bytes(called)[0]


def planned_extra_bytes(compiled: Compiled) -> int:
    """What the compiler has planned for a program beyond its arguments and its result."""
    analysis: Any = compiled.memory_analysis()
    kept = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    # libtpu gives the first as 0 for a program that is mostly a loop, CPUs leave it out of the second.
    return max(analysis.temp_size_in_bytes, analysis.peak_memory_in_bytes - kept)


def peak_extra_bytes(function: Callable[[], Any]) -> tuple[int, Any]:
    """Most memory in use during one call, above that before it and without its result; and the result.

    Of the device where it counts that (an accelerator), else resident memory. Meant for a fresh process, with the
    arguments made and the function compiled: memory that an earlier call has freed but not given back would hide
    the need of this one, and an earlier peak on an accelerator would be taken for this call's.
    """
    before = _bytes_in_use()
    result = jax.block_until_ready(function())
    kept = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(result))
    return _peak_bytes() - before - kept, result


def _bytes_in_use() -> int:
    """At present; on Linux the peak of the resident memory is forgotten as well."""
    if counted := jax.local_devices()[0].memory_stats():
        return counted["bytes_in_use"]
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    return _status_bytes("VmRSS")


def _peak_bytes() -> int:
    if counted := jax.local_devices()[0].memory_stats():
        return counted["peak_bytes_in_use"]
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    """A field of /proc/self/status, which counts in KiB."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def in_fresh_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run ``python -m module arguments`` and parse the last line it prints as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])
