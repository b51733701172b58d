"""A subject for the tests of runs: a toy that is trained and then fine-tuned, and an evaluation of it."""

import dataclasses

import numpy as np

from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.stored import Measured
from experiments.training.phase import Phase
from tests.training import toy


@dataclasses.dataclass(frozen=True)
class Toy:
    rate: float = 0.05
    epochs: int = 2
    finetune_epochs: int = 1
    seed: int = 0
    finetune_rate: float = 0.05

    experiment = "toy"

    @property
    def label(self):
        return f"toy {self.rate:g}, seed {self.seed}"

    @property
    def group(self):
        return f"{self.rate:g}"

    @property
    def settings(self):
        return dataclasses.asdict(self)

    @property
    def identity(self):
        return {"rate": self.rate, "seed": self.seed, "nested": {"width": 3}}

    @property
    def facts(self):
        return {"rate": self.rate, "seed": self.seed}

    def check(self):
        if self.rate <= 0:
            raise ValueError(f"rate must be positive, got {self.rate}")

    def phases(self):
        phases = {"base": self._phase(self.epochs, "train", self.rate)}
        if self.finetune_epochs:
            own = {"finetune_rate": self.finetune_rate}
            phases["finetune"] = self._phase(self.finetune_epochs, "tune", self.finetune_rate, own)
        return phases

    def _phase(self, epochs, name, rate, own=None):
        return lambda params: Phase(
            _task(rate), toy.DATA, epochs, self.seed, label=f"{name} {self.label}", initial_params=params,
            own=own or {},
        )  # fmt: skip


TASKS = {}


def _task(rate):
    return TASKS.setdefault(rate, toy.make_task(rate=rate))


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of the evaluation."""

    order: int = 2
    """Of the norm."""
    parts: tuple[int, ...] = (0, 1, 2)
    """Which weights."""


def make_evaluation(measured=None, **changes):
    """The norm of some weights, part by part; ``measured`` gets each part."""

    def measure(trained, settings, partial):
        done = partial.read()
        for part in settings.parts:
            if str(part) not in done:
                if measured is not None:
                    measured.append(part)
                done[str(part)] = np.abs(trained.params["w"][part]) ** settings.order
                partial.write(**done)
        total = sum(float(done[str(part)]) for part in settings.parts)
        return Measured({"norm": total ** (1 / settings.order), "parts": settings.parts}, done)

    def check(subject, settings):
        if settings.order < 1:
            raise ValueError(f"--norm.order must be at least 1, got {settings.order}")

    fields = {
        "measure": measure,
        "settings": Norm(),
        "data": lambda trained, settings: "no data",
        "check": check,
        "cells": lambda numbers: {"norm": Cell(numbers["norm"], "a note")},
        "products": lambda group: {"norm.txt": "".join(f"{name} {len(each)}\n" for name, each in group.items())},
    }
    return Evaluation(**fields | changes)
