"""What a run is of, as the harness sees it: a network with all that it takes to train it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from experiments.training.phase import Phase

PhaseMaker = Callable[[Any], Phase]  # from the parameters (host values) that the phase before it ended with


class Subject(Protocol):
    """What a run is of: a network with all that it takes to train it."""

    @property
    def experiment(self) -> str:
        """Name of the experiment."""

    @property
    def label(self) -> str:
        """Short name, for the progress."""

    @property
    def group(self) -> str:
        """Name of what it is one seed of, in figures and tables."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values from which it can be made again."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain values that make the trained network what it is: settings, and checksums of data.

        How long a phase is belongs here only where its schedule depends on that; else a run can be made longer.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """The first columns of its row in a table, one of them ``seed``."""

    def check(self) -> None:
        """Raise ``ValueError`` if the settings do not fit the data, the devices or each other."""

    def phases(self) -> Mapping[str, PhaseMaker]:
        """What is trained, one after the other; the first maker gets ``None``; further ones may have no epochs."""
