"""The first images of a split, as what an evaluation looks at."""

import dataclasses

import numpy as np

from experiments.absum.run import Classifier, ClassifierRun
from experiments.data.source_files import checksum
from experiments.harness.settings import flag, require_at_least


@dataclasses.dataclass(frozen=True)
class FirstImages:
    """Settings that evaluations share."""

    images: int | None = 300
    """The first so many images of the split are looked at; None for all."""
    batch_size: int = 300
    """Images of one forward pass."""
    split: str = "test"
    """test, or validation to choose something by."""


def check_first_images(subject: Classifier, settings: FirstImages, name: str, *, count: str = "images") -> None:
    """Raise ``ValueError`` unless the split has that many images.

    Args:
        subject: has the images.
        settings: say which.
        name: of the evaluation.
        count: name of its setting that says how many.
    """
    require_at_least(settings, 1, ("batch_size",), prefix=f"{name}.")
    if settings.images is not None and settings.images < 1:
        raise ValueError(f"{flag(f'{name}.{count}')} must be at least 1, got {settings.images}")
    if settings.split not in ("test", "validation"):
        raise ValueError(f"{flag(f'{name}.split')} must be test or validation, got {settings.split!r}")
    available = len(subject.images(settings.split)[1])
    if settings.images is not None and settings.images > available:
        raise ValueError(
            f"{flag(f'{name}.{count}')} must be at most the {available} {settings.split} images,"
            f" got {settings.images}"
        )


def require_epsilons(name: str, epsilons: tuple[float, ...] | None, largest: float) -> None:
    """Raise ``ValueError`` unless there is an epsilon and all lie in [0, largest]; ``None`` is the default."""
    if epsilons is not None and not (epsilons and all(0 <= epsilon <= largest for epsilon in epsilons)):
        raise ValueError(f"{flag(name)} must lie in [0, {largest:g}], at least one, got {epsilons}")


def first_images(subject: Classifier, settings: FirstImages) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [N, H, W, C], and labels [N]."""
    images, labels = subject.images(settings.split)
    return images[: settings.images], labels[: settings.images]


def first_images_checksum(trained: ClassifierRun, settings: FirstImages) -> str:
    """Of what is looked at."""
    return checksum(*first_images(trained.subject, settings))
