"""The recipes: the published ones as they were published, and what can be changed of them."""

import dataclasses

import numpy as np
import pytest

from experiments.data.text import CORPORA
from experiments.sigsoftmax.models import BODIES
from experiments.sigsoftmax.recipes import MIXTURES, OPTIMIZERS, RECIPES


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
        ({"evaluation_batch_size": 0}, "--evaluation-batch-size must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate must be positive and finite, got 0.0"),
        ({"finetune_learning_rate": np.inf}, "--finetune-learning-rate must be positive and finite, got inf"),
        ({"optimizer": "rmsprop"}, "--optimizer must be one of sgd, adam, got 'rmsprop'"),
        ({"body": "transformer"}, "--body must be one of lstm, got 'transformer'"),
    ],
)
def test_a_change_that_no_run_could_use_is_named_as_its_flag(change, message):
    with pytest.raises(ValueError, match=message):
        RECIPES["small"].override(**change)
