"""The command line of the second experiment, on a little text, as its user would run it."""

import dataclasses
import functools
import gc
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.text import CORPORA
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.stored import Measured
from experiments.sigsoftmax.__main__ import COMMANDS, main
from experiments.sigsoftmax.config import NETWORKS
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.perplexity import Perplexity
from experiments.sigsoftmax.models import BODIES
from experiments.sigsoftmax.recipes import OPTIMIZERS, RECIPES
from experiments.sigsoftmax.run import open_run
from sigsoftmax_jax.scores import SCORES
from tests.command_line import error_line, read
from tests.sigsoftmax.conftest import COMPARE
from tests.sigsoftmax.small import QUICK, contents, draw_few_figures, own_score, text, use_small_recipes

OUT = ["--data-dir", "corpus", "--out"]
TRAIN = ["train", "mos_small", *OUT, "net"]
EVALUATE = ["evaluate", "--run", "net", "--data-dir", "corpus", "--evaluations", "perplexity"]
GENERATE = ["generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 w2", "--words", "5"]
ADAM = ["--optimizer", "adam"]
QUICKLY = ["--body", "memory", "--epochs", "1", "--finetune-epochs", "0"]

fails = functools.partial(error_line, main)
# The event loop of orbax's readers, which a failed read leaves open.
DAMAGED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def corpus(tmp_path, monkeypatch):
    draw_few_figures(monkeypatch)
    return use_small_recipes(monkeypatch, tmp_path)


# The comparison


def test_the_main_job(compared):
    out, printed = compared
    result = read(out / "result.json")
    assert set(result) == {"experiment", "command", "settings", "corpus", "recipes", "rows"}
    facts = [(row["facts"]["network"], row["facts"]["seed"]) for row in result["rows"]]
    assert facts == [(name, seed) for name in ("softmax", "moss") for seed in (0, 1)]
    assert result["corpus"]["tokens"] == {"train": 480, "valid": 192, "test": 208}
    for row in result["rows"]:
        assert set(row) == {"facts", "cells", *EVALUATIONS}
        assert set(row["facts"]) == {"network", "experts", "parameters", "seed"}
        assert row["facts"]["experts"] == (2 if row["facts"]["network"] == "moss" else 1)
        assert set(row["perplexity"]) == {"base", "finetune", "final_phase", "curve"}
        assert len(row["perplexity"]["curve"]) == 3  # two epochs, and one of fine-tuning
        assert set(row["dynamic"]) == {"valid", "test"}
        assert set(row["rank"]) >= {"rank", "contexts", "vocabulary", "dtype", "tolerance"}
        assert row["rank"]["contexts"] == 150
        # The rank of a softmax is bounded by the width of the embedding and two.
        assert (row["rank"]["rank"] <= 4 + 2) == (row["facts"]["network"] == "softmax")
        cells = {name: value for name, (value, _) in row["cells"].items()}
        assert cells["fine-tuned, test"] == row["perplexity"]["finetune"]["test"]
        assert cells["dynamic, valid"] == row["dynamic"]["valid"]
        assert cells["rank of 150 x 31"] == row["rank"]["rank"]
    for name in ("learning_curves", "spectra"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "samples.txt").read_text().count("\n") >= 8
    assert "rank of 150 x 31" in printed
    assert "mean ± standard deviation over seeds" in printed
    assert "unigram model" in printed
    assert not list(out.rglob("*.tmp"))


def test_how_it_was_made_lies_beside_the_result(compared):
    found = read(compared[0] / "provenance.json")
    assert found["versions"]["jax"]
    assert found["devices"] == "8 x cpu"
    assert [each["run"] for each in found["seconds"]] == [
        f"{name}, seed {seed}" for name in ("softmax", "moss") for seed in (0, 1)
    ]
    assert all(set(each) == {"run", "train", *EVALUATIONS} for each in found["seconds"])
    assert "seconds" not in (compared[0] / "result.json").read_text()


def test_what_is_done_is_used_again(compared, tmp_path):
    shutil.copytree(compared[0], tmp_path / "out")
    before = contents(tmp_path / "out")
    main([*COMPARE, "--seeds", "2", "--out", "out"])
    after = contents(tmp_path / "out")
    assert set(after) == set(before)
    runs = [name for name in before if "seed" in name]
    assert len(runs) > 40
    assert {name: after[name] for name in runs} == {name: before[name] for name in runs}
    assert after["result.json"][1] == before["result.json"][1]


def test_it_is_run_again_from_its_result(tmp_path, capsys):
    main(["--networks", "moss", "--seed", "3", "--evaluations", "perplexity", *QUICKLY, *OUT, "first"])
    result = (tmp_path / "first" / "result.json").read_bytes()
    main(["--config", "first/result.json", *OUT, "again"])
    assert (tmp_path / "again" / "result.json").read_bytes() == result
    main(["--config", "first/result.json", *OUT, "other", "--seed", "4"])  # flags come first
    assert (tmp_path / "other" / "result.json").read_bytes() != result
    assert (
        read(tmp_path / "other" / "result.json")["settings"]["changes"]
        == json.loads(result)["settings"]["changes"]
    )
    message = fails(capsys, "train", "--config", "first/result.json", *OUT, "more")
    assert "--config is of the command compare, not of train" in message
    assert not (tmp_path / "more").exists()


def test_fewer_epochs_than_done_are_refused_before_anything_changes(compared, tmp_path, capsys):
    shutil.copytree(compared[0], tmp_path / "out")
    before = contents(tmp_path / "out")
    for flags, done in (
        (["--epochs", "1"], "2 epochs of train softmax, seed 0, more than the 1"),
        (["--finetune-epochs", "0"], "1 epochs of fine-tune softmax, seed 0, more than the 0"),
    ):
        message = fails(capsys, *COMPARE, *flags, "--seeds", "2", "--out", "out")
        assert f"{done} asked for; choose another --out, or start over with --force" in message
    message = fails(capsys, *COMPARE, "--bptt", "5", "--seeds", "2", "--out", "out")
    assert "seed0/config.json is of another configuration (recipe.bptt is 6 there, 5 here)" in message
    assert contents(tmp_path / "out") == before


# Training


def test_train_and_compare_make_the_same_run(quick, tmp_path, capsys):
    main(TRAIN)
    assert "validation perplexity" in capsys.readouterr().out
    assert read(tmp_path / "net" / "config.json") == read(quick.run.directory / "config.json")
    assert not (tmp_path / "net" / "evaluations").exists()
    stored = "evaluations/perplexity/numbers.json"
    main(EVALUATE)
    found, expected = (read(directory / stored) for directory in (tmp_path / "net", quick.run.directory))
    assert found["numbers"] == expected["numbers"]


def test_train_looks_at_no_test_text_and_evaluate_does(tmp_path, capsys, corpus):
    (corpus / "ptb.test.txt").write_text(text(9, 10))
    train = ["train", "mos_small", "--epochs", "1", "--finetune-epochs", "0", *OUT, "net"]
    main(train)
    trained = contents(tmp_path / "net")
    assert not any("evaluations" in name for name in trained)
    (corpus / "ptb.test.txt").write_text(text(10, 25))
    evaluate = ["evaluate", "--run", "net", "--data-dir", "corpus", "--evaluations", "perplexity", "rank"]
    main([*evaluate, "--out", "evaluated"])
    row = read(tmp_path / "evaluated" / "result.json")["rows"][0]
    assert (row["facts"]["network"], row["facts"]["experts"]) == ("moss", 2)
    assert "dynamic" not in row
    assert row["rank"]["contexts"] == 25 * 8 - 1  # all of them, as there are fewer than asked for
    assert contents(tmp_path / "net") == trained

    (corpus / "ptb.train.txt").write_text(text(8, 60))
    message = fails(capsys, *evaluate)
    assert "net was trained on another ptb: its vocabulary, train or valid split differs" in message
    (corpus / "ptb.valid.txt").write_text(text(3, 20))
    message = fails(capsys, *train)
    assert "train_checksum is" in message
    assert contents(tmp_path / "net") == trained


def test_a_finished_run_is_given_more_epochs_by_the_command(tmp_path, network, capsys):
    main([*TRAIN, "--finetune-epochs", "2"])
    assert [len((network / part / "metrics.jsonl").read_text().splitlines()) for part in ("", "finetune")] == [
        2,
        2,
    ]
    assert read(network / "config.json")["settings"]["recipe"]["finetune_epochs"] == 2
    capsys.readouterr()
    main(EVALUATE)
    assert len(read(network / "result.json")["rows"][0]["perplexity"]["curve"]) == 4
    assert "fine-tuned, valid" in capsys.readouterr().out


def test_fine_tuning_can_be_left_to_later_and_starts_over_with_the_rest(tmp_path, capsys):
    main([*TRAIN, "--finetune-epochs", "0"])
    assert not (tmp_path / "net" / "finetune").exists()
    main(EVALUATE)
    assert set(read(tmp_path / "net" / "result.json")["rows"][0]["perplexity"]) == {"base", "final_phase", "curve"}
    main(TRAIN)
    assert (tmp_path / "net" / "finetune" / "best").exists()
    main([*TRAIN, "--finetune-epochs", "0", "--force"])
    assert not (tmp_path / "net" / "finetune").exists()


def test_a_run_without_its_fine_tuning_is_evaluated_and_sampled_from(tmp_path, network, capsys, monkeypatch):
    """Its second phase was interrupted before its first epoch was whole."""
    shutil.rmtree(network / "finetune")
    before = contents(network)
    monkeypatch.delattr("experiments.harness.run.train")
    main([*EVALUATE, "--out", "evaluated"])
    row = read(tmp_path / "evaluated" / "result.json")["rows"][0]
    assert set(row["perplexity"]) == {"base", "final_phase", "curve"}
    assert set(row["cells"]) == {"trained, valid", "trained, test"}
    capsys.readouterr()
    main(GENERATE)
    assert capsys.readouterr().out.startswith("w1 w2 ")
    assert contents(network) == before


def test_sgd_averages_and_adam_does_not_until_fine_tuning(compared):
    for name, averages in (("moss", True), ("softmax", False)):
        last = json.loads((compared[0] / f"{name}-seed0" / "metrics.jsonl").read_text().splitlines()[-1])
        assert ("averaged_steps" in last) == averages
        assert "averaged_steps" in (compared[0] / f"{name}-seed0" / "finetune" / "metrics.jsonl").read_text()


# What a user adds


def test_another_body_is_one_entry_and_trains(quick):
    """The comparison has it; ``--body`` is given below."""
    assert read(quick.run.directory / "config.json")["identity"]["recipe"]["body"] == "memory"
    assert set(quick.params) == {"embedding", "decoder_bias", "kernel", "latent", "mixture"}


def test_a_score_is_one_entry_and_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "steep", own_score)
    main(["train", "mos_small", "--experts", "3", "--score", "steep", *ADAM, *QUICKLY, *OUT, "net"])
    main([*EVALUATE, "--out", "evaluated"])
    assert read(tmp_path / "evaluated" / "result.json")["rows"][0]["facts"]["network"] == "steep-3"


def test_a_score_of_ones_own_is_named_by_its_module(tmp_path, capsys):
    own = "tests.sigsoftmax.small:own_score"
    settings = ["--experts", "3", "--score", own, *ADAM, *QUICKLY]
    main(["train", "mos_small", *settings, "--data-dir", "corpus"])
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
    stored = tmp_path / "evaluated" / "evaluations" / "norm"
    assert {path.name for path in stored.iterdir()} == {"numbers.json", "arrays.npz", "norm.txt"}
    assert (tmp_path / "evaluated" / "norm.txt").read_text() == "1"


# Evaluation


def test_evaluation_elsewhere_leaves_the_run_as_it_is(tmp_path, network, capsys):
    shutil.rmtree(network / "evaluations")
    before = contents(network)
    evaluate = [*EVALUATE, "samples", "--out", "elsewhere"]
    main(evaluate)
    assert contents(network) == before
    result = (tmp_path / "elsewhere" / "result.json").read_bytes()
    assert {path.name for path in (tmp_path / "elsewhere" / "evaluations").iterdir()} == {"perplexity", "samples"}
    main([*evaluate[:-1], "again"])
    assert (tmp_path / "again" / "result.json").read_bytes() == result
    main(["--config", "elsewhere/result.json", "--run", "net", *OUT, "config"])
    assert (tmp_path / "config" / "result.json").read_bytes() == result
    assert contents(network) == before


def test_evaluation_writes_over_no_other_run_or_result(tmp_path, network, capsys):
    shutil.copytree(network, tmp_path / "other")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text('{"experiment": "somebody"}')
    before = contents(tmp_path)
    assert "other holds a single run; choose another --out" in fails(capsys, *EVALUATE, "--out", "other")
    message = fails(capsys, *EVALUATE, "--out", "foreign")
    assert "foreign/result.json is not a result of sigsoftmax; choose another --out" in message
    assert contents(tmp_path) == before


def test_stored_evaluations_are_used_again(network, monkeypatch):
    monkeypatch.setitem(EVALUATIONS, "perplexity", dataclasses.replace(EVALUATIONS["perplexity"], measure=None))
    stored = contents(network / "evaluations")
    main(EVALUATE)
    assert contents(network / "evaluations") == stored


@pytest.mark.parametrize(
    ("change", "flags"),
    [({"version": 2}, []), ({"data": lambda trained, settings: "other"}, []), ({}, ["--perplexity.window", "6"])],
)
def test_stored_evaluations_of_anything_else_are_not(network, monkeypatch, change, flags):
    def measure(trained, settings, partial):
        measured.append(settings)
        return Measured({"final_phase": "base", "curve": [[1, 1.0, 1.0]]})

    measured = []
    changed = dataclasses.replace(EVALUATIONS["perplexity"], measure=measure, **change)
    monkeypatch.setitem(EVALUATIONS, "perplexity", changed)
    main([*EVALUATE, *flags])
    assert measured == [Perplexity(window=6) if flags else Perplexity()]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("numbers.json", lambda text: b"{}"),
        ("numbers.json", lambda text: text[: len(text) // 2]),
        ("numbers.json", lambda text: b"[]"),
        ("arrays.npz", lambda text: text[: len(text) // 2]),
        ("arrays.npz", None),
        ("numbers.json", None),
    ],
)
def test_damaged_evaluations_are_made_anew(network, capsys, name, damage):
    directory = network / "evaluations" / "perplexity"
    before = contents(directory)
    if damage is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(damage(before[name][1]))
    main(EVALUATE)
    lines = capsys.readouterr().err.splitlines()
    if (name, damage) != ("numbers.json", None):  # which is only not done yet
        assert re.search(f"perplexity is measured anew: .*{name} (is damaged|does not exist)", "\n".join(lines))
    assert read(directory / "numbers.json")["numbers"] == json.loads(before["numbers.json"][1])["numbers"]
    assert (directory / "arrays.npz").read_bytes() == before["arrays.npz"][1]


# Generation, description, export


def test_generation_goes_on_from_a_prompt(capsys, monkeypatch, network):
    # What was trained is only read.
    monkeypatch.delattr("experiments.harness.run.train")
    before = contents(network)
    main(GENERATE)
    first = capsys.readouterr().out
    assert first.startswith("w1 w2 ")
    assert len(first.replace("\n", " \n").split(" ")) >= 7
    main(GENERATE)
    assert capsys.readouterr().out == first
    message = fails(capsys, "generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 nonsense")
    assert "words must be in the vocabulary of 31 words, got 'nonsense'" in message
    assert contents(network) == before


@pytest.mark.parametrize(
    ("recipe", "parameters", "vocabulary"),
    [
        ("awd_ptb", 24_210_800, 10_000),
        ("awd_wikitext2", 33_545_278, 33_278),
        ("mos_ptb", 21_490_460, 10_000),
        ("mos_wikitext2", 34_897_728, 33_278),
    ],
)
def test_describe_counts_the_published_models(capsys, recipe, parameters, vocabulary):
    main(["describe", recipe])
    described = json.loads(capsys.readouterr().out)
    assert (described["parameters"], described["vocabulary"]) == (parameters, vocabulary)
    assert described["counted"] is False


def test_describe_counts_files(capsys):
    main(["describe", "mos_ptb", "--data-dir", "corpus"])
    described = json.loads(capsys.readouterr().out)
    assert described["counted"] is True
    assert described["vocabulary"] == 31
    assert described["tokens"] == {"train": 480, "valid": 192, "test": 208}


def test_an_exported_network_is_loaded_by_the_lines_beside_it(compared, tmp_path, capsys):
    directory = compared[0] / "softmax-seed0"
    main(["export", "--run", str(directory), *OUT, "exported"])
    code = (tmp_path / "exported" / "load.py").read_text()
    assert code in capsys.readouterr().out
    run = open_run(directory, Path("corpus")).load()
    with np.load(tmp_path / "exported" / "variables.npz") as arrays:
        np.testing.assert_array_equal(arrays["params/embedding"], run.params["embedding"])
        assert len(arrays.files) == 5
    more = tmp_path / "exported" / "more.py"
    more.write_text(code + "import numpy; numpy.save('found.npy', log_probs)\n")
    python = [sys.executable, str(more)]
    path = str(Path(__file__).parents[2])
    subprocess.run(python, check=True, env={"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}, capture_output=True)
    tokens, model = jnp.zeros((1, 1), jnp.int32), run.subject.model
    arguments = tokens, tokens == 0, model.initial_carry(1)
    expected, _ = model.apply({"params": run.params}, *arguments, method="log_probs")
    np.testing.assert_allclose(np.load("found.npy"), expected, atol=1e-6)  # float32, two compilations


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "awd"], "recipe must be one of small, mos_small"),
        (["train", "--score", "max"], "--score must be one of softmax, sigsoftmax, sigmoid, relu, or package"),
        (["compare", "mos_ptb"], "recipe must be one of small, awd_ptb, awd_wikitext2, got 'mos_ptb'"),
        (["--networks", "softmax", "mox"], "network must be one of softmax"),
        (["--networks", "mos", "mos"], "--networks must be different names"),
        (["--data-dir", "nowhere"], "nowhere: must be a directory"),
        (["--data", "shakespeare"], "corpus must be one of embedded, ptb, wikitext2, got 'shakespeare'"),
        (["--evaluations", "speed", "--data-dir", "corpus"], "--evaluations must be of perplexity, dynamic, rank"),
        (
            ["--body", "transformer", "--data-dir", "corpus"],
            "--body must be one of lstm, memory, got 'transformer'",
        ),
        (["--epochs", "0", "--data-dir", "corpus"], "--epochs must be at least 1 and below 2**31, got 0"),
        (["--epochs", "1" + "0" * 20, "--data-dir", "corpus"], "--epochs must be at least 1 and below 2**31"),
        (["--finetune-epochs", "-1", "--data-dir", "corpus"], "--finetune-epochs must be at least 0"),
        (["--finetune-epochs", "1" + "0" * 20, "--data-dir", "corpus"], "--finetune-epochs must be at least 0"),
        (["train", "--experts", "0", "--data-dir", "corpus"], "--experts must be at least 1"),
        (
            ["train", "mos_ptb", "--experts", "1", "--data-dir", "corpus"],
            "last_size must equal embedding_size 280 without a mixture, got 620",
        ),
        (
            ["--batch-size", "12", "--data-dir", "corpus"],
            "--batch-size must be a multiple of the 8 devices, got 12",
        ),
        (["--batch-size", "400", "--data-dir", "corpus"], "tokens must be at least 2800"),
        (
            ["--learning-rate", "-1", "--data-dir", "corpus"],
            "--learning-rate must be positive and finite, got -1.0",
        ),
        (
            ["--optimizer", "rmsprop", "--data-dir", "corpus"],
            "--optimizer must be one of sgd, adam, got 'rmsprop'",
        ),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--seed", "2147483647", "--seeds", "2"], "--seed must not be negative, and below 2**31"),
        (["--seed", "9999999999"], "--seed must not be negative, and below 2**31, got 9999999999"),
        (["train", "--seed", "9999999999"], "--seed must not be negative, and below 2**31, got 9999999999"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--rank.contexts", "-1", "--data-dir", "corpus"], "--rank.contexts must be at least 0"),
        (["train", "--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["evaluate", "--run", "nowhere"], "nowhere holds no run of sigsoftmax: it has no config.json"),
        (["generate", "--run", "nowhere"], "nowhere holds no run of sigsoftmax: it has no config.json"),
        (["export", "--run", "nowhere"], "nowhere holds no run of sigsoftmax: it has no config.json"),
        (["generate", "--run", "nowhere", "--words", "0"], "--words must be at least 1"),
        (["generate", "--run", "nowhere", "--temperature", "1e-46"], "temperature must be from 1e-6 to 1e6"),
        (["generate", "--run", "nowhere", "--temperature", "inf"], "temperature must be from 1e-6 to 1e6"),
        (["generate", "--run", "nowhere", "--seed", "-1"], "--seed must not be negative"),
        (["train", "--bogus"], "bogus"),
        (["train", "--epochs", "x"], "--epochs"),
        (["evaluate"], "--run"),
        (
            ["trian"],
            "the command must be one of compare, train, evaluate, describe, generate, export, got 'trian'",
        ),
        (["train", "--distributed", "on"], "--distributed on needs a cluster"),
        (["train", "--distributed", "maybe"], "--distributed must be auto, on or off, got 'maybe'"),
        (["--config", "nowhere.json"], "nowhere.json does not exist"),
        (["train", "--config"], "--config must be followed by the path of a result.json"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, capsys, arguments, message):
    assert message in fails(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_missing_split_is_named(tmp_path, capsys, corpus):
    (corpus / "ptb.valid.txt").unlink()
    message = fails(capsys, "--data-dir", "corpus")
    assert "ptb.valid.txt" in message
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_split_of_one_token_is_named_before_training(tmp_path, capsys, corpus):
    (corpus / "ptb.test.txt").write_text("\n")
    assert "the test split of ptb must have at least 2 tokens, got 1" in fails(capsys, "--data-dir", "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


# Damage


@pytest.mark.parametrize("part", ["", "finetune"])
@pytest.mark.parametrize("damage", [None, "", "{\n", '[1]\n{"step": "x"}\n'])
def test_a_log_that_is_lost_or_damaged_is_written_again(network, part, damage):
    """The checkpoint says what was done."""
    path = network / part / "metrics.jsonl"
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    main(TRAIN)
    assert path.read_bytes() == before


def newest(directory):
    (step,) = (path for path in directory.iterdir() if path.is_dir())
    return step


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_data(directory):
    for path in (newest(directory) / "state").rglob("*"):
        if path.is_file() and "d" in path.parts[path.parts.index("state") :]:
            cut_short(path)


@pytest.fixture
def unread():
    """What the reader of checkpoints leaves behind when a read fails is collected within the test."""
    yield
    gc.collect()


@DAMAGED
@pytest.mark.parametrize(("command", "phase"), [(TRAIN, ""), (EVALUATE, ""), (GENERATE, "finetune")])
@pytest.mark.parametrize(
    "damage",
    [
        cut_data,
        lambda directory: shutil.rmtree(newest(directory) / "state"),
        lambda directory: (newest(directory) / "state" / "_METADATA").unlink(),
        lambda directory: cut_short(newest(directory) / "state" / "_METADATA"),
        lambda directory: shutil.rmtree(newest(directory)),
    ],
    ids=["data cut short", "no state", "no metadata", "metadata cut short", "no checkpoint"],
)
def test_a_damaged_checkpoint_is_one_line_with_a_way_out(unread, capsys, network, command, phase, damage):
    shutil.rmtree(network / "evaluations")
    damage(network / phase / "best")
    message = fails(capsys, *command)
    assert str(network / phase / "best").removeprefix(str(network)) in message
    assert "start over with --force" in message


@DAMAGED
@pytest.mark.parametrize(
    "damage", [cut_data, lambda d: cut_short(next((newest(d) / "position").rglob("metadata")))]
)
def test_a_damaged_newest_checkpoint_is_one_line_too(unread, capsys, network, damage):
    before = contents(network / "best")
    damage(network / "checkpoints")
    message = fails(capsys, *TRAIN)
    assert "net/checkpoints is damaged" in message
    assert "start over with --force" in message
    assert contents(network / "best") == before
    main([*TRAIN, "--force"])


def test_checkpoints_without_a_config_are_not_adopted(capsys, network):
    (network / "config.json").unlink()
    before = contents(network)
    for command in (TRAIN, [*TRAIN, "--force"]):
        message = fails(capsys, *command)
        assert (
            "net has checkpoints but no config.json, so that nothing says what it is of; choose another" in message
        )
    assert "net holds no run of sigsoftmax: it has no config.json" in fails(capsys, *EVALUATE)
    assert contents(network) == before


@pytest.mark.parametrize(
    "config", ["{}", '{"experiment": "absum", "identity": {}, "settings": {}}', '{"name": "mine"}']
)
def test_a_config_of_somebody_else_is_refused(tmp_path, capsys, config):
    (tmp_path / "net" / "checkpoints").mkdir(parents=True)
    (tmp_path / "net" / "config.json").write_text(config)
    (tmp_path / "net" / "checkpoints" / "mine").write_text("mine")
    before = contents(tmp_path)
    for command in (TRAIN, [*TRAIN, "--force"], EVALUATE, GENERATE):
        message = fails(capsys, *command)
        assert "config.json is not the config of a run of sigsoftmax; choose another" in message
    assert "net holds a single run; choose another --out" in fails(capsys, *COMPARE, "--out", "net", "--force")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "max"}, "--score must be one of"),
        ({"seed": -1}, "--seed must not be negative"),
        ({"seed": 7}, "is of another configuration (seed is 0 there, 7 here)"),
        ({"recipe": {}}, "settings.recipe lacks settings: batch_size, data"),
        ({"recipe": None}, "settings.recipe must be an object, got None"),
        ({"hidden_size": "6"}, "settings.recipe.hidden_size must be of type int, got '6'"),
        ({"epochs": 2.5}, "settings.recipe.epochs must be of type int, got 2.5"),
        ({"alpha": None}, "settings.recipe.alpha must be of type float, got None"),
        ({"dropouts": {"input": "x"}}, "settings.recipe.dropouts.input must be of type float, got 'x'"),
        ({"dropout": 0.5}, "settings.recipe has unknown settings: dropout"),
    ],
)
def test_settings_edited_by_hand_are_refused(capsys, network, change, message):
    path = network / "config.json"
    config = read(path)
    ((name, value),) = change.items()
    settings = config["settings"] if name in config["settings"] else config["settings"]["recipe"]
    settings[name] = value
    path.write_text(json.dumps(config))
    assert message in fails(capsys, *EVALUATE)


def test_a_trained_run_is_evaluated_on_any_number_of_devices(network, monkeypatch):
    """Batches of training must fit the devices; evaluation has none."""
    monkeypatch.setattr("jax.device_count", lambda: 7)
    main(EVALUATE)


# Help


def printed_help(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--help"])
    assert exit_info.value.code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def test_help_names_all_commands(capsys):
    printed = printed_help(capsys)
    assert all(word in printed for word in COMMANDS)


OF_RECIPE = ["--data", "--body", "--epochs", "--finetune-epochs", "--batch-size", "--learning-rate",
    "--finetune-learning-rate", "--optimizer", "--bptt"]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "tables", "of_recipe", "others"),
    [
        (
            "compare", [["small", "awd_ptb", "awd_wikitext2"], NETWORKS, EVALUATIONS, CORPORA, OPTIMIZERS, BODIES],
            OF_RECIPE, ["--out", "--data-dir", "--seed", "--seeds", "--force", "--rank.contexts", "--distributed"],
        ),
        (
            "train", [RECIPES, SCORES, CORPORA, OPTIMIZERS, BODIES],
            [*OF_RECIPE, "--experts"], ["--score", "--checkpoint-every"],
        ),
        ("evaluate", [EVALUATIONS], [], ["--run", "--out", "--samples.words"]),
        ("describe", [RECIPES, CORPORA], ["--data", "--experts"], ["--data-dir"]),
        ("generate", [], [], ["--prompt", "--words", "--temperature"]),
        ("export", [], [], ["--run", "--out"]),
    ],
)  # fmt: skip
def test_help_names_all_choices_and_says_what_the_recipe_fixes(capsys, command, tables, of_recipe, others):
    printed = printed_help(capsys, command)
    for table in tables:
        # The names of a table stand in one row; "memory" was added after the texts were made.
        assert ", ".join(name for name in table if name != "memory") in printed
    for flag in [*of_recipe, *others]:
        assert re.search(rf"(?<!\S){re.escape(flag)}(?![\w.-])", printed), flag
    for flag in of_recipe:
        (about,) = re.findall(rf"(?<!\S){flag} .*?\(default: (.*?)\)", printed)
        assert about == "the recipe's", flag


def test_the_quick_recipe_is_whole():
    QUICK.check()
