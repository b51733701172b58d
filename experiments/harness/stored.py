"""What was measured, on disk, a directory for each key; and the parts of what is being measured."""

import hashlib
import json
import sys
import time
import types
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from experiments.harness.directory import SAME
from experiments.harness.figures import write_products
from experiments.storage import plain, read_arrays, read_json, remove, write_arrays, write_json
from experiments.training.agreement import require_same
from experiments.training.devices import is_main_process, wait_for_all
from experiments.training.requests import stop_if_asked


class Measured(NamedTuple):
    """What an evaluation gave.

    Args:
        numbers: plain values, for ``result.json``; the same whenever the same run is measured again.
        arrays: what figures need besides.
        seconds: that it took.
    """

    numbers: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = types.MappingProxyType({})
    seconds: float = 0.0


class StoredArrays(Mapping[str, np.ndarray]):
    """The arrays of a file, each read whenever it is looked at: those of many runs need not be in memory at once.

    Args:
        path: of the npz file.
        names: of its arrays.
    """

    def __init__(self, path: epath.Path, names: Iterable[str]) -> None:
        self._path, self._names = path, tuple(names)

    def __getitem__(self, name: str) -> np.ndarray:
        """Read one of them."""
        if name not in self._names:
            raise KeyError(name)
        return read_arrays(self._path, [name])[name]

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)


class Partial:
    """The arrays that an evaluation has so far, on disk until it is done.

    Args:
        path: their file.
        key: what they are of; those of anything else are not read.
    """

    def __init__(self, path: epath.Path, key: Mapping[str, Any]) -> None:
        self._path, self._key = path, np.asarray(json.dumps(key, sort_keys=True))

    def read(self) -> dict[str, np.ndarray]:
        """What was written last, or nothing."""
        if not self._path.exists():
            return {}
        try:
            arrays = read_arrays(self._path)
        except ValueError as error:
            print(f"{error}; begun anew", file=sys.stderr)
            return {}
        return arrays if str(arrays.pop("key", None)) == str(self._key) else {}

    def write(self, **arrays: np.ndarray) -> None:
        """Keep these arrays, in place of those written before; on the first process.

        Raises:
            Interrupted: if a signal has asked to stop.
        """
        if is_main_process():
            write_arrays(self._path, {**arrays, "key": self._key})
        stop_if_asked(f"the parts of {self._path.parents[1].name} that are done are kept")


class Stored:
    """Something measured, in a directory of its key: numbers.json, arrays.npz, figures; partial.npz until then.

    What is measured by one key leaves alone what was measured, or begun, by another.

    Args:
        directory: of it, under its name; gets a directory for each key, named by :func:`digest`.
        key: plain values that decide whether what is stored is used again.
    """

    def __init__(self, directory: epath.Path, key: Mapping[str, Any]) -> None:
        self._name, self._key = directory.name, plain(key)
        self._directory = directory / digest(self._key)

    def measured(
        self, measure: Callable[[Partial], Measured], products: Callable[[Measured], Mapping[str, Any]]
    ) -> Measured:
        """What is stored, or else measured now.

        Args:
            measure: gives it; goes on from the partial arrays if there are any.
            products: ``measured -> {file name: figure or text}``, written beside it.

        Returns:
            Its numbers, and its arrays on the disk.

        Raises:
            Interrupted: if a signal has asked to stop.
        """
        stop_if_asked(f"what was measured before {self._name} is kept")  # all processes are here
        found = self._read()
        require_same({self._name: {"of": self._key, "is measured": found is not None}}, SAME)
        if found is not None:
            return found
        partial = Partial(self._directory / "partial.npz", self._key)
        start = time.monotonic()
        measured = measure(partial)
        seconds = round(time.monotonic() - start, 3)
        # As they will be read again: lists for tuples, strings for keys.
        measured = measured._replace(numbers=plain(measured.numbers), seconds=seconds)
        if is_main_process():
            self._write(measured, products(measured))
        wait_for_all(f"stored {self._name}")  # before others read it
        return measured._replace(arrays=StoredArrays(self._directory / "arrays.npz", measured.arrays))

    def _write(self, measured: Measured, products: Mapping[str, Any]) -> None:
        write_arrays(self._directory / "arrays.npz", measured.arrays)
        write_products(self._directory, products)
        values = {"key": self._key, "numbers": measured.numbers, "seconds": measured.seconds}
        write_json(self._directory / "numbers.json", values)  # last, as it is what vouches for the rest
        remove(self._directory / "partial.npz")

    def _read(self) -> Measured | None:
        """What is stored, if it is of the same key; ``None``, and a line, if it is damaged."""
        path = self._directory / "numbers.json"
        if not path.exists():
            return None
        try:
            values = read_json(path)
            if missing := [name for name in ("key", "numbers", "seconds") if name not in values]:
                raise ValueError(f"{path} is damaged: it has no {missing[0]}")
            if values["key"] != self._key:
                raise ValueError(f"{path} is of another key than its directory")
            path = self._directory / "arrays.npz"
            arrays = StoredArrays(path, read_arrays(path))  # read once as a whole, to see that it is
            return Measured(values["numbers"], arrays, values["seconds"])
        except ValueError as error:
            print(f"{self._directory} is measured anew: {error}", file=sys.stderr)
            return None


def digest(key: Any) -> str:
    """Eight hexadecimal digits that tell one key, of plain values, from another (of its SHA-256)."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]


def checksum(tree: Any) -> str:
    """Eight hexadecimal digits that tell one tree of arrays from another (CRC-32), names and shapes included."""
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found = zlib.crc32(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(array.tobytes(), found)
    return f"{found:08x}"
