"""What a comparison leaves behind: the same result.json every time, and a provenance.json that says how."""

import json

import numpy as np
import pytest

from experiments.harness.evaluation import Comparison, chosen
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare
from experiments.harness.stored import Measured
from experiments.harness.tables import with_tables
from tests.command_line import only
from tests.harness.subject import Toy, make_evaluation

EVALUATIONS = chosen({"norm": make_evaluation()}, (), None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    runs = [Run(Toy(seed=seed, finetune_epochs=0), directory / str(seed)) for seed in (0, 1)]
    with compare(runs, EVALUATIONS, directory) as found:
        return found


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


def sums(finished, settings, partial):
    """How much the norms of two runs differ, part by part; what is there already is not measured again."""
    done = partial.read()
    norms = [measured.numbers["norm"] for _, measured in finished]
    partial.write(done=np.asarray(norms))
    return Measured({"order": settings.order, "difference": norms[1] - norms[0], "resumed": len(done)})


def test_runs_are_measured_together(tmp_path, finished, capsys):
    def table(numbers):
        return {"differences": (["order", "difference"], [["2", f"{numbers['difference']:.3f}"]])}

    comparison = Comparison(sums, tables=table, products=lambda measured: {"difference.txt": "made"})
    evaluations = chosen({"norm": make_evaluation(comparison=comparison)}, (), None)

    def report(runs=finished):
        write_report(tmp_path, runs, evaluations, about={}, title="toys")
        return json.loads((tmp_path / "result.json").read_text()).get("comparisons")

    found = report()
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    difference = rows[1]["norm"]["norm"] - rows[0]["norm"]["norm"]
    assert found["norm"]["difference"] == difference != 0
    assert found["norm"]["tables"] == {"differences": [["order", "difference"], [["2", f"{difference:.3f}"]]]}
    assert (tmp_path / "difference.txt").read_text() == "made"
    assert "differences" in capsys.readouterr().out
    text = "<!-- table result: differences -->\nold\n<!-- end -->"
    assert f"| 2 | {difference:.3f} |" in with_tables(text, tmp_path)
    with pytest.raises(ValueError, match="a table must be one of differences, got 'other'"):
        with_tables(text.replace("differences", "other"), tmp_path)
    # Read again while the runs are the same ones; made anew for others; nothing to compare in one.
    stored = only(tmp_path / "comparisons" / "norm") / "numbers.json"
    before = stored.stat().st_mtime_ns
    report()
    assert stored.stat().st_mtime_ns == before
    assert report(finished[::-1])["norm"]["difference"] == -difference
    assert report() == found
    assert stored.stat().st_mtime_ns == before
    assert report(finished[:1]) is None


def test_the_same_runs_give_the_same_result_file(tmp_path, finished):
    report(tmp_path / "a", finished)
    with compare([trained.run for trained, _ in finished], EVALUATIONS, tmp_path / "b") as again:
        report(tmp_path / "b", again)
    assert (tmp_path / "a" / "result.json").read_bytes() == (tmp_path / "b" / "result.json").read_bytes()


def test_a_comparison_writes_over_nothing_but_its_own(tmp_path):
    require_own_result(tmp_path / "new", "toy", "compare")
    (tmp_path / "result.json").write_text('{"experiment": "toy", "command": "compare"}')
    require_own_result(tmp_path, "toy", "compare")
    for names in (("other", "compare"), ("toy", "evaluate")):
        with pytest.raises(ValueError, match=f"result.json is not a result of {' '.join(names)}; choose another"):
            require_own_result(tmp_path, *names)
    (tmp_path / "config.json").write_text("{}")
    require_own_result(tmp_path, "toy", "compare", run=tmp_path)
    with pytest.raises(ValueError, match="holds a single run; choose another --out"):
        require_own_result(tmp_path, "toy", "compare")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"is damaged: .*; remove it, or choose another --out"):
        require_own_result(tmp_path, "toy", "compare", run=tmp_path)
