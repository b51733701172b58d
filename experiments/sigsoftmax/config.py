"""The settings of a language model: plain values that lie in a run's config.json."""

import dataclasses

from experiments.harness.settings import find, require_seeds
from experiments.sigsoftmax.recipes import Recipe
from sigsoftmax_jax.scores import SCORES, Score

# What a comparison can hold: name -> (score, whether it is a mixture).
NETWORKS: dict[str, tuple[str, bool]] = {name: (name, False) for name in SCORES} | {
    "mos": ("softmax", True),
    "moss": ("sigsoftmax", True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What makes a language model what it is, besides its corpus."""

    recipe: Recipe
    score: str = "sigsoftmax"
    """The output activation."""
    seed: int = 0
    """Of the initialisation, the windows and the dropout."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        self.recipe.check()
        find_score(self.score)
        require_seeds(self.seed)

    @property
    def name(self) -> str:
        """Short name: softmax, sigsoftmax, ..., mos, moss, or score-K for other mixtures."""
        experts = self.recipe.num_experts
        mixtures = {score: name for name, (score, is_mixture) in NETWORKS.items() if is_mixture}
        return self.score if experts == 1 else mixtures.get(self.score, f"{self.score}-{experts}")


def find_network(name: str) -> tuple[str, bool]:
    """The score of a network that a comparison can hold, and whether it is a mixture.

    Raises:
        ValueError: if it is neither in ``NETWORKS`` nor a score that was added since.
    """
    return find(name, {score: (score, False) for score in SCORES} | NETWORKS, "--networks")


def find_score(name: str) -> Score:
    """The named entry of ``SCORES``, or a user's own function: ``package.module:name``.

    Raises:
        ValueError: if there is neither.
    """
    found = find(name, SCORES, "--score", own=True)
    if not callable(found):
        raise ValueError(f"--score {name} must name a function, got {type(found).__name__}")
    return found
