"""The settings of a network: plain values, which are flags of the command line and lie in a run's config.json."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from experiments.absum.adversary import METHODS, Adversary, find_adversary
from experiments.absum.models import BATCH_NORM_STATISTICS, MODELS
from experiments.absum.regularizers import REGULARIZERS
from experiments.data.image_sets import image_set_names
from experiments.harness.flags import Flags
from experiments.harness.settings import choices, require_at_least, require_seeds, require_strength
from experiments.training.precision import COMPUTE_DTYPES, require_compute_dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What the networks of a comparison share."""

    data: Annotated[str, Doc(f"The images, one of {', '.join(image_set_names())}.")] = "embedded"
    data_dir: Path | None = None
    """Directory of the data set's files in their standard format, or that FILE and DIRECTORY lie in."""
    download: bool = False
    """Let tensorflow-datasets download a tfds:NAME that is not prepared."""
    stream: bool = False
    """Leave the training images of a tfds:NAME on the disk, and read each as it is trained on."""
    model: Annotated[str, Doc(f"The network, one of {choices(MODELS, own=True)}.")] = "lenet"
    epochs: int = 8
    """Passes over the training data; the learning rate falls to 0 over all of them."""
    batch_size: int = 64
    """Images of a training step, over all devices."""
    learning_rate: float = 0.05
    """Its largest value; it rises over the first tenth of the steps and falls to 0 along a cosine."""
    momentum: float = 0.9
    """Of stochastic gradient descent."""
    augment: bool | None = None
    """Random crops (padding 4) and horizontal flips; by default for CIFAR only."""
    adversarial: Annotated[str, Doc(f"What attacks the training images, one of {', '.join(METHODS)}.")] = "none"
    adversarial_epsilon: float | None = None
    """L-infinity radius of that attack; by default 0.1, and 8/255 for colour images."""
    adversarial_steps: int = 7
    """Of pgd; fgsm has one."""
    validation_size: int = 500
    """Training images that are kept for validation."""
    batch_norm_statistics: str = "global"
    """In training: global, of the whole batch, or device, of each device's part of it alone."""
    compute_dtype: Annotated[str, Doc(f"What the layers compute in, one of {', '.join(COMPUTE_DTYPES)}.")] = (
        "float32"
    )

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        require_at_least(self, 1, ("epochs", "batch_size", "validation_size", "adversarial_steps"))
        if self.batch_norm_statistics not in BATCH_NORM_STATISTICS:
            raise ValueError(
                f"--batch-norm-statistics must be one of {', '.join(BATCH_NORM_STATISTICS)}, got"
                f" {self.batch_norm_statistics!r}"
            )
        require_compute_dtype(self.compute_dtype)
        find_adversary(self.adversarial, 0.0, 1)
        if self.adversarial_epsilon is not None and not 0 < self.adversarial_epsilon <= 1:
            raise ValueError(f"--adversarial-epsilon must lie in (0, 1], got {self.adversarial_epsilon}")
        if self.adversarial == "none" and self.adversarial_epsilon is not None:
            raise ValueError("--adversarial must be pgd or fgsm where --adversarial-epsilon is given, got none")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning-rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must lie in [0, 1), got {self.momentum}")

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        if "--adversarial-steps" in flags and self.adversarial != "pgd":
            raise ValueError(
                f"--adversarial must be pgd where --adversarial-steps is given, got {self.adversarial}"
            )

    def adversary(self, channels: int) -> Adversary | None:
        """What attacks training images of so many channels."""
        default = 0.1 if channels == 1 else 8 / 255
        epsilon = default if self.adversarial_epsilon is None else self.adversarial_epsilon
        return find_adversary(self.adversarial, epsilon, self.adversarial_steps)

    @property
    def augments(self) -> bool:
        """Whether training images are cropped and flipped."""
        # Not by a word in the path of one's own images.
        is_cifar = "cifar" in self.data and not self.data.startswith(("npz:", "folder:"))
        return is_cifar if self.augment is None else self.augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What makes a network what it is, besides the images themselves."""

    training: Training = Training()
    regularizer: Annotated[str, Doc(f"One of {choices(REGULARIZERS, own=True)}.")] = "absum"
    strength: float | None = None
    """Weight of the regulariser; by default the one chosen on validation images for this model."""
    seed: int = 0
    """Of the validation split, the initialisation, the order of the data and its augmentation."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use."""
        self.training.check()
        require_seeds(self.seed)
        if self.strength is not None:
            require_strength("--strength", self.strength)
