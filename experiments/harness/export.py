"""A trained network taken out of its run: its variables as msgpack and as npz, and the lines that load them."""

import types
from collections.abc import Mapping
from typing import Any

import flax.serialization
import jax
import numpy as np
from etils import epath

from experiments.storage import write_arrays, write_bytes, write_text
from experiments.training.devices import is_main_process


def export(
    variables: dict[str, Any],
    directory: epath.Path,
    lines: str,
    *,
    texts: Mapping[str, str] = types.MappingProxyType({}),
) -> None:
    """Write ``variables.msgpack``, ``variables.npz`` (an array for each path) and ``load.py``; on one process.

    Args:
        variables: what the flax module is applied to, as host values.
        directory: made if missing.
        lines: Python that loads them from the directory that it lies in, and applies them.
        texts: further files, by name.
    """
    if not is_main_process():
        return
    write_bytes(directory / "variables.msgpack", flax.serialization.to_bytes(variables))
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    paths = ("/".join(str(getattr(key, "key", key)) for key in path) for path, _ in flat)
    write_arrays(
        directory / "variables.npz", {path: np.asarray(leaf) for path, (_, leaf) in zip(paths, flat, strict=True)}
    )
    for name, text in texts.items():
        write_text(directory / name, text)
    write_text(directory / "load.py", _NEEDED + lines)
    files = ", ".join(["variables.msgpack", "variables.npz", *texts])
    print(f"wrote {files} and load.py to {directory}; load.py says:\n\n{_NEEDED}{lines}", end="")


_NEEDED = "# Needs the package experiments: the repository's root in PYTHONPATH.\n"
