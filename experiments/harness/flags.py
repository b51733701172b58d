"""The flags of a command line as they were written: those without a value, and those left aside."""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

Flags = frozenset[str]  # such as "--fourier.batch-size"


def given_flags(arguments: Iterable[str]) -> Flags:
    """The flags among the words of a command line, as ``--help`` spells them, without their values."""
    words = (word.partition("=")[0] for word in arguments if word.startswith("--"))
    return frozenset(word.replace("_", "-") for word in words)


def require_values(command: Any, arguments: Sequence[str]) -> None:
    """Raise ``ValueError`` for a flag of several values that was given none, which might stand for its default.

    Args:
        command: what the arguments were parsed to.
        arguments: of the command line.
    """
    empty = set(_empty(command))
    for word, following in itertools.pairwise([*arguments, "--"]):
        name = word.rpartition(".")[2].removeprefix("--").replace("-", "_")
        if word.startswith("--") and following.startswith("--") and name in empty:
            raise ValueError(f"{word} must be followed by at least one value, got none")


def _empty(value: Any) -> Iterator[str]:
    """The names of all fields, of whatever lies within as well, that hold no values."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if inner == ():
            yield field.name
        elif dataclasses.is_dataclass(inner):
            yield from _empty(inner)


def require_made(flags: Flags, table: Collection[str], made: Collection[str]) -> None:
    """Raise ``ValueError`` for a flag ``--NAME.FIELD`` of an evaluation that is not made.

    Args:
        flags: that were given.
        table: the names of all evaluations.
        made: of those that are made.
    """
    for flag in sorted(flags):
        name, dot, _ = flag.removeprefix("--").replace("-", "_").partition(".")
        if dot and name in table and name not in made:
            raise ValueError(f"{flag} needs the evaluation {name}, got {', '.join(made)}")
