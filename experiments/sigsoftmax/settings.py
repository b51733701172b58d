"""What makes a language model what it is, and the flax module that it makes."""

import dataclasses
from typing import Any, Self

import jax

from experiments.sigsoftmax.config import SCORES, require, require_seed
from experiments.sigsoftmax.dynamic import DynamicEvaluation
from experiments.sigsoftmax.models import Dropouts, LanguageModel
from experiments.sigsoftmax.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes a language model what it is, besides its corpus."""

    recipe: Recipe
    score: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        recipe = dict(values["recipe"])
        recipe["dropouts"] = Dropouts(**recipe["dropouts"])
        recipe["dynamic"] = DynamicEvaluation(**recipe["dynamic"])
        settings = cls(Recipe(**recipe), values["score"], values["seed"])
        settings.recipe.check()
        require(settings.score, SCORES, "score")
        require_seed(settings.seed)
        return settings

    @property
    def name(self) -> str:
        """Short name: softmax, sigsoftmax, ..., mos, moss, or score-K for other mixtures."""
        mixtures = {"softmax": "mos", "sigsoftmax": "moss"}
        experts = self.recipe.num_experts
        return self.score if experts == 1 else mixtures.get(self.score, f"{self.score}-{experts}")


def build_model(recipe: Recipe, score: str, vocab_size: int) -> LanguageModel:
    """The flax module of a recipe."""
    return LanguageModel(
        vocab_size=vocab_size,
        embedding_size=recipe.embedding_size,
        hidden_size=recipe.hidden_size,
        last_size=recipe.last_size,
        num_layers=recipe.num_layers,
        num_experts=recipe.num_experts,
        score=SCORES[score],
        dropouts=recipe.dropouts,
    )


def num_parameters(params: Any) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
