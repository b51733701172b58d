"""AWD-LSTM and its mixtures on WikiText-2 by the published recipes: learning curves, tokens per second, memory."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accelerator.timed_runs import train_in_time
from benchmarks.accelerator.work import Call, LeftOutError, Pieces
from experiments.data.corpus import Corpus
from experiments.data.text import load_corpus
from experiments.sigsoftmax.config import NETWORKS, Settings
from experiments.sigsoftmax.models import num_parameters
from experiments.sigsoftmax.recipes import MIXTURES, RECIPES
from experiments.sigsoftmax.run import WordModel

RECIPE = "awd_wikitext2"
FIRST = (("softmax", 5), ("sigsoftmax", 5), ("mos", 2), ("moss", 2))  # networks with their epochs
# Then the single functions in turn, five epochs more each time, as far as the time goes.
FURTHER = tuple((name, epochs) for epochs in range(10, 45, 5) for name in ("softmax", "sigsoftmax"))
TINY: dict[str, Any] = {
    "embedding_size": 8, "hidden_size": 8, "last_size": 8, "num_layers": 1, "batch_size": 16, "bptt": 6,
    "bptt_spread": 0.5, "evaluation_batch_size": 8,
}  # fmt: skip


def pieces(call: Call) -> Pieces:
    """Each trains a network until it has so many epochs."""
    if call.wikitext is None:
        raise LeftOutError("it needs WikiText-2 by --wikitext")
    if not call.wikitext.is_dir():
        raise ValueError(f"--wikitext must be a directory, got {call.wikitext}")
    plan = (("moss", 1), ("moss", 2)) if call.tiny else (*FIRST, *FURTHER)
    return {f"{name}, {epochs} epochs": functools.partial(_train, call, name, epochs) for name, epochs in plan}


@functools.cache
def _corpus(directory: Path) -> Corpus:
    return load_corpus("wikitext2", directory)


def settings_of(name: str, epochs: int, *, tiny: bool) -> Settings:
    """Of a network, an entry of ``NETWORKS``, by the published recipe without its fine-tuning."""
    score, is_mixture = NETWORKS[name]
    recipe = RECIPES[MIXTURES[RECIPE] if is_mixture else RECIPE].override(epochs=epochs, finetune_epochs=0)
    return Settings(recipe=dataclasses.replace(recipe, **TINY) if tiny else recipe, score=score)


def _train(call: Call, name: str, epochs: int) -> dict[str, Any]:
    assert call.wikitext is not None
    subject = WordModel(settings_of(name, epochs, tiny=call.tiny), _corpus(call.wikitext))
    trained = train_in_time(subject, call.out / "language_models" / name, call.budget)
    best = min(line["validation_loss"] for line in trained["epochs"])
    return {
        "parameters": num_parameters(subject.model),
        "batch": f"{subject.recipe.batch_size} x {subject.recipe.bptt}",
        "validation_perplexity": float(np.exp(best)),
        **trained,
    }
