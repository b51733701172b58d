"""The flags of the command line."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from experiments.sigsoftmax.generation import require_temperature
from experiments.sigsoftmax.recipes import MIXTURES, RECIPES, Recipe
from sigsoftmax_jax import relu_score, sigmoid_score, sigsoftmax_score, softmax_score
from sigsoftmax_jax.scores import Score

SCORES: dict[str, Score] = {
    "softmax": softmax_score,
    "sigsoftmax": sigsoftmax_score,
    "relu": relu_score,
    "sigmoid": sigmoid_score,
}
# What a comparison can hold: name -> (score, whether it is a mixture).
NETWORKS = {name: (name, False) for name in SCORES} | {"mos": ("softmax", True), "moss": ("sigsoftmax", True)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What all sub-commands that train share. A setting left at None is the recipe's."""

    out: Path | None = None
    """Directory of the results; runs/<name> by default."""
    data: str | None = None
    """embedded, ptb or wikitext2."""
    data_dir: Path | None = None
    """Directory of the corpus: ptb.{train,valid,test}.txt or wiki.{train,valid,test}.tokens."""
    epochs: int | None = None
    """Passes over the training data."""
    finetune_epochs: int | None = None
    """At most so many more passes, averaged from the first step; 0 for none."""
    seed: int = 0
    """Of the initialisation, the windows and the dropout."""
    batch_size: int | None = None
    """Parallel streams, over all devices."""
    learning_rate: float | None = None
    """Of the first phase, for windows of the usual length."""
    finetune_learning_rate: float | None = None
    """Of the second."""
    optimizer: str | None = None
    """sgd (averaged once the validation stops improving) or adam; fine-tuning is averaged with either."""
    bptt: int | None = None
    """Tokens of a window, most of the time."""
    checkpoint_every: int | None = None
    """Steps between checkpoints within an epoch; by default one after each epoch."""
    distributed: bool = False
    """Run on all processes of a pod (start this command on each of them)."""
    force: bool = False
    """Start over where the output directory holds results of another configuration, or of this one."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        require_seed(self.seed)
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ValueError(f"--checkpoint-every must be at least 1, got {self.checkpoint_every}")

    def recipe_of(self, name: str, **changes: Any) -> Recipe:
        """The named recipe with the flags' settings in place of its own."""
        names = ("data", "epochs", "finetune_epochs", "batch_size", "learning_rate", "finetune_learning_rate",
                 "optimizer", "bptt")  # fmt: skip
        return RECIPES[name].override(**{each: getattr(self, each) for each in names}, **changes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """What the sub-commands share that look at the test split."""

    dynamic: bool = True
    """Evaluate dynamically as well."""
    rank_contexts: int = 2048
    """The log-probabilities of the first so many test contexts make the matrix whose rank is taken; 0 for all."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        if self.rank_contexts < 0:
            raise ValueError(f"--rank-contexts must not be negative, got {self.rank_contexts}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train one language model; the test split is left alone."""

    recipe: tyro.conf.Positional[str] = "small"
    """small, mos_small, awd_ptb, awd_wikitext2, mos_ptb or mos_wikitext2."""
    score: str = "sigsoftmax"
    """softmax, sigsoftmax, relu or sigmoid: the output activation."""
    experts: int | None = None
    """Components of the mixture."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        super().check()
        require(self.recipe, RECIPES, "recipe")
        require(self.score, SCORES, "--score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Reported, Config):
    """Train a language model with each output activation, evaluate and compare them. The default."""

    recipe: tyro.conf.Positional[str] = "small"
    """small, awd_ptb or awd_wikitext2; the mixtures take mos_small, mos_ptb or mos_wikitext2."""
    networks: tuple[str, ...] = ("softmax", "sigsoftmax", "mos", "moss")
    """Which to compare; also relu and sigmoid."""
    seeds: int = 1
    """How many seeds, counted from --seed."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        Config.check(self)
        Reported.check(self)
        require(self.recipe, MIXTURES, "recipe")
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise ValueError(f"--networks must be different names, got {self.networks}")
        for name in self.networks:
            require(name, NETWORKS, "network")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")
        require_seed(self.seed + self.seeds - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(Reported):
    """Evaluate a language model that was trained before on the test split."""

    run: Path
    """Directory that train wrote, or one network of compare."""
    out: Path | None = None
    """Directory of the results; by default that of the run."""
    data_dir: Path | None = None
    """Directory of the corpus, for ptb and wikitext2."""
    distributed: bool = False
    """As in train."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe:
    """Print the parameter, vocabulary and token counts of a recipe as JSON, without training."""

    recipe: tyro.conf.Positional[str] = "small"
    """As in train."""
    experts: int | None = None
    """As in train."""
    data: str | None = None
    """As in train."""
    data_dir: Path | None = None
    """As in train; without it the published counts of ptb and wikitext2 are taken."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        require(self.recipe, RECIPES, "recipe")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue a prompt with words drawn from a language model that was trained before."""

    run: Path
    """Directory that train wrote, or one network of compare."""
    prompt: str = "we"
    """Its words have to be in the vocabulary."""
    words: int = 60
    """How many to draw."""
    temperature: float = 1.0
    """Log-probabilities are divided by it."""
    seed: int = 0
    """Of the draws."""
    data_dir: Path | None = None
    """Directory of the corpus, for ptb and wikitext2."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        if self.words < 1:
            raise ValueError(f"--words must be at least 1, got {self.words}")
        require_temperature(self.temperature)
        require_seed(self.seed)


def require_seed(seed: int) -> None:
    """Raise ``ValueError`` unless JAX and NumPy both take the seed."""
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed must not be negative, and below 2**31, got {seed}")


def require(name: str, known: dict[str, Any], what: str) -> None:
    """Raise ``ValueError`` unless the name is known."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; expected one of {', '.join(known)}")


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain values."""
    values = dataclasses.asdict(config)
    return {
        k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()
    }
