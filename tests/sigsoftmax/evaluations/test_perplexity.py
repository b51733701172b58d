"""Perplexity of a small language model, against one pass over the whole text; and what is stored of a run."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness.evaluation import chosen, evaluate
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.perplexity import Perplexity, text_perplexity, unigram_perplexity
from tests.command_line import only
from tests.sigsoftmax.evaluations.small_model import MODEL, PARAMS, TEXT, VOCAB, whole_loss


@pytest.mark.parametrize(("batch_size", "window"), [(1, 70), (1, 7), (4, 7), (59, 7)])
def test_perplexity_is_that_of_whole_streams(batch_size, window):
    bounds = [row * (len(TEXT) - 1) // batch_size for row in range(batch_size + 1)]
    streams = [TEXT[begin : end + 1] for begin, end in itertools.pairwise(bounds)]
    expected = np.exp(sum(whole_loss(MODEL, PARAMS, stream) for stream in streams) / (len(TEXT) - 1))
    # float32 throughout, mean over 59 words.
    found = text_perplexity(MODEL, PARAMS, TEXT, batch_size=batch_size, window=window)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 59, 64])
def test_every_label_counts_once_whatever_the_batch_size(batch_size):
    # All words are equally likely, so each label left out or counted twice shows in the 59th root.
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    assert text_perplexity(MODEL, zeros, TEXT, batch_size=batch_size, window=7) == pytest.approx(VOCAB, rel=1e-5)


def test_unigram_perplexity_counts_words_plus_one():
    train, text = np.array([0, 0, 0, 2]), np.array([2, 0, 1])
    probs = np.array([4, 1, 2]) / 7
    assert unigram_perplexity(train, text, 3) == pytest.approx((probs[0] * probs[1]) ** -0.5, rel=1e-12)
    with pytest.raises(ValueError, match="tokens must be at least 2, as the first is not scored, got 1"):
        unigram_perplexity(train, text[:1], 3)


def test_a_run_is_measured_after_each_phase(trained, tmp_path):
    numbers = evaluate(trained, chosen(EVALUATIONS, ["perplexity"], None), tmp_path)["perplexity"].numbers
    subject = trained.subject
    for name, phase in trained.phases.items():
        for split, streams in (("valid", 10), ("test", 2)):
            tokens = getattr(subject.corpus, split)
            params = phase.state.evaluated_params
            assert numbers[name][split] == text_perplexity(subject.model, params, tokens, batch_size=streams)
        # The validation of the training loop, in windows of other lengths; float32.
        best = min(line["validation_loss"] for line in phase.lines)
        assert numbers[name]["valid"] == pytest.approx(np.exp(best), rel=1e-5)
    assert numbers["final_phase"] == trained.final_phase
    assert numbers["curve"] == [
        [line["epoch"], line["train_loss"], line["validation_loss"]] for line in trained.lines
    ]
    assert (only(tmp_path / "evaluations/perplexity") / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    cells = EVALUATIONS["perplexity"].cells(numbers)
    assert list(cells) == ["trained, valid", "trained, test", "fine-tuned, valid", "fine-tuned, test"]


def test_all_that_decides_the_numbers_is_in_the_key(trained):
    """The parameters stay where more epochs bring no better ones; the curve and the streams do not."""

    def key(run):
        return EVALUATIONS["perplexity"].data(run, Perplexity())

    base = trained.phases["base"]
    longer = base._replace(lines=[*base.lines, base.lines[-1]])
    assert key(dataclasses.replace(trained, phases=trained.phases | {"base": longer})) != key(trained)
    given = trained.subject.given
    for change in ({"test_batch_size": 3}, {"evaluation_batch_size": 3}):
        settings = dataclasses.replace(given, recipe=dataclasses.replace(given.recipe, **change))
        run = dataclasses.replace(trained.run, subject=dataclasses.replace(trained.subject, given=settings))
        assert key(dataclasses.replace(trained, run=run)) != key(trained)
    assert key(dataclasses.replace(trained)) == key(trained)


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"--perplexity.window must be at least 1 and below 2\*\*31, got 0"):
        EVALUATIONS["perplexity"].check(None, Perplexity(window=0))
