"""Every benchmark in sizes that try the code out, and the command that runs them."""

import math
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import fourier_sweep, sigsoftmax_cases
from benchmarks.__main__ import main
from benchmarks.accelerator.__main__ import parser
from benchmarks.accelerator.items import ITEMS
from benchmarks.loss_products import loss_products
from benchmarks.table import BENCHMARKS, load

ROOT = Path(__file__).parents[2]
# The others measure memory in processes of their own, whose work is tried out below.
IN_PROCESS = (
    "absum_step", "adversarial_step", "sweep_throughput", "sweep_loop", "sweep_compiles", "worst_frequency",
    "conv_norms", "gradient_attacks", "lm_step", "log_sigsoftmax", "cross_entropy", "linear_time",
    "linear_products", "linear_blocks", "mixture_products", "mixture_time",
)  # fmt: skip


@pytest.fixture(autouse=True)
def plain_formulas():
    """What a user would write relies on NumPy's promotion of ranks, which is an error in the other tests."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PROCESS)
def test_times_are_measured(name):
    rows = list(load(name)(True))
    assert rows
    for row in rows:
        assert math.isfinite(row.value)
        assert row.details
        assert row.holds if name == "sweep_compiles" else row.value > 0


def test_a_fresh_process_measures_memory(capsys):
    assert main(["rank_memory", "--tiny"]) == 0  # below 4 GiB
    assert "rank 16 of 32 x 16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (fourier_sweep.main, ["2", "tiny"]),
        (sigsoftmax_cases.main, ["linear_sigsoftmax_blocked", "tiny"]),
        (sigsoftmax_cases.main, ["mixture_softmax_wikitext2_plain", "tiny"]),
    ],
)
def test_what_a_fresh_process_prints(program, arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", *arguments])
    program()
    assert capsys.readouterr().out.startswith('{"bytes": ')


@pytest.mark.parametrize(
    "names", [("linear_{}_blocked", "linear_{}_materialised"), ("mixture_{}_blocked", "mixture_{}_plain")]
)
@pytest.mark.parametrize("score", ["softmax", "sigsoftmax"])
def test_both_sides_of_a_ratio_compute_the_same(names, score):
    both = (sigsoftmax_cases.cases(tiny=True)[name.format(score)] for name in names)
    (ours, gradients), (theirs, expected) = (case.compiled()(*case.arguments()) for case in both)
    # float32 sums over 640 words.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), gradients, expected)


def test_the_products_are_those_of_the_loss():
    keys = jax.random.split(jax.random.key(0))
    hidden, embedding = (jax.random.normal(key, (n, 3)) for key, n in zip(keys, (4_200, 700), strict=True))
    logits, dhidden, dembedding = jax.jit(loss_products)(hidden, embedding)
    assert logits.shape[1] < len(embedding)  # more than one block
    np.testing.assert_allclose(
        dembedding, (hidden @ embedding.T).T @ hidden, rtol=1e-4, atol=1e-2
    )  # sums of 4,200 float32
    assert dhidden.shape == hidden.shape
    assert bool(jnp.all(jnp.isfinite(dhidden)))


def test_the_list_says_what_each_measures(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert all(len(line.split()) > 5 for line in lines)


@pytest.fixture
def own_benchmarks(tmp_path, monkeypatch):
    """A module of somebody else's, with an entry in the table for each of its functions."""
    (tmp_path / "own_benchmarks.py").write_text(
        "from benchmarks.measure import Row\n"
        "from benchmarks.table import NotAvailableError\n"
        "def good(tiny): yield Row('good', 1.0, 1.5)\n"
        "def bad(tiny): yield from (Row('bad', 2.0, 1.5), Row('good', 1.0, 1.5))\n"
        "def absent(tiny):\n    yield Row('first', 1.0, 1.5)\n    raise NotAvailableError('pip install it')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NPROC", raising=False)
    table = {name: f"own_benchmarks:{name}" for name in ("good", "bad", "absent")}
    monkeypatch.setattr("benchmarks.table.BENCHMARKS", table)
    monkeypatch.setattr("benchmarks.__main__.BENCHMARKS", table)
    return table


@pytest.mark.parametrize(
    ("names", "status"), [(["good"], 0), (["bad"], 1), (["good", "bad", "good"], 1), (["absent"], 1), ([], 1)]
)
def test_a_missed_bar_is_the_exit_status(own_benchmarks, names, status):
    assert main(names) == status


@pytest.mark.usefixtures("own_benchmarks")
def test_what_cannot_be_run_is_left_out(own_benchmarks, capsys):
    del own_benchmarks["bad"]
    assert main([]) == 0
    assert "absent is left out: pip install it" in capsys.readouterr().out


@pytest.mark.usefixtures("own_benchmarks")
def test_no_measuring_with_a_thread_pool_of_another_size(monkeypatch, capsys):
    monkeypatch.setenv("NPROC", "32")
    with pytest.raises(SystemExit) as exit_request:
        main(["good"])
    assert exit_request.value.code == 2
    assert "NPROC must not be set" in capsys.readouterr().err


def test_the_data_directory_goes_to_who_takes_it(capsys, tmp_path):
    with pytest.raises(ValueError, match="t10k-images"):
        main(["worst_frequency", "--tiny", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["lm_step", "--tiny", "--data-dir", str(tmp_path)])
    assert "--data-dir is for worst_frequency, got lm_step" in capsys.readouterr().err


def test_an_unknown_name(capsys):
    with pytest.raises(SystemExit) as exit_request:
        main(["absum_stpe"])
    assert exit_request.value.code == 2
    assert "NAME must be one of absum_step, " in capsys.readouterr().err


def test_the_page_names_every_benchmark_and_every_item():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    measured, items = (page.split(title)[1].split("\n## ")[0] for title in ("## What is measured", "## On an acc"))
    assert re.findall(r"^\| `(\w+)`", measured, re.MULTILINE) == list(BENCHMARKS)
    assert re.findall(r"^\| `(\w+)`", items, re.MULTILINE) == list(ITEMS)


def test_the_page_says_commands_that_there_are():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    named = re.findall(r"python3 -m benchmarks ((?:\w+ ?)+)", page)
    assert len(named) == 11
    assert {name for names in named for name in names.split()} <= set(BENCHMARKS)
    (command,) = re.findall(r"^python3 -m benchmarks\.accelerator (.*)$", page, re.MULTILINE)
    options = parser().parse_args(shlex.split(command))
    assert options.minutes == 9
