"""The lines of docs/adding.md: every entry that they add is found by the command line, and used."""

import contextlib
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from experiments.absum.config import Settings, Training
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.models import MODELS
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import Classifier
from experiments.data.image_sets import IMAGE_SETS
from experiments.data.images import load_images
from experiments.data.text import CORPORA
from experiments.sigsoftmax.__main__ import main as sigsoftmax
from experiments.sigsoftmax.config import find_score
from experiments.sigsoftmax.models import BODIES
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import open_run
from sigsoftmax_jax.scores import SCORES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "adding.md").read_text()
*MODULE, SCRIPT = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
TABLES = (REGULARIZERS, MODELS, EVALUATIONS, IMAGE_SETS, SCORES, BODIES, RECIPES, CORPORA)


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """The page's lines as the module ``mine``; what it adds to the tables is taken out again."""
    (tmp_path / "mine.py").write_text("\n".join(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with contextlib.ExitStack() as stack:
        for table in TABLES:
            stack.enter_context(mock.patch.dict(table))
        yield importlib.import_module("mine")
    del sys.modules["mine"]


def write_images(path):
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 1), np.uint8), np.arange(60) % 10
    labels = labels.astype(np.int32)
    splits = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(path, **splits)


def write_texts(directory):
    words = np.random.default_rng(0).choice(["we", "the", "people", "of", "states"], 1000)
    for name, count in {"train.txt": 800, "valid.txt": 100, "test.txt": 100}.items():
        (directory / name).write_text(" ".join([*words[:count], "once"]))  # a rare word, read as <unk>


def test_a_script_from_outside_has_the_entries_of_the_first_experiment(tmp_path):
    (tmp_path / "compare_mine.py").write_text(SCRIPT)
    write_images(tmp_path / "mine.npz")
    (command,) = re.findall(r"^python3 compare_mine.py.*", TEXT, re.MULTILINE)
    arguments = shlex.split(command.replace("DIRECTORY", "."))[1:]
    arguments += ["--model", "mine:Small", "--epochs", "1", "--batch-size", "8", "--validation-size", "20"]
    arguments += ["--regularizers", "none", "elastic", "mine:elastic", "--strengths", "0", "0.1", "0.1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *arguments, "--out", "out"], env=environment, check=True, capture_output=True)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["dataset"]["name"] == "mine"
    assert result["settings"]["evaluation"]["grain"] == {"scale": 0.2}
    none, entry, own = result["rows"]
    assert entry["accuracy"] == own["accuracy"]
    assert entry["accuracy"]["absum_ratio"] != none["accuracy"]["absum_ratio"]
    assert all(0 <= row["cells"]["with grain"][0] <= 1 for row in result["rows"])


def test_an_entry_of_the_models_has_its_strengths(mine):
    settings = Settings(training=Training(model="small"), regularizer="absum")
    classifier = Classifier(settings, load_images("embedded"))
    assert isinstance(classifier.model, mine.Small)
    assert classifier.strength == 0.01


def test_the_entries_of_the_second_experiment_are_trained(tmp_path, mine, capsys):
    write_texts(tmp_path)
    flags = ["--epochs", "1", "--finetune-epochs", "0", "--batch-size", "8", "--bptt", "5"]
    places = ["--data", "mine", "--data-dir", ".", "--out", "net"]
    sigsoftmax(["train", "gru_small", "--score", "mine:steeper_score", *flags, *places])
    assert "validation perplexity" in capsys.readouterr().out
    subject = open_run(tmp_path / "net", tmp_path).subject
    assert isinstance(subject.model.body, mine.GRUBody)
    assert subject.model.head.score is mine.steeper_score
    assert subject.corpus.name == "mine"
    assert find_score("steeper") is mine.steeper_score


def test_a_body_leaves_the_state_as_it_is_at_padding(mine):
    body = mine.GRUBody(3)
    inputs, where = np.ones((2, 4, 3), np.float32), np.array([[True, True, False, False], [False] * 4])
    carry = np.full((2, 3), 0.5, np.float32)
    variables = body.init(jax.random.key(0), inputs, where, carry, None)
    short = body.apply(variables, inputs[:1, :2], where[:1, :2], carry[:1], None).carry
    after = body.apply(variables, inputs, where, carry, None).carry
    # One program for two lengths: the same sums in another order.
    np.testing.assert_allclose(after[:1], short, rtol=1e-6)
    np.testing.assert_array_equal(after[1], carry[1])
