"""The command line of the second experiment, on a little text, as its user would run it."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest

from experiments.sigsoftmax import recipes
from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.models import Dropouts
from experiments.sigsoftmax.network import open_network
from tests.command_line import error_line, read

TINY = {
    "data": "ptb", "embedding_size": 4, "hidden_size": 6, "last_size": 4, "num_layers": 1, "epochs": 2,
    "finetune_epochs": 1, "batch_size": 8, "bptt": 6, "learning_rate": 0.05, "test_batch_size": 2,
    "dropouts": Dropouts(*[0.1] * 6),
}  # fmt: skip
FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
OUT = ["--data-dir", "corpus", "--out"]


def text(seed, lines):
    """Lines of words of which each is mostly followed by its successor."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 30, lines)
    words = (starts[:, None] + np.arange(7) + (rng.random((lines, 7)) < 0.2)) % 30
    return "".join(" ".join(f"w{word}" for word in line) + "\n" for line in words)


def make_small(directory, monkeypatch):
    """A corpus of 31 words in ``directory``, and recipes that train in a second."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for seed, (name, lines) in enumerate(zip(FILES, (150, 20, 30), strict=True)):
        (corpus / name).write_text(text(seed, lines))
    monkeypatch.chdir(directory)
    for name in ("small", "mos_small"):
        experts = 1 if name == "small" else 2
        small = dataclasses.replace(recipes.RECIPES[name], **TINY, num_experts=experts)
        monkeypatch.setitem(recipes.RECIPES, name, small)
    return corpus


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network of the default settings, trained once for all tests that look at it."""
    directory = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(directory, monkeypatch)
        main(["train", *OUT, "net"])
    return directory / "net"


@pytest.fixture(autouse=True)
def small_runs(trained, tmp_path, monkeypatch):
    return make_small(tmp_path, monkeypatch)


@pytest.fixture
def network(trained, tmp_path):
    """This test's own copy of the trained network, in ``net``."""
    return shutil.copytree(trained, tmp_path / "net")


fails = functools.partial(error_line, main)


def test_the_main_job(tmp_path, capsys):
    networks = ["--networks", "softmax", "sigsoftmax", "--seeds", "2"]
    command = [*OUT, "out", *networks, "--rank-contexts", "150"]
    main(command)
    out = tmp_path / "out"
    result = read(out / "result.json")
    assert set(result) == {"experiment", "config", "recipes", "corpus", "versions", "rows", "curves"}
    assert [(row["network"], row["seed"]) for row in result["rows"]] == [
        (name, seed) for name in ("softmax", "sigsoftmax") for seed in (0, 1)
    ]
    assert result["corpus"]["tokens"] == {"train": 1200, "valid": 160, "test": 240}
    for row in result["rows"]:
        assert set(row) >= {
            "activation", "experts", "seed", "parameters", "base_valid_perplexity", "base_test_perplexity",
            "finetuned_test_perplexity", "dynamic_test_perplexity", "tokens_per_second", "rank",
            "process_peak_memory_bytes", "train_seconds",
        }  # fmt: skip
        assert set(row["rank"]) >= {"rank", "contexts", "vocabulary", "dtype", "tolerance"}
        assert row["rank"]["contexts"] == 150
        limit = TINY["embedding_size"] + 2
        assert (row["rank"]["rank"] <= limit) == (row["network"] == "softmax")
    for name in ("learning_curves.png", "spectra.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert (out / "samples.txt").read_text().count("\n") >= 4
    assert len(result["curves"][0]["lines"]) == 3  # two epochs, and one of fine-tuning
    printed = capsys.readouterr().out
    assert "rank of 150 x 31" in printed
    assert "mean ± standard deviation over seeds" in printed
    assert not list(out.rglob("*.tmp"))

    row_time = (out / "sigsoftmax-seed1" / "row.json").stat().st_mtime_ns
    main(command)  # what is done is used again
    assert (out / "sigsoftmax-seed1" / "row.json").stat().st_mtime_ns == row_time
    assert read(out / "result.json")["rows"] == result["rows"]
    assert "seed0/config.json is of another configuration (recipe.epochs is 2 there, 1 here)" in fails(
        capsys, *command, "--epochs", "1"
    )


def test_train_looks_at_no_test_text_and_evaluate_does(tmp_path, capsys, small_runs):
    main(["train", "mos_small", "--experts", "3", *OUT, "net"])
    assert not (tmp_path / "net" / "row.json").exists()
    assert "validation perplexity" in capsys.readouterr().out
    trained = (tmp_path / "net" / "metrics.jsonl").read_text()
    (small_runs / "ptb.test.txt").write_text(text(9, 25))
    main(["evaluate", "--run", "net", "--data-dir", "corpus", "--no-dynamic", "--out", "evaluated"])
    row = read(tmp_path / "evaluated" / "result.json")["rows"][0]
    assert row["network"] == "moss"
    assert (row["activation"], row["experts"]) == ("sigsoftmax", 3)
    assert "dynamic_test_perplexity" not in row
    assert row["rank"]["contexts"] == 25 * 8 - 1  # all of them, as there are fewer than asked for
    assert (tmp_path / "net" / "metrics.jsonl").read_text() == trained

    (small_runs / "ptb.train.txt").write_text(text(8, 150))
    message = fails(capsys, "evaluate", "--run", "net", "--data-dir", "corpus")
    assert "net was trained on another ptb: its vocabulary, train or valid split differs" in message
    (small_runs / "ptb.valid.txt").write_text(text(3, 20))
    message = fails(capsys, "train", "mos_small", "--experts", "3", *OUT, "net")
    assert "training_data_checksum is" in message
    message = fails(capsys, "train", "mos_small", "--experts", "3", *OUT, "net", "--epochs", "7")
    assert "config.json is of another configuration (recipe.epochs is 2 there, 7 here)" in message


def test_generation_goes_on_from_a_prompt(capsys, monkeypatch, network):
    # What was trained is only read, also where the process ended before its last checkpoint was whole.
    shutil.rmtree(network / "checkpoints")
    (network / "checkpoints").mkdir()
    monkeypatch.delattr("experiments.sigsoftmax.network.train")
    main(["generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 w2", "--words", "5"])
    first = capsys.readouterr().out
    assert first.startswith("w1 w2 ")
    assert len(first.replace("\n", " \n").split(" ")) >= 7
    main(["generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 w2", "--words", "5"])
    assert capsys.readouterr().out == first
    message = fails(capsys, "generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 nonsense")
    assert "'nonsense' is not in the vocabulary" in message


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
    assert described["tokens"] == {"train": 1200, "valid": 160, "test": 240}


def test_sgd_averages_and_adam_does_not(tmp_path, network):
    settings = ["--optimizer", "sgd", "--learning-rate", "2", "--finetune-epochs", "0"]
    main(["train", *settings, *OUT, "sgd"])
    for directory, averages in ((tmp_path / "sgd", True), (network, False)):
        last = json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])
        assert ("averaged_steps" in last) == averages
    assert not (tmp_path / "sgd" / "finetune").exists()
    assert (network / "finetune").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "awd"], "unknown recipe 'awd'; expected one of small, mos_small"),
        (["train", "--score", "max"], "unknown --score 'max'; expected one of softmax, sigsoftmax"),
        (["compare", "mos_ptb"], "unknown recipe 'mos_ptb'; expected one of small, awd_ptb"),
        (["--networks", "softmax", "mox"], "unknown network 'mox'"),
        (["--networks", "mos", "mos"], "--networks must be different names"),
        (["--data-dir", "nowhere"], "nowhere"),
        (["--data", "shakespeare"], "unknown corpus 'shakespeare'"),
        (["--epochs", "0", "--data-dir", "corpus"], "--epochs must be at least 1"),
        (["--finetune-epochs", "-1", "--data-dir", "corpus"], "--finetune-epochs must not be negative"),
        (["train", "--experts", "0", "--data-dir", "corpus"], "--experts must be at least 1"),
        (
            ["train", "mos_ptb", "--experts", "1", "--data-dir", "corpus"],
            "last_size 620 must equal embedding_size",
        ),
        (["--batch-size", "12", "--data-dir", "corpus"], "--batch-size 12 is not a multiple of the 8 devices"),
        (["--batch-size", "400", "--data-dir", "corpus"], "the text has 1200 tokens, expected at least 2800"),
        (["--learning-rate", "-1", "--data-dir", "corpus"], "--learning-rate must be positive and finite"),
        (["--optimizer", "rmsprop", "--data-dir", "corpus"], "--optimizer 'rmsprop' is unknown"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--seed", "2147483647", "--seeds", "2"], "--seed must not be negative, and below 2**31, got 2147483648"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--rank-contexts", "-1"], "--rank-contexts must not be negative"),
        (["train", "--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["evaluate", "--run", "nowhere"], "nowhere holds no trained language model"),
        (["generate", "--run", "nowhere"], "nowhere holds no trained language model"),
        (["generate", "--run", "nowhere", "--words", "0"], "--words must be at least 1"),
        (["generate", "--run", "nowhere", "--temperature", "1e-46"], "temperature must be from 1e-6 to 1e6"),
        (["train", "--bogus"], "bogus"),
        (["train", "--epochs", "x"], "--epochs"),
        (["evaluate"], "--run"),
        (["train", "--seed", "5000000000"], "--seed must not be negative, and below 2**31"),
        (["generate", "--run", "nowhere", "--temperature", "inf"], "temperature must be from 1e-6 to 1e6"),
        (["train", "--distributed"], "--distributed needs a cluster"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, capsys, arguments, message):
    assert message in fails(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_missing_split_is_named(tmp_path, capsys, small_runs):
    (small_runs / "ptb.valid.txt").unlink()
    message = fails(capsys, "--data-dir", "corpus")
    assert "ptb.valid.txt" in message
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_split_of_one_token_is_named_before_training(tmp_path, capsys, small_runs):
    (small_runs / "ptb.test.txt").write_text("\n")
    assert "the test split of ptb has one token" in fails(capsys, "--data-dir", "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", "{\n", "metrics.jsonl is damaged"),
        ("metrics.jsonl", "[1]\n", "metrics.jsonl is damaged: expected an object with a step"),
        ("config.json", "{}", "config.json is not the config of a language model"),
        ("best", None, "it has no best"),
        ("finetune/best", None, "it has no finetune/best"),
        ("finetune/checkpoints", None, "it has no finetune/checkpoints"),
    ],
)
def test_what_is_damaged_is_named_and_never_trained_again(capsys, network, name, text, message):
    path = network / name
    if text is None:
        shutil.rmtree(path)
    else:
        path.write_text(text)
    assert message in fails(capsys, "generate", "--run", "net", "--data-dir", "corpus")


@pytest.mark.parametrize(("setting", "value"), [("score", "max"), ("seed", -1), ("recipe", {}), ("recipe", None)])
def test_a_config_edited_by_hand_is_refused(capsys, network, setting, value):
    path = network / "config.json"
    path.write_text(json.dumps(read(path) | {setting: value}))
    assert "is not the config of a language model" in fails(capsys, "evaluate", "--run", "net")


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [
        ("hidden_size", "6", "int"),
        ("epochs", 2.5, "int"),
        ("alpha", None, "float"),
        ("dropouts", {"input": "x"}, ""),
    ],
)
def test_a_recipe_edited_by_hand_is_refused(capsys, network, setting, value, kind):
    path = network / "config.json"
    config = read(path)
    path.write_text(json.dumps(config | {"recipe": config["recipe"] | {setting: value}}))
    message = fails(capsys, "evaluate", "--run", "net", "--data-dir", "corpus")
    assert "is not the config of a language model" in message
    assert not kind or f"{setting} must be of type {kind}, got {value!r}" in message


@pytest.mark.parametrize(("tuned", "phase"), [(4.0, "base"), (2.0, "finetuned")])
def test_the_better_phase_is_what_is_evaluated_further(tmp_path, network, tuned, phase):
    for part, loss in (("", 3.0), ("finetune", tuned)):
        path = network / part / "metrics.jsonl"
        lines = [json.loads(line) | {"validation_loss": loss} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert open_network(network, tmp_path / "corpus").final_phase() == phase


def test_help_names_all_commands_and_flags(capsys):
    for arguments, words in [
        (["--help"], ["compare", "train", "evaluate", "describe", "generate"]),
        (["compare", "--help"], ["--out", "--data", "--data-dir", "--epochs", "--seed", "--networks", "--force"]),
        (["train", "--help"], ["--score", "--experts", "--optimizer", "--finetune-epochs"]),
    ]:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words)
