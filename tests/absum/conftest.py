"""A little data set, a narrow network, and one comparison that the tests look at and copy."""

import contextlib
import dataclasses
import functools
import io
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from jax import monitoring

from experiments.absum import models
from experiments.absum.__main__ import main
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.evaluations.fourier import FOURIER
from experiments.absum.models import MODELS, LeNet, Model
from experiments.data import image_sets
from experiments.data.images import load_images
from experiments.data.source_files import EMBEDDED
from tests.absum import own
from tests.absum.settings import ATTACK, COMPARE, SMALL


def image_set(splits):
    """An entry of the table whose arrays are already there."""
    files = {image_sets.EMBEDDED_FILE: [image_sets.EMBEDDED_FILE]}
    return image_sets.ImageFiles(lambda paths: splits, files, num_classes=10, included=EMBEDDED)


@pytest.fixture(scope="session")
def splits():
    """The embedded images, cut to 160 of 16x16 pixels: 130 frequencies."""
    whole = load_images("embedded")
    images, test_images = whole.train_images[:160, 6:22, 6:22], whole.test_images[:40, 6:22, 6:22]
    return images, whole.train_labels[:160], test_images, whole.test_labels[:40]


@contextlib.contextmanager
def entries(splits):
    """One entry more in the tables of data and models, no evaluation but two by default, cheap random numbers."""
    narrow = Model(functools.partial(LeNet, features=(2, 3, 8)), MODELS["lenet"].strengths)
    with pytest.MonkeyPatch.context() as patch, jax.default_prng_impl("unsafe_rbg"):
        patch.setitem(image_sets.IMAGE_SETS, "tiny", image_set(splits))
        patch.setitem(MODELS, "narrow", narrow)
        for name, evaluation in EVALUATIONS.items():
            # What takes seconds to compile has tests of its own.
            by_default = name in ("accuracy", "fourier")
            patch.setitem(EVALUATIONS, name, dataclasses.replace(evaluation, by_default=by_default))
        patch.setitem(EVALUATIONS, "fourier", dataclasses.replace(FOURIER, products=lambda group: {}))
        # Random numbers of high quality, and random initial weights, take seconds to compile for every model.
        patch.setattr(models, "he_normal", own.waves)
        yield


@pytest.fixture(autouse=True)
def in_its_own_directory(tmp_path, splits):
    # Without the fixture monkeypatch, which would be undone after this one and restore what it found here.
    with entries(splits), contextlib.chdir(tmp_path):
        yield


class Comparison(NamedTuple):
    """What a comparison left behind, what it printed, and the programs that its second half compiled."""

    path: Path
    printed: str
    programs: list


@pytest.fixture(scope="session")
def comparison(tmp_path_factory, splits):
    """Two regularisers and three seeds, begun with one network that was evaluated by itself; only to be read."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    programs, printed, drawing = [], io.StringIO(), []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration" and not drawing:
            programs.append(details.get("fun_name"))

    def products(group):
        """The pictures of the comparison alone: those of each network would take most of the time."""
        if len(group) == 1:
            return {}
        drawing.append(True)
        try:
            return FOURIER.products(group)
        finally:
            drawing.clear()

    with entries(splits), pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        main(["train", *SMALL, "--regularizer", "none", "--out", f"{out}/none-seed0"])
        main(["evaluate", *ATTACK, "--run", f"{out}/none-seed0"])
        patch.setitem(EVALUATIONS, "fourier", dataclasses.replace(FOURIER, products=products))
        monitoring.register_event_duration_secs_listener(listen)
        try:
            main([*COMPARE, "--out", str(out)])
        finally:
            monitoring.unregister_event_duration_listener(listen)
    return Comparison(out, printed.getvalue(), programs)


@pytest.fixture
def network(comparison, tmp_path):
    """A copy of a trained and evaluated network, the Absum one of seed 0, in ``net``."""
    shutil.copytree(comparison.path / "absum-seed0", tmp_path / "net")
    return tmp_path / "net"
