"""The command line of the second experiment, on a little text, as its user would run it."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.evaluations import EVALUATIONS
from tests.command_line import error_line, only, read
from tests.sigsoftmax.small import COMPARE, EVALUATE, GENERATE, OUT, OWN_SCORE, QUICKLY, TRAIN, contents, text

fails = functools.partial(error_line, main)
pytestmark = pytest.mark.usefixtures("corpus")


def test_the_main_job(compared):
    out, printed = compared
    result = read(out / "result.json")
    about = {"experiment", "command", "settings", "corpus", "recipes", "places"}
    assert set(result) == about | {"rows", "comparisons"}
    (table,) = result["comparisons"]["perplexity"]["tables"].values()
    assert [line[:2] for line in table[1]] == [["moss less softmax", "2"]]
    facts = [(row["facts"]["network"], row["facts"]["seed"]) for row in result["rows"]]
    assert facts == [(name, seed) for name in ("softmax", "moss") for seed in (0, 1)]
    assert result["corpus"]["tokens"] == {"train": 480, "valid": 192, "test": 208}
    for row in result["rows"]:
        assert set(row) == {"facts", "cells", *EVALUATIONS}
        assert set(row["facts"]) == {"network", "experts", "parameters", "seed"}
        place = result["places"][f"{row['facts']['network']}, seed {row['facts']['seed']}"]
        assert place["finetune"]["began_from_step"] == place["base"]["step"]
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
        # The best epoch of the others is the first, at which they could end.
        (["--epochs", "1"], "2 epochs of train moss, seed 1, more than the 1 asked for, and of them the best, 2,"),
        (["--finetune-epochs", "0"], "1 epochs of fine-tune softmax, seed 0, more than the 0 asked for, and of"),
    ):
        message = fails(capsys, *COMPARE, *flags, "--seeds", "2", "--out", "out")
        assert done in message
        assert "choose another --out, or start over with --force" in message
    message = fails(capsys, *COMPARE, "--bptt", "5", "--seeds", "2", "--out", "out")
    assert "seed0/config.json is of another configuration (recipe.bptt is 6 there, 5 here)" in message
    assert contents(tmp_path / "out") == before


def test_train_and_compare_make_the_same_run(quick, tmp_path, capsys):
    main(TRAIN)
    assert "validation perplexity" in capsys.readouterr().out
    assert read(tmp_path / "net" / "config.json") == read(quick.run.directory / "config.json")
    assert not (tmp_path / "net" / "evaluations").exists()
    main(EVALUATE)
    stored = (only(each / "evaluations" / "perplexity") for each in (tmp_path / "net", quick.run.directory))
    found, expected = (read(each / "numbers.json") for each in stored)
    assert found["numbers"] == expected["numbers"]


def test_an_lstm_is_evaluated_by_the_command(trained, tmp_path, capsys):
    evaluate = ["evaluate", "--run", str(trained.run.directory), "--evaluations", "perplexity"]
    main([*evaluate, *OUT, "evaluated"])
    (row,) = read(tmp_path / "evaluated" / "result.json")["rows"]
    assert row["facts"] == trained.subject.facts
    best = min(line["validation_loss"] for line in trained.phases["base"].lines)
    assert row["perplexity"]["base"]["valid"] == pytest.approx(np.exp(best), rel=1e-5)  # float32, other windows
    assert "trained, valid" in capsys.readouterr().out


def test_sgd_averages_and_adam_does_not_until_fine_tuning(quick, tmp_path):
    main(["train", "mos_small", *OWN_SCORE, *OUT, "adam"])
    for directory, averages in ((quick.run.directory, True), (tmp_path / "adam", False)):
        last = json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])
        assert ("averaged_steps" in last) == averages
        assert "averaged_steps" in (directory / "finetune" / "metrics.jsonl").read_text()


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


def test_any_checkpoint_is_evaluated_sampled_from_and_exported(network, capsys):
    """The best epoch of this run is the first."""
    whole = read(only(network / "evaluations" / "perplexity") / "numbers.json")["numbers"]
    main([*EVALUATE, "--at", "base"])
    result = read(network / "at" / "base" / "result.json")
    best = result["places"]["moss, seed 0"]
    assert (list(best), best["base"]["epoch"]) == (["base"], 1)
    assert result["rows"][0]["perplexity"]["base"] == whole["base"]
    main([*EVALUATE, "dynamic", "--at", "2"])
    result = read(network / "at" / "2" / "result.json")
    last = result["places"]["moss, seed 0"]
    assert (list(last), last["base"]["epoch"]) == (["base"], 2)
    assert last["base"]["step"] > best["base"]["step"]
    assert len(result["rows"][0]["perplexity"]["curve"]) == 2
    assert result["rows"][0]["perplexity"]["base"]["test"] != whole["base"]["test"]
    assert result["rows"][0]["dynamic"]["test"] > 0
    assert read(only(network / "evaluations" / "perplexity") / "numbers.json")["numbers"] == whole
    capsys.readouterr()
    main([*GENERATE, "--at", "2"])
    assert capsys.readouterr().out.startswith("w1 w2 ")
    export = ["export", "--run", "net", "--data-dir", "corpus", "--at"]
    for name in ("1", "2"):
        main([*export, name])
    one, two = (np.load(network / "at" / name / "export" / "variables.npz")["params/kernel"] for name in "12")
    assert np.any(one != two)
    for command in (EVALUATE, GENERATE, export[:-1]):
        message = fails(capsys, *command, "--at", "9")
        assert "--at must be a checkpoint that is kept, of 1, 2, base, 3, finetune, got '9'" in message
    assert {path.name for path in (network / "at").iterdir()} == {"base", "1", "2"}


def test_a_trained_run_is_evaluated_on_any_number_of_devices(network, monkeypatch):
    """Batches of training must fit the devices; evaluation has none."""
    monkeypatch.setattr("jax.device_count", lambda: 7)
    main(EVALUATE)


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
        ("awd_ptb", 24_221_600, 10_000),
        ("awd_wikitext2", 33_556_078, 33_278),
        ("mos_ptb", 21_500_620, 10_000),
        ("mos_wikitext2", 34_909_528, 33_278),
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


def test_an_exported_network_is_loaded_by_the_lines_beside_it(trained, tmp_path, capsys):
    main(["export", "--run", str(trained.run.directory), *OUT, "exported"])
    code = (tmp_path / "exported" / "load.py").read_text()
    assert code in capsys.readouterr().out
    with np.load(tmp_path / "exported" / "variables.npz") as arrays:
        np.testing.assert_array_equal(arrays["params/embedding"], trained.params["embedding"])
        assert len(arrays.files) == 2 + 3 + 2 * 4
    more = tmp_path / "exported" / "more.py"
    more.write_text(code + "import numpy; numpy.save('found.npy', log_probs)\n")
    python = [sys.executable, str(more)]
    path = str(Path(__file__).parents[2])
    subprocess.run(python, check=True, env={"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}, capture_output=True)
    tokens, model = jnp.zeros((1, 1), jnp.int32), trained.subject.model
    arguments = tokens, tokens == 0, model.initial_carry(1)
    expected, _ = model.apply({"params": trained.params}, *arguments, method="log_probs")
    np.testing.assert_allclose(np.load("found.npy"), expected, atol=1e-6)  # float32, two compilations
