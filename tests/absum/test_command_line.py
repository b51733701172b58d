"""The command line, on a little data, as its user would run it."""

import functools

import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.models import MODELS
from experiments.absum.regularizers import REGULARIZERS
from experiments.data.image_sets import IMAGE_SETS, image_set_names
from tests.absum.conftest import image_set
from tests.absum.settings import ATTACK, COMPARE, SMALL
from tests.command_line import error_line, only, read

fails = functools.partial(error_line, main)


def test_the_main_job(comparison):
    out = comparison.path
    result = read(out / "result.json")
    assert set(result) == {"experiment", "command", "settings", "dataset", "rows", "comparisons"}
    facts = [tuple(row["facts"].values()) for row in result["rows"]]
    assert facts == [(name, s, seed) for name, s in (("none", 0), ("absum", 0.003)) for seed in (0, 1, 2)]
    for row in result["rows"]:
        assert set(row) == {"facts", "cells", "accuracy", "fourier"}
        fourier = row["fourier"]
        assert fourier["epsilons"] == [0.1, 0.3]
        np.testing.assert_allclose(
            fourier["average_robust_accuracy"], np.mean(fourier["worst_accuracy"]), atol=1e-6
        )
        assert np.shape(fourier["worst_frequency"]) == (2, 2)
        assert row["cells"]["worst at 0.3"][0] == fourier["worst_accuracy"][1]
        assert 0 < row["accuracy"]["absum_ratio"] < 1
    ratios = [row["accuracy"]["absum_ratio"] for row in result["rows"]]
    assert all(absum < none for none, absum in zip(ratios[:3], ratios[3:], strict=True))
    for name in ("accuracy.png", "heatmaps.png", "attacked_images.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert (out / name).with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    network = out / "absum-seed0"
    assert len((network / "metrics.jsonl").read_text().splitlines()) == 1
    assert (network / "checkpoints").is_dir()
    assert set(read(network / "config.json")) == {"experiment", "identity", "settings"}
    assert read(network / "config.json")["identity"]["strength"] == 0.003
    for words in ("worst at 0.3", "average robust", "filter-sum ratio", "mean ± standard deviation over seeds"):
        assert words in comparison.printed
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob("partial.npz"))


def test_how_it_was_made_lies_beside_the_result(comparison):
    provenance = read(comparison.path / "provenance.json")
    assert provenance["devices"] == "8 x cpu"
    assert {"command", "commit", "versions", "matmul_precision", "finished"} <= set(provenance)
    assert [each["run"] for each in provenance["seconds"]][::3] == ["none, seed 0", "absum, seed 0"]
    assert all(each["train"] > 0 and each["fourier"] > 0 for each in provenance["seconds"])
    assert "seconds" not in (comparison.path / "result.json").read_text()


def test_equal_tasks_are_compiled_once(comparison):
    # Before, there was one network without a regulariser. Five more, three of them with another regulariser, take
    # its initialisation and its step; validation, accuracy and attack are those of the model. Then, pairs.
    assert len(comparison.programs) == 3


def test_what_is_done_is_used_again(comparison):
    files = {path: path.stat().st_mtime_ns for path in comparison.path.rglob("*seed*/**/*") if path.is_file()}
    before = (comparison.path / "result.json").read_bytes()
    main([*COMPARE, "--out", str(comparison.path)])
    assert (comparison.path / "result.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_result_can_be_run_again(tmp_path):
    main([*SMALL, *ATTACK, "--regularizers", "absum", "--strengths", "0.02", "--out", "out"])
    main(["--config", "out/result.json", "--out", "again"])
    assert (tmp_path / "again" / "result.json").read_bytes() == (tmp_path / "out" / "result.json").read_bytes()


def test_a_result_is_run_again_with_other_flags(comparison, tmp_path, capsys):
    result = str(comparison.path / "result.json")
    main(["--config", result, "--regularizers", "none", "--seeds", "1", "--out", "again"])
    rows = read(tmp_path / "again" / "result.json")["rows"]
    assert rows == read(comparison.path / "result.json")["rows"][:1]
    assert "is of the command compare, not of train" in fails(capsys, "train", "--config", result)
    assert "must be followed by the path" in fails(capsys, "--config")


def test_train_then_evaluate(tmp_path, capsys):
    main(["train", *SMALL, "--strength", "0.002", "--seed", "3", "--out", "net"])
    assert not (tmp_path / "net" / "result.json").exists()
    assert "evaluate it with: python -m experiments.absum evaluate --run net" in capsys.readouterr().out
    main(["evaluate", "--run", "net", *ATTACK, "--out", "attacked"])
    row = read(tmp_path / "attacked" / "result.json")["rows"][0]
    assert row["facts"] == {"regularizer": "absum", "strength": 0.002, "seed": 3}
    assert row["fourier"]["epsilons"] == [0.1, 0.3]
    assert not (tmp_path / "net" / "evaluations").exists()


def test_one_evaluation_alone(network):
    main(["evaluate", "--run", "net", "--evaluations", "accuracy"])
    assert set(read(network / "result.json")["rows"][0]) == {"facts", "cells", "accuracy"}


def test_a_checkpoint_is_evaluated_by_its_name(network, capsys):
    main(["evaluate", "--run", "net", "--evaluations", "accuracy", "--at", "1"])
    there = [only(directory / "evaluations" / "accuracy") for directory in (network / "at" / "1", network)]
    assert there[0].name == there[1].name
    found, expected = (read(directory / "numbers.json") for directory in there)
    assert (found["key"], found["numbers"]) == (expected["key"], expected["numbers"])  # there is one epoch
    message = fails(capsys, "evaluate", "--run", "net", "--evaluations", "accuracy", "--at", "2")
    assert "--at must be a checkpoint that is kept, of 1, train, got '2'" in message


def test_select_looks_at_validation_images_only_and_compiles_nothing_for_a_strength(
    comparison, tmp_path, monkeypatch, splits, count_compilations
):
    command = ["select", *SMALL, *ATTACK, "--strengths", "0", "1000"]
    with count_compilations() as compiled:
        main([*command, "--out", "first"])
    assert compiled.count == 1  # beyond what the comparison has compiled: as many predictions as validation images
    result = read(tmp_path / "first" / "result.json")
    assert [row["facts"]["strength"] for row in result["rows"]] == [0, 1000]
    selection = result["comparisons"]["fourier"]
    assert [row["strength"] for row in selection["strengths"]] == [0, 1000]
    best = max(selection["strengths"], key=lambda row: row["score"])
    assert selection["best"] == best["strength"]
    assert (tmp_path / "first" / "provenance.json").exists()
    assert not (tmp_path / "first" / "findings.json").exists()
    assert (tmp_path / "first" / "selection.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "first" / "selection.pdf").read_bytes().startswith(b"%PDF")
    main(["report", "first"])
    page = (tmp_path / "first" / "report.html").read_text()
    assert f"strengths of absum by fourier on validation images, best: {best['strength']:g}" in page
    assert "selection.png" in page
    train_images, train_labels, test_images, test_labels = splits
    other = train_images, train_labels, 255 - test_images, test_labels[::-1].copy()
    monkeypatch.setitem(IMAGE_SETS, "tiny", image_set(other))
    main([*command, "--out", "second"])
    assert read(tmp_path / "second" / "result.json")["comparisons"]["fourier"] == selection


def test_a_strength_can_be_chosen_by_another_evaluation(tmp_path):
    flags = ["--by", "noise", "--noise.images", "16", "--noise.bandwidths", "0", "--noise.epsilons", "2"]
    main(["select", *SMALL, *flags, "--strengths", "0", "0.01", "--seeds", "2", "--out", "out"])
    selection = read(tmp_path / "out" / "result.json")["comparisons"]["noise"]
    for row in selection["strengths"]:
        stored = [tmp_path / "out" / f"{row['strength']:g}-seed{seed}/evaluations/noise" for seed in (0, 1)]
        numbers = [read(only(each) / "numbers.json")["numbers"] for each in stored]
        assert row["scores"] == [each["accuracy"]["high"] for each in numbers]
        assert row["score"] == pytest.approx(sum(row["scores"]) / 2, abs=1e-6)  # six digits are kept
        assert set(row["means"]) == {"low-frequency noise", "high-frequency noise", "white noise"}


def test_several_models_are_compared_by_one_command(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "slim", MODELS["narrow"])
    command = [*SMALL, "--models", "narrow", "slim", "--regularizers", "none", "absum", "--seeds", "2"]
    main(["compare", *command, *ATTACK, "--evaluations", "fourier", "--out", "out"])
    result = read(tmp_path / "out" / "result.json")
    facts = [(row["facts"]["model"], row["facts"]["regularizer"], row["facts"]["seed"]) for row in result["rows"]]
    assert facts == [(m, r, s) for m in ("narrow", "slim") for r in ("none", "absum") for s in (0, 1)]
    fourier = result["comparisons"]["fourier"]
    assert list(fourier["accuracies"]) == ["narrow none", "narrow absum", "slim none", "slim absum"]
    # Pairs are of one model; both are the same network here.
    narrow, slim = fourier["others"]
    assert (narrow["name"], slim["name"], narrow["columns"]) == ("narrow none", "slim none", slim["columns"])
    findings = read(tmp_path / "out" / "findings.json")["findings"]
    assert len(findings) == 8 * 4  # the worst of each epsilon, of the attacked images and of validation images
    assert {"run", "model", "regularizer", "strength", "seed", "attack", "threat_model", "epsilon"} < set(
        findings[0]
    )


def test_help_names_all_commands_flags_and_choices(capsys):
    regularizers, models = [*REGULARIZERS, "package.module:name"], [*MODELS, "package.module:name"]
    models.remove("narrow")  # an entry of these tests
    data = [name for name in image_set_names() if name != "tiny"]
    for arguments, words in [
        (["--help"], ["compare", "train", "evaluate", "select", "export", "report"]),
        (
            ["compare", "--help"],
            ["--out", "--data-dir", "--epochs", "--seed", "--force", *regularizers, *models, *data],
        ),
        (["train", "--help"], ["--regularizer", "--strength", *regularizers]),
        (["evaluate", "--help"], ["--run", "--out", "--data", "--fourier.epsilons", "accuracy, fourier"]),
        (["select", "--help"], ["--strengths", *regularizers]),
    ]:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 0
        printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert [word for word in words if word not in printed] == []
        assert "(required)" not in printed or arguments[0] == "evaluate"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regularizers", "none", "absurd"], "regularizer must be one of none, weight_decay, l1, absum"),
        (["--regularizers", "none", "none"], "--regularizers must be different names"),
        (["train", "--strength", "-1"], "--strength must be finite and not negative, got -1.0"),
        (["train", "--strength", "nan"], "--strength must be finite and not negative, got nan"),
        (["--fourier.epsilons", "-0.1"], "--fourier.epsilons must lie in [0, 1]"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--epochs", "100000000000000000000"], "--epochs must be at least 1 and below 2**31"),
        (["--epochs", "2147483647"], "--epochs must be at most 536870911, of 4 steps each"),
        (["train", "--epochs", "9999999999"], "--epochs must be at least 1 and below 2**31"),
        (["train", "--seed", "9999999999"], "--seed must not be negative, and below 2**31"),
        (["train", "--seed", "-1"], "--seed must not be negative"),
        (["--seed", "2147483647", "--seeds", "2"], "--seed must not be negative, and below 2**31"),
        (["--seeds", "100000000000000000000"], "--seed"),
        (["--model", "vgg"], "--model must be one of lenet, resnet8, resnet18"),
        (["--data", "imagenet"], "data set must be one of embedded, mnist"),
        (["--data", "mnist"], "--data-dir"),
        (["train", "--batch-size", "6000"], "batch_size must be at most 128"),
        (["train", "--validation-size", "5000"], "validation_size must be 0 to 159"),
        (["--fourier.images", "41"], "--fourier.images must be at most the 40 test images, got 41"),
        (
            ["--evaluations", "fourier", "noise", "--fourier.images", "41", "--noise.images", "50"],
            "--fourier.images must be at most the 40 test images, got 41; --noise.images must be at most the 40",
        ),
        (["--fourier.batch-size", "0"], "--fourier.batch-size must be at least 1"),
        (["--accuracy.batch-size", "0"], "--accuracy.batch-size must be at least 1"),
        (["--evaluations", "speed"], "--evaluations must be of accuracy, fourier, fourier_l2, worst_frequency"),
        (["--learning-rate", "0"], "--learning-rate must be positive"),
        (["--momentum", "1"], "--momentum must lie in [0, 1)"),
        (["--strengths", "0.1"], "--strengths must be one for each of none, weight_decay"),
        (["--strengths"], "--strengths must be followed by at least one value, got none"),
        (["--models"], "--models must be followed by at least one value, got none"),
        (["--evaluations", "--seeds", "2"], "--evaluations must be followed by at least one value, got none"),
        (["--noise.bandwidths"], "--noise.bandwidths must be followed by at least one value, got none"),
        (["--models", "slim", "lenet"], "--model must be among --models slim lenet where both are given, got nar"),
        (["--pgd.images", "8"], "--pgd.images needs the evaluation pgd, got accuracy, fourier"),
        (["select", "--noise.images", "8"], "--noise.images needs the evaluation noise, got fourier"),
        (["select", "--fourier.split", "test"], "--fourier.split must not be given to select"),
        ([*ATTACK, "--strengths", "0", "0.1", "-1", "0"], "--strength must be finite and not negative"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["select", "--strengths"], "--strengths must be followed by at least one value, got none"),
        (["select", "--by", "checks"], "--by must be one of fourier, fourier_l2, worst_frequency, noise, pgd"),
        (["--models", "narrow", "narrow"], "--models must be different names"),
        (["select", "--fourier.images", "33"], "--fourier.images must be at most the 32 validation images"),
        (["train", "--regularizer", "none", "--strength", "1"], "'none' takes no --strength, got 1.0; leave it"),
        (["train", "--distributed", "maybe"], "--distributed must be auto, on or off, got 'maybe'"),
        (["train", "--distributed", "on"], "--distributed on needs a cluster"),
        (["attack"], "the command must be one of compare, train, evaluate, evaluate-own, select, export,"),
        (["train", "--no-such-flag"], "--no-such-flag"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, capsys, arguments, message):
    has_command = arguments[0][0] != "-"
    command = arguments[:1] if has_command else ["compare"]
    small = [] if command == ["attack"] else [*SMALL, "--out", "out"]
    attack = ATTACK if command in (["compare"], ["select"]) else []
    assert message in fails(capsys, *command, *small, *attack, *arguments[has_command:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--batch-size", "6000"], ["--validation-size", "5000"]])
def test_the_corrected_command_works(tmp_path, capsys, wrong):
    fails(capsys, "train", *SMALL, "--out", "net", *wrong)
    main(["train", *SMALL, "--out", "net"])
    assert (tmp_path / "net" / "metrics.jsonl").exists()


def test_a_comparison_does_not_overwrite_a_network(network, capsys):
    before = (network / "config.json").read_text()
    assert "holds a single run" in fails(capsys, *SMALL, *ATTACK, "--out", "net")
    assert (network / "config.json").read_text() == before


def test_a_network_does_not_overwrite_a_comparison(tmp_path, capsys):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "result.json").write_text("{}")
    for more in ([], ["--force"]):
        assert "net holds a result, not a run" in fails(capsys, "train", *SMALL, "--out", "net", *more)
    assert "is not a result of absum" in fails(capsys, *SMALL, *ATTACK, "--out", "net")


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, capsys, network):
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, "train", *SMALL, "--out", "file/net")
    assert "file" in fails(capsys, "evaluate", "--run", "net", *ATTACK, "--out", "file/out")
