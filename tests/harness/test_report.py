"""What a comparison leaves behind: the same result.json every time, and a provenance.json that says how."""

import json

import pytest

from experiments.harness.evaluation import chosen
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare
from tests.harness.subject import Toy, make_evaluation

EVALUATIONS = chosen({"norm": make_evaluation()}, (), None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    runs = [Run(Toy(seed=seed, finetune_epochs=0), directory / str(seed)) for seed in (0, 1)]
    return compare(runs, EVALUATIONS)


def report(directory, finished):
    write_report(directory, finished, EVALUATIONS, about={"command": "compare", "settings": {}}, title="toys")


def test_result_and_provenance(tmp_path, finished, capsys):
    report(tmp_path, finished)
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"experiment", "command", "settings", "rows"}
    row = result["rows"][1]
    assert row["facts"] == {"rate": 0.05, "seed": 1}
    assert row["cells"] == {"norm": [row["norm"]["norm"], "a note"]}
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert set(provenance) >= {"command", "commit", "versions", "devices", "matmul_precision", "seconds"}
    assert [each["run"] for each in provenance["seconds"]] == ["toy 0.05, seed 0", "toy 0.05, seed 1"]
    assert (tmp_path / "norm.txt").read_text() == "0.05 2\n"  # both seeds of one thing
    printed = capsys.readouterr().out
    assert "a note" in printed
    assert "mean ± standard deviation over seeds" in printed
    assert "result.json, provenance.json and norm.txt" in printed


def test_the_same_runs_give_the_same_result_file(tmp_path, finished):
    report(tmp_path / "a", finished)
    again = compare([trained.run for trained, _ in finished], EVALUATIONS)
    report(tmp_path / "b", again)
    assert (tmp_path / "a" / "result.json").read_bytes() == (tmp_path / "b" / "result.json").read_bytes()


def test_a_comparison_writes_over_nothing_but_its_own(tmp_path):
    require_own_result(tmp_path / "new", "toy")
    (tmp_path / "result.json").write_text('{"experiment": "toy"}')
    require_own_result(tmp_path, "toy")
    with pytest.raises(ValueError, match=r"result.json is not a result of other; choose another --out"):
        require_own_result(tmp_path, "other")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a single run; choose another --out"):
        require_own_result(tmp_path, "toy")
