"""The directory of a run: made for one identity, and refused to any other."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from experiments.locks import locked
from experiments.storage import read_json, remove, require_writable, write_json, write_text
from experiments.training.agreement import differences, fail_at_once, from_all, require_same
from experiments.training.devices import is_alone, is_main_process, wait_for_all

CONFIG = "config.json"
SAME = "start the same command on each, with the same data"
SHARE = "--out must be on storage that all processes share"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory and what it is of.

    Args:
        path: made by :meth:`prepare`.
        experiment: whose run it is.
        identity: the settings and checksums that make the result what it is, as plain values.
        products: files and directories that a run makes in it.
    """

    path: epath.Path
    experiment: str
    identity: Mapping[str, Any]
    products: tuple[str, ...]

    def check(self, *, force: bool = False) -> None:
        """See that the directory is free, or of the same identity; nothing is made.

        Args:
            force: whether a run of another identity will be replaced.

        Raises:
            ValueError: if it holds another run, or files that no run of ours made.
        """
        if (self.path / "result.json").exists() and not (self.path / CONFIG).exists():
            raise ValueError(f"{self.path} holds a result, not a run; choose another --out")
        if not (self.path / CONFIG).exists():
            if found := [name for name in self.products if (self.path / name).exists()]:
                raise ValueError(
                    f"{self.path} has {found[0]} but no {CONFIG}, so that nothing says what it is of; choose"
                    " another --out, or move it away"
                )
            return
        there = read_config(self.path, self.experiment)["identity"]
        if not force:
            self._require_same(there, "choose another --out, or start over with --force")

    def require_own(self) -> None:
        """Raise ``ValueError`` unless the directory holds a run of this identity."""
        there = read_config(self.path, self.experiment)["identity"]
        self._require_same(there, "give the data that it was trained on")

    def _require_same(self, there: Mapping[str, Any], advice: str) -> None:
        for name, one, other in differences(there, self.identity):
            raise ValueError(
                f"{self.path / CONFIG} is of another configuration ({name} is {one!r} there, {other!r} here);"
                f" {advice}"
            )

    def prepare(self, settings: Mapping[str, Any], *, force: bool = False) -> None:
        """Make the directory with its ``config.json``.

        Args:
            settings: from which the run can be opened again, beside the identity.
            force: remove what an earlier run of ours made.

        Raises:
            ValueError: as :meth:`check`, or if not every process sees the directory, or is of the same identity.
            OSError: if it cannot be written to.
        """
        self.check(force=force)
        require_same({"identity": self.identity}, SAME)
        self._require_seen_by_all()  # and no process still reads what is there
        if is_main_process():
            require_writable(self.path)
            if force and (self.path / CONFIG).exists():
                for name in (*self.products, CONFIG):
                    remove(self.path / name)
            config = {"experiment": self.experiment, "identity": self.identity, "settings": settings}
            if not (self.path / CONFIG).exists() or read_json(self.path / CONFIG) != config:
                write_json(self.path / CONFIG, config)
        wait_for_all("prepared --out")

    def _require_seen_by_all(self) -> None:
        """Raise ``ValueError`` unless what the first process writes is there for all others."""
        if is_alone():
            return
        path = self.path / f".seen-{from_all(os.urandom(8).hex())[0]}"
        if is_main_process():
            write_text(path, "")
        wait_for_all("wrote to --out")
        try:
            require_same({"whether what process 0 wrote to --out is there": path.exists()}, SHARE)
        finally:
            if is_main_process():
                remove(path)


def require_place(directory: epath.Path) -> None:
    """Make a directory for results; ``OSError`` on the first process if no file can be written in it."""
    if is_main_process():  # two that try at once would each find the other's file gone
        require_writable(directory)


@contextlib.contextmanager
def held(directory: epath.Path) -> Iterator[None]:
    """Keep a directory to this process, or to those that it works with, for the time of the context.

    Raises:
        ValueError: if another one holds it.
    """
    with locked(directory, lost=fail_at_once) if is_main_process() else contextlib.nullcontext():
        yield


def read_config(directory: epath.Path, experiment: str) -> dict[str, Any]:
    """The ``config.json`` of a run of this experiment.

    Raises:
        ValueError: if the directory holds none, or one of something else.
    """
    path = directory / CONFIG
    if not path.exists():
        raise ValueError(f"{directory} holds no run of {experiment}: it has no {CONFIG}")
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; move {directory} away, or choose another --out") from error
    is_ours = all(isinstance(values.get(name), dict) for name in ("identity", "settings"))
    if not is_ours or values.get("experiment") != experiment:
        raise ValueError(f"{path} is not the config of a run of {experiment}; choose another directory")
    return values
