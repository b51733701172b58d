"""Training of a language model in its two phases: interrupted, made longer, loaded; and what it reads."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from experiments.data.text import load_corpus
from experiments.sigsoftmax.run import WordModel, open_run
from experiments.training.averaging import Averaging
from tests.sigsoftmax.small import MIXTURE, assert_same_training, contents, run_of


@pytest.fixture(scope="module")
def longer(corpus_directory, tmp_path_factory):
    """Two epochs, and two of fine-tuning, in one go."""
    run = run_of(corpus_directory, tmp_path_factory.mktemp("longer"), finetune_epochs=2)
    run.prepare()
    return run.train()


@pytest.fixture
def network(trained, tmp_path):
    """This test's own copy of the run of the LSTM."""
    return shutil.copytree(trained.run.directory, tmp_path / "net")


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, corpus_directory, longer, monkeypatch):
    """Interrupted within an epoch of either phase: hidden state, averages and position come back."""
    parts = run_of(corpus_directory, tmp_path, finetune_epochs=2, checkpoint_every=2)
    parts.prepare()
    windows = WordModel.training_windows
    calls, interrupted = 0, set()

    def breaking(self, lengths, seed, epoch, start):
        nonlocal calls
        for index, batch in enumerate(windows(self, lengths, seed, epoch, start)):
            calls += 1
            if calls % 13 == 7 and start + index:  # now and then, within an epoch
                interrupted.add(seed)
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(WordModel, "training_windows", breaking)
    while True:
        try:
            resumed = parts.train()
            break
        except KeyboardInterrupt:
            pass
    assert len(interrupted) == 2  # seeds, so both phases
    assert_same_training(resumed, longer)


def test_fine_tuning_can_be_given_more_epochs(network, corpus_directory, longer, capsys):
    run = run_of(corpus_directory, network, finetune_epochs=2)
    before = contents(network / "best")
    run.check()
    run.prepare()
    grown = run.train()
    assert_same_training(grown, longer)
    assert contents(network / "best") == before  # the first phase was done
    assert "anew" not in capsys.readouterr().err


def test_the_first_phase_can_be_given_more_epochs_and_fine_tuning_is_done_anew(
    tmp_path, network, trained, corpus_directory, capsys
):
    run = run_of(corpus_directory, network, epochs=4)
    run.check()
    run.prepare()
    capsys.readouterr()
    grown = run.train()
    before, after = trained.places["base"], grown.places["base"]
    line = "fine-tune moss, seed 0: begins anew, as the phase before it has changed: from its step"
    line += f" {after['step']} (epoch {after['epoch']}), not {before['step']} (epoch {before['epoch']})"
    assert line in capsys.readouterr().err.splitlines()
    assert grown.places["finetune"]["began_from_step"] == after["step"] > before["step"]
    assert [len(phase.lines) for phase in grown.phases.values()] == [4, 1]

    direct = run_of(corpus_directory, tmp_path / "direct", epochs=4)
    direct.prepare()
    assert grown.phases["base"].lines[-1]["averaged_steps"] > 0  # begun in an epoch that was added
    assert_same_training(grown, direct.train())
    assert_same_training(open_run(network, corpus_directory).load(), grown)
    changed = [phases.phases["finetune"].state.params for phases in (grown, trained)]
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, changed), strict=True))


def test_fewer_epochs_end_the_first_phase_early(tmp_path, network, trained, corpus_directory, capsys):
    """The best of the two epochs is the first, from which the fine-tuning began."""
    before = contents(network / "finetune")
    run = run_of(corpus_directory, network, epochs=1)
    run.check()
    run.prepare()
    ended = run.train()
    assert [len(phase.lines) for phase in ended.phases.values()] == [1, 1]
    assert trained.places == ended.places
    assert contents(network / "finetune") == before
    assert "anew" not in capsys.readouterr().err
    direct = run_of(corpus_directory, tmp_path / "direct", epochs=1)
    direct.prepare()
    assert_same_training(ended, direct.train())
    assert_same_training(open_run(network, corpus_directory).load(), ended)


def test_fewer_epochs_than_the_best_are_refused(trained, corpus_directory):
    before = contents(trained.run.directory)
    message = "has 1 epochs of fine-tune moss, seed 0, more than the 0 asked for, and of them the best, 1, is kept"
    with pytest.raises(ValueError, match=message):
        run_of(corpus_directory, trained.run.directory, finetune_epochs=0).check()
    assert contents(trained.run.directory) == before


def test_what_was_trained_is_loaded_without_a_step(trained, corpus_directory, monkeypatch):
    monkeypatch.delattr("experiments.harness.run.train")
    before = contents(trained.run.directory)
    assert_same_training(open_run(trained.run.directory, corpus_directory).load(), trained)
    assert contents(trained.run.directory) == before


def test_fine_tuning_starts_from_the_averages_at_its_own_rate(corpus_directory, trained):
    subject = run_of(corpus_directory, None, learning_rate=3.0, finetune_learning_rate=4.0, epochs=5).subject
    base, tuned = (make(params) for make, params in zip(subject.phases().values(), (None, "given"), strict=True))
    assert (float(base.task.schedule(0)), base.num_epochs) == (3.0, 5)
    assert (float(tuned.task.schedule(0)), tuned.num_epochs) == (4.0, 1)
    # Neither the dropout masks nor the windows of the first phase come again.
    assert base.seed != tuned.seed
    lengths = [[int(batch["length"][0]) for batch in phase.data.epoch(0, 0)] for phase in (base, tuned)]
    assert lengths[0] != lengths[1]
    assert (base.initial_params, tuned.initial_params) == (None, "given")
    assert base.averaging == Averaging(1)
    assert tuned.averaging == Averaging(1, from_start=True)
    assert base.keep_best
    assert tuned.keep_best
    # What a phase hands on is the average, and that was begun in the first phase.
    state = trained.phases["base"].state
    assert int(trained.phases["finetune"].state.average.count) > 0
    assert state.evaluated_params is state.average.params


def test_padding_changes_nothing_but_rounding(tmp_path, trained, corpus_directory):
    """Of a whole run, with all dropout: masks are drawn by row, feature and word, never by position."""
    run = run_of(corpus_directory, tmp_path, window_sizes=1)
    run.prepare()
    found = run.train()
    sizes = {
        each.subject.recipe.window_sizes: {batch["tokens"].shape[1] for batch in windows_of(each.subject)}
        for each in (found, trained)
    }
    assert sizes == {1: {9}, 2: {6, 9}}
    for name, phase in trained.phases.items():
        (state, lines), (wanted, expected) = found.phases[name], phase
        # float32: sums over the positions are made in other parts, over three epochs of ten steps of rate 8.
        for one, other in zip(*map(jax.tree.leaves, (state, wanted)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        for line, other in zip(lines, expected, strict=True):
            assert [line[key] for key in ("epoch", "step")] == [other[key] for key in ("epoch", "step")]
            np.testing.assert_allclose(line["train_loss"], other["train_loss"], rtol=1e-5)


def windows_of(subject):
    return subject.training_windows(subject.recipe.window_lengths(), subject.given.seed, 0, 0)


def test_sgd_averages_once_the_loss_rises_and_adam_does_not(corpus_directory):
    for optimizer, averages in (("sgd", True), ("adam", False)):
        base = run_of(corpus_directory, None, optimizer=optimizer).subject.phases()["base"](None)
        assert (base.averaging is not None) == averages


def test_without_epochs_of_fine_tuning_there_is_none(tmp_path, corpus_directory):
    run = run_of(corpus_directory, tmp_path, epochs=1, finetune_epochs=0)
    run.prepare()
    assert list(run.train().phases) == ["base"]
    assert not (tmp_path / "finetune").exists()


@pytest.mark.parametrize(("tuned", "phase"), [(4.0, "base"), (3.0, "base"), (2.0, "finetune")])
def test_the_better_phase_is_what_is_evaluated_further(trained, tuned, phase):
    phases = {
        name: each._replace(lines=[line | {"validation_loss": loss} for line in each.lines])
        for (name, each), loss in zip(trained.phases.items(), (3.0, tuned), strict=True)
    }
    found = dataclasses.replace(trained, phases=phases)
    assert found.final_phase == phase
    assert found.params is phases[phase].state.evaluated_params


def test_the_lines_of_fine_tuning_are_counted_on(trained):
    assert [line["epoch"] for line in trained.lines] == [1, 2, 3]
    assert all(line["seconds"] > 0 and line["tokens_per_second"] > 0 for line in trained.lines)


def test_validation_counts_every_target_once_whatever_the_devices(trained):
    windows = list(trained.subject.validation_windows())
    assert {len(batch["tokens"]) for batch in windows} == {16}  # ten streams, padded to a multiple of eight
    assert sum(batch["where"].sum() for batch in windows) == len(trained.subject.corpus.valid) - 1


def test_the_identity_is_all_but_the_length_and_what_is_done_after_training(corpus_directory):
    def identity(**changes):
        return run_of(corpus_directory, None, **changes).subject.identity

    tuning = {"finetune_learning_rate": 2, "finetune_bptt_excess": 2}
    assert identity(epochs=9, finetune_epochs=9, test_batch_size=9, **tuning) == identity()
    base, tuned = (make(None) for make in run_of(corpus_directory, None, **tuning).subject.phases().values())
    assert (base.own, tuned.own) == ({}, tuning)
    for name, value in {
        "patience": 2,
        "clip": 1.0,
        "evaluation_batch_size": 9,
    }.items():
        assert identity(**{name: value}) != identity(), name
    corpus = load_corpus("ptb", corpus_directory)
    for split in ("train", "valid"):
        other = dataclasses.replace(corpus, **{split: getattr(corpus, split)[:-1]})
        subject = WordModel(run_of(corpus_directory, None).subject.given, other)
        assert subject.identity != identity(), split


def test_equal_settings_train_by_one_task(corpus_directory):
    """Another seed or length compiles nothing, nor does fine-tuning at the same rate."""
    runs = [run_of(corpus_directory, None), run_of(corpus_directory, None)]
    tasks = {make(None).task for run in runs for make in run.subject.phases().values()}
    assert len(tasks) == 1
    assert run_of(corpus_directory, None, clip=1.0).subject.phases()["base"](None).task not in tasks


def test_the_recipe_of_the_tests_is_whole():
    MIXTURE.check()
