"""Whether two directories of runs hold the same: every bit but for the seconds that things took."""

import json
import re

import jax
import numpy as np
import orbax.checkpoint as ocp

_SECONDS = re.compile("second")  # the seconds of an epoch or an evaluation, and units per second


def differences(found, wanted):
    """What of one directory is not as in the other, a line each.

    All files are compared by their bytes, but for these: ``provenance.json`` says when and how, and need only be
    there; of ``metrics.jsonl`` and ``numbers.json`` the seconds may differ; of checkpoints the newest of each
    directory is restored and compared by its values and dtypes, as its files have random names, and which one is
    kept before it depends on when a run was interrupted.

    Args:
        found, wanted: directories, local or in a bucket.
    """
    names = [sorted(file_names(each)) for each in (found, wanted)]
    lines = [f"{name} is missing" for name in names[1] if name not in names[0]]
    lines += [f"{name} is too much" for name in names[0] if name not in names[1]]
    both = [name for name in names[1] if name in names[0]]
    return lines + [f"{name} differs" for name in both if not _is_same(found, wanted, name)]


def file_names(directory, prefix=""):
    """The names of all files below, and of the directories of checkpoints."""
    for path in directory.iterdir():
        name = f"{prefix}{path.name}"
        if path.is_dir() and path.name not in ("checkpoints", "best"):
            yield from file_names(path, f"{name}/")
        else:
            yield name


def _is_same(found, wanted, name):
    one, other = found / name, wanted / name
    if one.is_dir():
        return one.is_dir() == other.is_dir() and _is_same_checkpoint(_newest(one), _newest(other))
    if one.name == "provenance.json":
        return True
    if one.name == "metrics.jsonl":
        return _lines(one) == _lines(other)
    if one.name == "numbers.json":
        return _timeless(json.loads(one.read_text())) == _timeless(json.loads(other.read_text()))
    return one.read_bytes() == other.read_bytes()


def _lines(path):
    return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]


def _timeless(value):
    """Without what says how long something took."""
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if not _SECONDS.search(name)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _newest(directory):
    steps = [path for path in directory.iterdir() if path.name.isdecimal()]
    return max(steps, key=lambda path: int(path.name), default=None)


def _is_same_checkpoint(one, other):
    if one is None or other is None or one.name != other.name:
        return one is other
    (first, position), (second, wanted) = map(_checkpoint, (one, other))
    if jax.tree.structure(first) != jax.tree.structure(second) or position != wanted:
        return False
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def _checkpoint(path):
    """The arrays of a checkpoint, and what else it says but for seconds: its position and its checksums."""
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        arrays = jax.tree.map(np.asarray, reader.restore(path / "state"))
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return arrays, _timeless(reader.restore(path / "position")["record"])


def newest_steps(directory):
    """The step of the newest checkpoint of each phase below a directory, by the name of what holds it."""
    found = {}
    for name in sorted(file_names(directory)):
        if name.endswith("checkpoints") and (newest := _newest(directory / name)) is not None:
            found[name.removesuffix("checkpoints").rstrip("/")] = int(newest.name)
    return found
