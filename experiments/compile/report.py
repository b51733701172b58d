"""What is said of a compiled program: memory, collectives, loops, arithmetic, and the time these take at least."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from experiments.compile.chips import Chip
from experiments.compile.cost import Cost
from experiments.harness.tables import Table

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {"pred": 1, "s4": 1, "u4": 1, "bf16": 2, "c64": 8, "c128": 16}


def describe(compiled: Any, cost: Cost, chip: Chip) -> dict[str, Any]:
    """Plain numbers of one device.

    Args:
        compiled: as ``lower(...).compile()`` gives it.
        cost: of the program that was lowered.
        chip: that it was compiled for.
    """
    memory, text = compiled.memory_analysis(), compiled.as_text()
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": memory.peak_memory_in_bytes,
        "hbm_bytes": chip.hbm_bytes,
        "collectives": collectives(text),
        "loops": len(re.findall(r"= \S.*? while\(", text)),
        "flops": cost.flops,
        "product_bytes": cost.bytes,
        "accessed_bytes": int(compiled.cost_analysis()["bytes accessed"]),  # a loop's once
        "unknown_loops": cost.unknown_loops,
        "precisions": dict(cost.precisions),
        "arithmetic_seconds": cost.flops / chip.flops,
        "memory_seconds": cost.bytes / chip.bandwidth,
    }


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Count and bytes of each kind of collective in the text of a compiled program; those in a loop once.

    Example:
        >>> line = "  %r = (f32[4,8]{1,0}, bf16[2]{0}) all-reduce(%a, %b), channel_id=1"
        >>> collectives(line)
        {'all-reduce': {'count': 1, 'bytes': 132}}
    """
    found: dict[str, dict[str, int]] = {}
    for kind in COLLECTIVES:
        # "-start" has the operands beside the results; the result is what "-done" gives.
        for match in re.finditer(rf"= (.+?) {kind}(-done)?\(", text):
            entry = found.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += 1
            entry["bytes"] += _bytes_of(match[1])
    return found


_SIZES = ("argument", "aliased", "temporary", "peak", "accessed")


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each program: where and in what it computes, and its numbers of :func:`describe`."""
    header = [
        "slice", "devices", "program", "computes in", "arguments", "aliased", "temporary", "peak", "accessed",
        "of memory", "collectives", "loops", "FLOP", "arithmetic", "memory", "precisions", "compiled in",
    ]  # fmt: skip
    return header, [_line(row) for row in rows]


def _line(row: Mapping[str, Any]) -> list[str]:
    sizes = [f"{row[f'{name}_bytes'] / 2**20:,.1f} MiB" for name in _SIZES]
    found = [
        f"{each['count']} {kind} ({each['bytes'] / 2**20:.1f} MiB)" for kind, each in row["collectives"].items()
    ]
    precisions = [f"{count} {name}" for name, count in row["precisions"].items()]
    return [
        row["slice"], str(row["devices"]), row["program"], row["compute_dtype"], *sizes,
        f"{row['peak_bytes'] / row['hbm_bytes']:.1%}", ", ".join(found) or "none", str(row["loops"]),
        f"{row['flops']:.3g}", f"{1000 * row['arithmetic_seconds']:.3g} ms",
        f"{1000 * row['memory_seconds']:.3g} ms", ", ".join(precisions), f"{row['compile_seconds']:.0f} s",
    ]  # fmt: skip


def _bytes_of(shapes: str) -> int:
    """Of all arrays in a type such as ``(f32[4,8]{1,0}, s32[])``."""
    total = 0
    for kind, sizes in re.findall(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]", shapes):
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += count * (_BYTES.get(kind) or _itemsize(kind))
    return total


def _itemsize(kind: str) -> int:
    names = {"f": "float", "s": "int", "u": "uint"}
    return jnp.dtype(names[kind[0]] + kind[1:]).itemsize
