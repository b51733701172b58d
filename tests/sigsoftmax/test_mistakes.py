"""Mistakes of a user are one line before anything is written."""

import functools

import pytest

from experiments.sigsoftmax.__main__ import main
from tests.command_line import error_line

fails = functools.partial(error_line, main)
pytestmark = pytest.mark.usefixtures("corpus")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "awd"], "recipe must be one of small, mos_small"),
        (["train", "--score", "max"], "--score must be one of softmax, sigsoftmax, sigmoid, relu, or package"),
        (["compare", "mos_ptb"], "recipe must be one of small, awd_ptb, awd_wikitext2, got 'mos_ptb'"),
        (["--networks", "softmax", "mox"], "--networks must be one of softmax"),
        (["--networks", "mos", "mos"], "--networks must be different names"),
        (["--data-dir", "nowhere"], "nowhere: must be a directory"),
        (["--data", "shakespeare"], "one of embedded, ptb, wikitext2, text:DIRECTORY, got 'shakespeare'"),
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
        (["train", "--keep-checkpoints", "1"], "--keep-checkpoints must be at least 2"),
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
            "the command must be one of compare, train, evaluate, describe, generate, export, report, got 'trian'",
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
