"""The directory of a run: made for one configuration, and refused to any other."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.training.devices import is_main_process, wait_for_all
from experiments.storage import read_json, write_json

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory and what it is of.

    Args:
        path: made by :meth:`prepare`.
        identity: the settings and checksums that make the run what it is.
        ignored: settings in ``config.json`` that may differ.
    """

    path: Path
    identity: dict[str, Any]
    ignored: Sequence[str] = ()

    def prepare(self, config: dict[str, Any], *, force: bool, products: Sequence[str]) -> None:
        """Make the directory with its ``config.json``, or see that the one there is of the same identity.

        Args:
            config: all settings, written together with the identity.
            force: remove the ``products`` of an earlier run instead of comparing.
            products: files and directories that a run makes.

        Raises:
            ValueError: if the directory was written with another identity.
        """
        if force:
            if is_main_process():
                for name in (*products, CONFIG):
                    _remove(self.path / name)
        elif (self.path / CONFIG).exists():
            self.require_same()
        wait_for_all(f"compared {self.path}")  # before the file is written anew under the others' eyes
        if is_main_process():
            write_json(self.path / CONFIG, config | self.identity)
        wait_for_all(f"prepared {self.path}")

    def require_same(self) -> None:
        """Raise ``ValueError`` if the directory's config.json is of another run."""
        path = self.path / CONFIG
        found = {name: value for name, value in read_json(path).items() if name not in self.ignored}
        for name, there, here in _differences(found, self.identity):
            raise ValueError(
                f"{path} is of another configuration ({name} is {there!r} there, {here!r} here);"
                " choose another --out, or start over with --force"
            )


def require_finished(directory: Path, epochs_done: int, epochs: int) -> None:
    """Raise ``ValueError`` unless all epochs were trained."""
    if epochs_done < epochs:
        raise ValueError(
            f"the network in {directory} has finished {epochs_done} of {epochs} epochs; repeat the"
            " command that trained it first"
        )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The settings that differ, by dotted names where they are nested, with their two values."""
    for name in sorted(there.keys() | here.keys()):
        one, other = there.get(name), here.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from ((f"{name}.{inner}", *values) for inner, *values in _differences(one, other))
        elif one != other:
            yield name, one, other


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
