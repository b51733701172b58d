"""What a user adds: a body, a score, a corpus, an evaluation, each one entry, and run by the command."""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.text import CORPORA
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.stored import Measured
from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.run import open_run
from sigsoftmax_jax.scores import SCORES
from tests.command_line import error_line, only, read
from tests.sigsoftmax.small import EVALUATE, GENERATE, OUT, OWN_SCORE, QUICKLY, own_score

fails = functools.partial(error_line, main)
pytestmark = pytest.mark.usefixtures("corpus")


def test_another_body_is_one_entry_and_trains(quick):
    """The comparison has it; ``--body`` is given below."""
    assert read(quick.run.directory / "config.json")["identity"]["recipe"]["body"] == "memory"
    assert set(quick.params) == {"embedding", "decoder_bias", "kernel", "latent", "mixture"}


def test_a_score_is_one_entry_and_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "steep", own_score)
    main(["train", "mos_small", *OWN_SCORE, "--score", "steep", *QUICKLY, *OUT, "net"])
    main([*EVALUATE, "--out", "evaluated"])
    assert read(tmp_path / "evaluated" / "result.json")["rows"][0]["facts"]["network"] == "steep-3"


def test_a_score_of_ones_own_is_named_by_its_module(tmp_path, capsys):
    own = "tests.sigsoftmax.small:own_score"
    main(["train", "mos_small", *OWN_SCORE, *QUICKLY, "--data-dir", "corpus"])
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name == "train-mos_small-tests.sigsoftmax.small-own_score"
    subject = open_run(directory, Path("corpus")).subject
    assert (subject.facts["network"], subject.facts["experts"]) == (f"{own}-3", 3)
    assert (subject.recipe.body, subject.recipe.optimizer) == ("memory", "adam")
    assert float(subject.model.head.score(jnp.zeros(()))) == pytest.approx(-np.log(2))
    for wrong, message in {
        "tests.sigsoftmax.small:nothing": "cannot be imported: module 'tests.sigsoftmax.small' has no attribute",
        "nowhere:score": "cannot be imported: No module named 'nowhere'",
        "tests.sigsoftmax.small:not_a_score": "must name a function, got int",
    }.items():
        assert message in fails(capsys, "train", "--score", wrong, *OUT, "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_corpus_is_one_entry_and_trains(tmp_path, monkeypatch):
    entry = dataclasses.replace(
        CORPORA["ptb"], tokenize=lambda text: text.replace("w", "v").replace("\n", " . ").split()
    )
    monkeypatch.setitem(CORPORA, "mine", entry)
    main(["train", "mos_small", "--data", "mine", *QUICKLY, *OUT, "net"])
    run = open_run(tmp_path / "net", Path("corpus"))
    assert run.subject.corpus.name == "mine"
    assert set(run.subject.corpus.vocabulary.words) == {".", *(f"v{number}" for number in range(30))}
    run.load()


def test_a_text_of_ones_own_is_a_directory(tmp_path, corpus, capsys):
    """Trained, evaluated, sampled from and exported, with the words that are seen often enough."""
    (corpus / "mine").mkdir()
    for split in ("train", "valid", "test"):
        text = (corpus / f"ptb.{split}.txt").read_text()
        (corpus / "mine" / f"{split}.txt").write_text(text.replace("w3 ", "w3 once ", 2))
    train = ["train", "mos_small", "--data", "text:mine", *OWN_SCORE, *QUICKLY, *OUT, "net"]
    main([*train, "--minimum-count", "3"])
    line = "text:mine: 32 words; 0.41 % of train, 1.03 % of valid, 0.95 % of test are <unk>"
    assert line in capsys.readouterr().out.splitlines()
    config = read(tmp_path / "net" / "config.json")
    assert {name: config["identity"]["recipe"][name] for name in ("data", "minimum_count")} == {
        "data": "text:mine",
        "minimum_count": 3,
    }
    message = fails(capsys, *train, "--vocabulary-size", "20")
    assert "is of another configuration (recipe.minimum_count is 3 there, None here)" in message

    main([*EVALUATE, "--out", "evaluated"])
    found = read(tmp_path / "evaluated" / "result.json")["corpus"]
    assert found["vocabulary"] == 32
    assert found["unknown_share"] == {"train": 2 / 482, "valid": 2 / 194, "test": 2 / 210}
    assert "0.95 % of test are <unk>" in capsys.readouterr().out
    main(GENERATE)
    assert capsys.readouterr().out.startswith("w1 w2 ")
    main(["export", "--run", "net", *OUT, "exported"])
    assert (tmp_path / "exported" / "vocabulary.txt").read_text().splitlines().count("<unk>") == 1
    main(["describe", "mos_small", "--data", "text:mine", "--data-dir", "corpus"])
    assert '"vocabulary": 33' in capsys.readouterr().out  # 31, once and <unk>, which stands for no word

    (corpus / "mine" / "valid.txt").write_text("w1 w2\n")
    assert "was trained on another text:mine: its vocabulary, train or valid" in fails(capsys, *EVALUATE)
    (corpus / "mine" / "valid.txt").unlink()
    assert "mine: must hold valid.txt (1 of 3 files are missing)" in fails(capsys, *GENERATE)


def test_an_evaluation_is_one_entry_and_comes_into_table_and_result(tmp_path, network, monkeypatch, capsys):
    @dataclasses.dataclass(frozen=True)
    class Norm:
        power: int = 2

    def measure(trained, settings, partial):
        embedding = np.asarray(trained.params["embedding"], np.float64)
        return Measured({"norm": float(np.mean(embedding**settings.power))}, {"embedding": embedding})

    entry = Evaluation(
        measure=measure,
        settings=Norm(),
        data=lambda trained, settings: None,
        cells=lambda numbers: {"mean square": Cell(numbers["norm"], "of the embedding")},
        products=lambda group: {"norm.txt": f"{len(group)}"},
    )
    monkeypatch.setitem(EVALUATIONS, "norm", entry)
    main(["evaluate", "--run", "net", "--data-dir", "corpus", "--evaluations", "norm", "--out", "evaluated"])
    row = read(tmp_path / "evaluated" / "result.json")["rows"][0]
    assert set(row) == {"facts", "cells", "norm"}
    assert row["cells"] == {"mean square": [row["norm"]["norm"], "of the embedding"]}
    assert "mean square" in capsys.readouterr().out
    stored = only(tmp_path / "evaluated" / "evaluations" / "norm")
    assert {path.name for path in stored.iterdir()} == {"numbers.json", "arrays.npz", "norm.txt"}
    assert (tmp_path / "evaluated" / "norm.txt").read_text() == "1"
