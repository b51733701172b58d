"""The table of items: whoever adds an entry has it worked on."""

import dataclasses
import functools
from typing import Any

from benchmarks.accelerator import block_sizes, images, language_models, library_tests
from benchmarks.accelerator.work import Call, Item, Pieces
from benchmarks.table import BENCHMARKS, load


def benchmark_pieces(call: Call) -> Pieces:
    """A piece for each benchmark: its rows with their bars."""
    return {name: functools.partial(_rows, name, call.tiny) for name in BENCHMARKS}


def _rows(name: str, tiny: bool) -> list[dict[str, Any]]:
    return [dataclasses.asdict(row) | {"holds": row.holds} for row in load(name)(tiny)]


# In the order in which they are worked on: what says most in least time is first.
ITEMS: dict[str, Item] = {
    "library_tests": library_tests.pieces,
    "benchmarks": benchmark_pieces,
    "block_sizes": block_sizes.pieces,
    "images": images.pieces,
    "language_models": language_models.pieces,
}
