"""Runs that are trained once and looked at, or copied, by all tests that need one."""

import contextlib
import io
import shutil

import pytest

from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.run import open_run
from tests.sigsoftmax import small


@pytest.fixture(scope="session")
def corpus_directory(tmp_path_factory):
    return small.write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture(scope="session")
def trained(corpus_directory, tmp_path_factory):
    """The run of the mixture, trained to its end."""
    run = small.run_of(corpus_directory, tmp_path_factory.mktemp("trained") / "net")
    run.check()
    run.prepare()
    return run.train()


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """The directory of a comparison with all evaluations, and what it printed."""
    directory, printed = tmp_path_factory.mktemp("compared"), io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        small.use_small_recipes(monkeypatch, directory)
        small.draw_few_figures(monkeypatch, drawn=("out",))
        main([*small.COMPARE, "--seeds", "2", "--out", "out"])
    return directory / "out", printed.getvalue()


@pytest.fixture(scope="session")
def quick(compared, corpus_directory):
    """A trained run of a body that is quick to compile."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        small.add_body(monkeypatch)
        run = open_run(compared[0] / "moss-seed0", corpus_directory)
        _ = run.subject.model
    return run.load()


@pytest.fixture
def network(quick, tmp_path):
    """This test's own copy of it, with its stored evaluations, in ``net``."""
    return shutil.copytree(quick.run.directory, tmp_path / "net")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A working directory with the corpus in ``corpus``, small recipes, and no time spent on figures."""
    small.draw_few_figures(monkeypatch)
    return small.use_small_recipes(monkeypatch, tmp_path)
