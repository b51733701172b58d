"""The recipes: the published ones as they were published, and what can be changed of them."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.data.text import CORPORA
from experiments.sigsoftmax.models import BODIES, num_parameters
from experiments.sigsoftmax.recipes import MIXTURES, OPTIMIZERS, RECIPES
from experiments.sigsoftmax.run import build_model


@pytest.mark.parametrize(
    ("name", "sizes", "rates", "batch", "dropouts"),
    [
        ("awd_ptb", (400, 1150, 400, 1), (30, 30), 20, (0.4, 0.25, 0.4, 0.1, 0.0, 0.5)),
        ("awd_wikitext2", (400, 1150, 400, 1), (30, 30), 80, (0.4, 0.2, 0.65, 0.1, 0.0, 0.5)),
        ("mos_ptb", (280, 960, 620, 15), (20, 25), 12, (0.4, 0.225, 0.4, 0.1, 0.29, 0.5)),
        ("mos_wikitext2", (300, 1150, 650, 15), (15, 20), 15, (0.4, 0.2, 0.55, 0.1, 0.29, 0.5)),
    ],
)
def test_the_recipes_are_the_published_ones(name, sizes, rates, batch, dropouts):
    recipe = RECIPES[name]
    assert (recipe.embedding_size, recipe.hidden_size, recipe.last_size, recipe.num_experts) == sizes
    assert (recipe.learning_rate, recipe.finetune_learning_rate, recipe.batch_size) == (*rates, batch)
    assert tuple(dataclasses.asdict(recipe.dropouts).values()) == dropouts
    shared = (recipe.alpha, recipe.beta, recipe.weight_decay, recipe.clip, recipe.bptt, recipe.patience)
    assert shared == (2, 1, 1.2e-6, 0.25, 70, 5)
    assert (recipe.num_layers, recipe.body, recipe.optimizer) == (3, "lstm", "sgd")


@pytest.mark.parametrize(
    ("name", "parameters", "arrays"),
    [
        ("awd_ptb", 24_221_600, 14),
        ("awd_wikitext2", 33_556_078, 14),
        ("mos_ptb", 21_500_620, 17),
        ("mos_wikitext2", 34_909_528, 17),
    ],
)
def test_the_parameters_are_those_of_the_published_logs(name, parameters, arrays):
    """Their arrays too, over which dynamic evaluation takes a mean."""
    recipe = RECIPES[name]
    published = CORPORA[recipe.data].published
    model = build_model(recipe, "sigsoftmax", published.vocabulary)
    assert num_parameters(model) == parameters
    window = np.zeros((1, 1), np.int32), np.ones((1, 1), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *window, model.initial_carry(1), None)
    assert len(jax.tree.leaves(shapes)) == arrays


def test_the_small_mixture_differs_from_the_small_network_by_its_output_alone():
    small, mixture = RECIPES["small"], RECIPES["mos_small"]
    assert mixture == dataclasses.replace(small, hidden_size=124, last_size=128, num_experts=2)
    words = 4403  # of the embedded text
    counts = [num_parameters(build_model(each, "softmax", words)) for each in (small, mixture)]
    assert abs(counts[1] / counts[0] - 1) < 0.0015


@pytest.mark.parametrize(
    ("name", "longest"),
    [("awd_ptb", (110, 80)), ("awd_wikitext2", (110, 80)), ("mos_ptb", (110, 110)), ("mos_wikitext2", (90, 90))],
)
def test_windows_are_cut_where_the_published_code_does(name, longest):
    """The first phase of AWD-LSTM cuts none, but none is longer than 110 in any run that will be made."""
    recipe = RECIPES[name]
    lengths = recipe.window_lengths(), recipe.window_lengths(finetune=True)
    assert tuple(each.largest for each in lengths) == longest
    assert {(each.base, each.spread, each.smallest, each.half_probability) for each in lengths} == {
        (70, 5, 5, 0.05)
    }
    if name.startswith("awd"):
        assert lengths[0].probabilities()[-1] < 1e-14


@pytest.mark.parametrize(
    ("name", "settings", "segments"),
    [
        # Krause's flags lr, lamb, epsilon for WikiText-2, where squares are summed over so many segments of 5 in
        # 100 streams and the decay is divided by the sum over 14 arrays; those of MoS with 17.
        ("awd_wikitext2", (0.002, 0.02, 0.001, 14), 2_088_628 / 500),
        ("mos_ptb", (0.002, 0.075, 0.001, 17), 929_589 / 500),
        ("mos_wikitext2", (0.002, 0.02, 0.002, 17), 2_088_628 / 500),
    ],
)
def test_dynamic_evaluation_is_the_published_one_for_mean_squares(name, settings, segments):
    learning_rate, decay, epsilon, arrays = settings
    found = RECIPES[name].dynamic
    # Three digits, as the root of the number of segments is noted.
    assert found.learning_rate == pytest.approx(learning_rate / np.sqrt(segments), rel=1e-3)
    assert found.epsilon == pytest.approx(epsilon / np.sqrt(segments), rel=1e-3)
    assert found.decay == pytest.approx(decay / arrays)
    assert (found.segment, found.statistics_batch) == (5, 100)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name):
    recipe = RECIPES[name]
    recipe.check()
    assert recipe.data in CORPORA
    assert recipe.body in BODIES
    assert recipe.optimizer in OPTIMIZERS


def test_a_mixture_belongs_to_a_recipe_of_its_corpus():
    for plain, mixture in MIXTURES.items():
        assert RECIPES[plain].data == RECIPES[mixture].data
        assert RECIPES[plain].num_experts == 1 < RECIPES[mixture].num_experts


def test_a_change_that_is_none_is_none():
    recipe = RECIPES["small"]
    assert recipe.override(epochs=None, data=None) == recipe
    assert recipe.override(epochs=3, bptt=None) == dataclasses.replace(recipe, epochs=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts": 0}, "--experts must be at least 1, got 0"),
        ({"num_layers": 0}, r"--num-layers must be at least 1 and below 2\*\*31, got 0"),
        ({"epochs": 2**31}, r"--epochs must be at least 1 and below 2\*\*31, got 2147483648"),
        ({"finetune_epochs": -1}, r"--finetune-epochs must be at least 0 and below 2\*\*31, got -1"),
        ({"window_sizes": 0}, r"--window-sizes must be at least 1 and below 2\*\*31, got 0"),
        ({"bptt_excess": -1}, r"--bptt-excess must be at least 0 and below 2\*\*31, got -1"),
        ({"finetune_bptt_excess": -1}, r"--finetune-bptt-excess must be at least 0 and below 2\*\*31, got -1"),
        ({"evaluation_batch_size": 0}, "--evaluation-batch-size must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate must be positive and finite, got 0.0"),
        ({"finetune_learning_rate": np.inf}, "--finetune-learning-rate must be positive and finite, got inf"),
        ({"clip": 0.0}, "--clip must be positive and finite, got 0.0"),
        ({"alpha": -1.0}, "--alpha must be finite and not negative, got -1.0"),
        ({"hidden_size": 0}, r"--hidden-size must be at least 1 and below 2\*\*31, got 0"),
        ({"optimizer": "rmsprop"}, "--optimizer must be one of sgd, adam, got 'rmsprop'"),
        ({"body": "transformer"}, "--body must be one of lstm, got 'transformer'"),
    ],
)
def test_a_change_that_no_run_could_use_is_named_as_its_flag(change, message):
    with pytest.raises(ValueError, match=message):
        RECIPES["small"].override(**change)
