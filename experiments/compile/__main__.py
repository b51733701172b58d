"""Compile the programs of both experiments for TPU slices, on a machine without one, and say what they need."""

import dataclasses
import itertools
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
from experiments.compile.report import describe, table
from experiments.harness.command_line import parse
from experiments.harness.mistakes import one_line_errors
from experiments.harness.settings import choices, flag, require_different, to_json, without_places
from experiments.harness.tables import print_table
from experiments.storage import read_json, write_json
from experiments.training.precision import COMPUTE_DTYPES, require_compute_dtype

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compile:
    """Compile ahead of time, and report memory, collectives, arithmetic and their least times, of one device."""

    topology: tuple[str, ...] = ("v5e:2x2",)
    """Generation and shape of each slice, such as v5e:4x8 or v4:2x2x4."""
    programs: Annotated[tuple[str, ...], arg(help=f"Which, of {choices(PROGRAMS)}.")] = ("lenet", "sweep_lenet")
    compute_dtype: Annotated[
        tuple[str, ...], arg(help=f"What the layers compute in, one or both of {', '.join(COMPUTE_DTYPES)}.")
    ] = ("float32",)
    effort: float = -1.0
    """Of the compiler, from -1 to 1: less is several times quicker, with nearly the same memory. From JAX 0.12 on
    the nearest of its levels O0 to O3."""
    out: Path | None = None
    """File for the numbers, as JSON; what it holds already, made by the same versions, is not made again."""

    def run(self) -> None:
        """Compile one after the other, and print a table."""
        slices = self._checked()
        # Of several lines, one for the kind of chip, the last says which compiler it is.
        compiler = next(iter(slices.values()))[0].client.platform_version.splitlines()[-1]
        versions = {"jax": jax.__version__, "compiler": compiler}
        known, rows = self._known(versions), []
        jax.config.update("jax_platforms", "cpu")  # of what runs here, to find shapes
        _set_effort(self.effort)
        for topology, name, dtype in itertools.product(self.topology, self.programs, self.compute_dtype):
            facts = {"slice": topology, "program": name, "compute_dtype": dtype}
            found = next((row for row in known if facts.items() <= row.items()), None)
            rows.append(found or facts | _compiled(facts, slices[topology]))
            if self.out is not None:
                write_json(self.out, self._result(versions, rows + [row for row in known if row not in rows]))
        if self.out is not None:
            write_json(self.out, self._result(versions, rows))
        print_table("of one device", table(rows))

    def _checked(self) -> dict[str, list[jax.Device]]:
        """The devices of each slice.

        Raises:
            ValueError: for settings that do not fit.
        """
        for name in ("topology", "programs", "compute_dtype"):
            require_different(flag(name), getattr(self, name))
        if unknown := [name for name in self.programs if name not in PROGRAMS]:
            raise ValueError(f"--programs must be of {choices(PROGRAMS)}, got {unknown[0]!r}")
        for dtype in self.compute_dtype:
            require_compute_dtype(dtype)
        if not -1 <= self.effort <= 1:
            raise ValueError(f"--effort must lie in [-1, 1], got {self.effort}")
        return {topology: slice_devices(topology) for topology in self.topology}

    def _known(self, versions: dict[str, str]) -> list[Row]:
        """What the file holds of the same compiler and effort."""
        if self.out is None or not self.out.exists():
            return []
        result = read_json(self.out)
        if result.get("experiment") != "compile":
            raise ValueError(f"--out {self.out} is not a result of experiments.compile; choose another")
        is_same = result["versions"] == versions and result["settings"]["effort"] == self.effort
        return result["rows"] if is_same else []

    def _result(self, versions: dict[str, str], rows: list[Row]) -> dict[str, Any]:
        return {
            "experiment": "compile", "command": "compile", "settings": without_places(to_json(self)),
            "versions": versions, "rows": rows,
            "comparisons": {"programs": {"tables": {"of one device": table(rows)}}},
        }  # fmt: skip


def _set_effort(effort: float) -> None:
    name = "jax_exec_time_optimization_effort"
    if name in jax.config.values:
        jax.config.update(name, effort)
    else:
        jax.config.update("jax_optimization_level", f"O{round(1.5 * (effort + 1))}")


def _compiled(facts: dict[str, str], devices: Sequence[jax.Device]) -> Row:
    """Lower and compile one program for these devices, and describe it."""
    name, dtype = facts["program"], facts["compute_dtype"]
    where = f"the {len(devices)} devices of {facts['slice']}"
    print(f"{name}, {dtype}: compiling for {where}", file=sys.stderr, flush=True)
    program = dataclasses.replace(PROGRAMS[name], compute_dtype=dtype)
    function, arguments = program(devices)
    start = time.monotonic()
    # What is chosen by the platform, such as the size of a block, is chosen as it would be there.
    with mock.patch.object(jax, "default_backend", return_value="tpu"):
        cost = program_cost(jax.make_jaxpr(function)(*arguments).jaxpr)
        lowered = function.lower(*arguments)
    compiled = lowered.compile()
    seconds = round(time.monotonic() - start, 1)
    chip = CHIPS[facts["slice"].partition(":")[0]]
    return {"devices": len(devices), **describe(compiled, cost, chip), "compile_seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; mistakes are one line."""
    with one_line_errors():
        parse(
            Compile, sys.argv[1:] if arguments is None else arguments, prog="python -m experiments.compile"
        ).run()


if __name__ == "__main__":
    main()
