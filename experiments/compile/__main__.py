"""Compile the programs of both experiments for a TPU slice, on a machine without one, and say what they need."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import jax
from tyro.conf import arg

from experiments.compile.chips import CHIPS, slice_devices
from experiments.compile.cost import program_cost
from experiments.compile.programs import PROGRAMS
from experiments.compile.report import describe
from experiments.harness.command_line import one_line_errors, parse
from experiments.harness.settings import choices, require_different
from experiments.harness.tables import Table, print_table
from experiments.storage import write_json
from experiments.training.precision import COMPUTE_DTYPES, require_compute_dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compile:
    """Compile ahead of time, and report memory, collectives, arithmetic and their least times, of one device."""

    topology: str = "v5e:2x2"
    """Generation and shape of the slice, such as v5e:4x8 or v4:2x2x4."""
    programs: Annotated[tuple[str, ...], arg(help=f"Which, of {choices(PROGRAMS)}.")] = ("lenet", "sweep_lenet")
    compute_dtype: Annotated[str, arg(help=f"What the layers compute in, one of {', '.join(COMPUTE_DTYPES)}.")] = (
        "float32"
    )
    effort: float = -1.0
    """Of the compiler, from -1 to 1: less is several times quicker, with nearly the same memory."""
    out: Path | None = None
    """File for the numbers, as JSON."""

    def run(self) -> None:
        """Compile one after the other, and print a table."""
        require_different("--programs", self.programs)
        if unknown := [name for name in self.programs if name not in PROGRAMS]:
            raise ValueError(f"--programs must be of {choices(PROGRAMS)}, got {unknown[0]!r}")
        require_compute_dtype(self.compute_dtype)
        if not -1 <= self.effort <= 1:
            raise ValueError(f"--effort must lie in [-1, 1], got {self.effort}")
        devices = slice_devices(self.topology)
        jax.config.update("jax_platforms", "cpu")  # of what runs here, to find shapes
        jax.config.update("jax_exec_time_optimization_effort", self.effort)
        rows = [self._compiled(name, devices) for name in self.programs]
        if self.out is not None:
            about = {"topology": self.topology, "devices": len(devices), "compute_dtype": self.compute_dtype}
            write_json(self.out, about | {"programs": rows})
        print_table(f"{self.topology}, {len(devices)} devices, {self.compute_dtype}; of one device", _table(rows))

    def _compiled(self, name: str, devices: Sequence[jax.Device]) -> dict[str, Any]:
        print(f"{name}: compiling for {len(devices)} devices", file=sys.stderr, flush=True)
        program = dataclasses.replace(PROGRAMS[name], compute_dtype=self.compute_dtype)
        function, arguments = program(devices)
        start = time.monotonic()
        # What is chosen by the platform, such as the size of a block, is chosen as it would be there.
        with mock.patch.object(jax, "default_backend", return_value="tpu"):
            cost = program_cost(jax.make_jaxpr(function)(*arguments).jaxpr)
            lowered = function.lower(*arguments)
        compiled = lowered.compile()
        seconds = round(time.monotonic() - start, 1)
        chip = CHIPS[self.topology.partition(":")[0]]
        return {
            "program": name,
            **describe(compiled, cost, chip),
            "compile_seconds": seconds,
        }


_SIZES = ("argument", "aliased", "temporary", "peak", "accessed")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    header = [
        "program", "arguments", "aliased", "temporary", "peak", "accessed", "of memory", "collectives", "loops",
        "FLOP", "arithmetic", "memory", "precisions", "compiled in",
    ]  # fmt: skip
    return header, [_line(row) for row in rows]


def _line(row: dict[str, Any]) -> list[str]:
    sizes = [f"{row[f'{name}_bytes'] / 2**20:,.1f} MiB" for name in _SIZES]
    collectives = [
        f"{found['count']} {kind} ({found['bytes'] / 2**20:.1f} MiB)" for kind, found in row["collectives"].items()
    ]
    precisions = [f"{count} {name}" for name, count in row["precisions"].items()]
    return [
        row["program"], *sizes, f"{row['peak_bytes'] / row['hbm_bytes']:.1%}", ", ".join(collectives) or "none",
        str(row["loops"]), f"{row['flops']:.3g}", f"{1000 * row['arithmetic_seconds']:.3g} ms",
        f"{1000 * row['memory_seconds']:.3g} ms", ", ".join(precisions), f"{row['compile_seconds']:.0f} s",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; mistakes are one line."""
    with one_line_errors():
        parse(
            Compile, sys.argv[1:] if arguments is None else arguments, prog="python -m experiments.compile"
        ).run()


if __name__ == "__main__":
    main()
