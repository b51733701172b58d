"""The settings of the experiment: plain values, and the flags of the command line."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from experiments.absum.models import MODELS
from experiments.absum.regularizers import DEFAULT_STRENGTHS, REGULARIZERS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What all sub-commands share."""

    out: Path | None = None
    """Directory of the results; runs/<name> by default."""
    data: str = "embedded"
    """embedded, mnist, fashion_mnist, cifar10, cifar100, svhn or tfds:NAME."""
    data_dir: Path | None = None
    """Directory of the data set's files in their standard format."""
    download: bool = False
    """Let tensorflow-datasets download a tfds:NAME that is not prepared."""
    model: str = "lenet"
    """lenet or resnet18."""
    epochs: int = 8
    """Passes over the training data."""
    seed: int = 0
    """Of the validation split, the initialisation, the order of the data and its augmentation."""
    batch_size: int = 64
    """Images of a training step, over all devices."""
    learning_rate: float = 0.05
    """Its largest value; it rises over the first tenth of the steps and falls to 0 along a cosine."""
    momentum: float = 0.9
    """Of stochastic gradient descent."""
    augment: bool | None = None
    """Random crops (padding 4) and horizontal flips; by default for CIFAR only."""
    validation_size: int = 500
    """Training images that are kept for validation."""
    epsilons: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    """L-infinity norms of the single Fourier attack; pixels lie in [0, 1]."""
    attack_images: int = 300
    """The first so many test images are attacked."""
    attack_batch_size: int = 300
    """Images of one forward pass of the attack."""
    distributed: bool = False
    """Run on all processes of a pod (start this command on each of them)."""
    force: bool = False
    """Start over where the output directory holds results of another configuration, or of this one."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        if self.model not in MODELS:
            raise ValueError(f"--model {self.model!r} is unknown; expected one of {', '.join(MODELS)}")
        for name in ("epochs", "batch_size", "validation_size", "attack_images", "attack_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{_flag(name)} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")
        if not self.learning_rate > 0 or not math.isfinite(self.learning_rate):
            raise ValueError(f"--learning-rate must be positive, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must lie in [0, 1), got {self.momentum}")
        if not self.epsilons or not all(0 <= e <= 1 for e in self.epsilons):
            raise ValueError(f"--epsilons must lie in [0, 1], the range of the pixels, got {self.epsilons}")

    @property
    def augments(self) -> bool:
        """Whether training images are cropped and flipped."""
        return "cifar" in self.data if self.augment is None else self.augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train one network."""

    regularizer: str = "absum"
    """none, weight_decay, l1, absum (proximal steps), decoupled_weight_decay or absum_penalty (in the loss)."""
    strength: float | None = None
    """Weight of the regulariser; by default the one chosen on validation images for this model."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        super().check()
        require_regularizer(self.regularizer)
        if self.strength is not None and not (self.strength >= 0 and math.isfinite(self.strength)):
            raise ValueError(f"--strength must be finite and not negative, got {self.strength}")

    @property
    def chosen_strength(self) -> float:
        """The strength given, or the default of the model."""
        if self.strength is None:
            return DEFAULT_STRENGTHS[self.model][self.regularizer]
        return self.strength


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Config):
    """Train a network with each regulariser, attack each at every frequency, and compare them. The default."""

    regularizers: tuple[str, ...] = ("none", "weight_decay", "l1", "absum")
    """Which to compare; also decoupled_weight_decay and absum_penalty."""
    strengths: tuple[float, ...] | None = None
    """One for each of --regularizers; by default those chosen on validation images for the model."""
    seeds: int = 1
    """How many seeds, counted from --seed."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        super().check()
        require_seeds(self.seeds)
        if not self.regularizers or len(set(self.regularizers)) < len(self.regularizers):
            raise ValueError(f"--regularizers must be different names, got {self.regularizers}")
        if self.strengths is not None and len(self.strengths) != len(self.regularizers):
            raise ValueError(
                f"--strengths must be one for each of {len(self.regularizers)} regularizers, got {self.strengths}"
            )
        for name in self.regularizers:
            require_regularizer(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Select(Config):
    """Choose a regulariser's strength by the attack on validation images; test images are not looked at."""

    regularizer: str = "absum"
    """As in train."""
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Which to try."""
    seeds: int = 1
    """How many seeds, counted from --seed; the strength with the best mean is chosen."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        super().check()
        require_regularizer(self.regularizer)
        require_seeds(self.seeds)
        if not self.strengths or not all(0 <= s < math.inf for s in self.strengths):
            raise ValueError(f"--strengths must be finite and not negative, got {self.strengths}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """Attack a network that was trained before; its settings come from the run's own config.json."""

    run: Path
    """Directory that train wrote, or one network of compare."""
    out: Path | None = None
    """Directory of the results; by default that of the run."""
    data: str | None = None
    """Attack the test images of another data set of the same shape."""
    data_dir: Path | None = None
    """Directory of that data set's files."""
    download: bool = False
    """Let tensorflow-datasets download a tfds:NAME that is not prepared."""
    model: str | None = None
    """Must be the run's, if given."""
    epochs: int | None = None
    """Must be the run's, if given."""
    seed: int | None = None
    """Must be the run's, if given."""
    epsilons: tuple[float, ...] | None = None
    """As in train; by default the run's."""
    attack_images: int | None = None
    """As in train; by default the run's."""
    attack_batch_size: int | None = None
    """As in train; by default the run's."""
    distributed: bool = False
    """As in train."""

    def check(self) -> None:
        """Nothing yet: the settings are checked once they are joined with those of the run."""


def require_seeds(count: int) -> None:
    """Raise ``ValueError`` unless there is a seed."""
    if count < 1:
        raise ValueError(f"--seeds must be at least 1, got {count}")


def require_regularizer(name: str) -> None:
    """Raise ``ValueError`` unless there is a regulariser of that name."""
    if name not in REGULARIZERS:
        raise ValueError(f"unknown regularizer {name!r}; expected one of {', '.join(REGULARIZERS)}")


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain values."""
    values = dataclasses.asdict(config)
    return {
        k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()
    }


def train_config_from_json(values: dict[str, Any]) -> Train:
    """The config of a run from its ``config.json``.

    Raises:
        ValueError: if a setting is unknown or missing.
    """
    fields = {field.name for field in dataclasses.fields(Train)}
    if different := fields ^ set(values):
        raise ValueError(f"config.json has unknown or missing settings: {', '.join(sorted(different))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    paths = {k: None if values[k] is None else Path(values[k]) for k in ("out", "data_dir")}
    return Train(**{**values, **paths})


def _flag(name: str) -> str:
    return name.replace("_", "-")
