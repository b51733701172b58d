"""Accuracy under projected gradient descent in L-infinity, over epsilons until chance and over steps.

Beside it stand what it has to beat, random noise of the same norm, and the worst case of each image over PGD and
the single Fourier attack at every frequency.
"""

import statistics

import numpy as np

from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.evaluations.adversarial_images import LOSSES
from experiments.absum.evaluations.first_images import (
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.paired import Pairing, paired_comparison
from experiments.absum.evaluations.pgd_attacks import PGD, attacks_of, is_right_under
from experiments.absum.evaluations.pgd_results import accuracies, cells, findings, numbers_of, products
from experiments.absum.run import Classifier, ClassifierRun
from experiments.data.images import to_float
from experiments.harness.evaluation import Evaluation
from experiments.harness.settings import choices, require_at_least, require_different, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport


def _check(subject: Classifier, settings: PGD) -> None:
    check_first_images(subject, settings, "pgd")
    require_at_least(settings, 1, ("num_steps", "num_restarts", "noise_draws"), prefix="pgd.")
    require_seeds(settings.seed, name="--pgd.seed")
    require_epsilons("pgd.epsilons", settings.epsilons, 1)
    require_epsilons("pgd.steps-epsilon", (settings.steps_epsilon or 0.0,), 1)
    require_different("--pgd.losses", settings.losses)
    if unknown := [loss for loss in settings.losses if loss not in LOSSES]:
        raise ValueError(f"--pgd.losses must be of {choices(LOSSES)}, got {unknown[0]!r}")
    if not settings.steps or min(settings.steps) < 1:
        raise ValueError(f"--pgd.steps must be numbers of at least 1, got {settings.steps}")


def _measure(trained: ClassifierRun, settings: PGD, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    pixels = to_float(images)
    clean = predicted_classes(trained, pixels, settings.batch_size) == labels
    attacks = attacks_of(settings, pixels.shape[-1])
    is_right = list(partial.read().get("is_right", ()))  # for each attack [N]
    label = f"PGD {trained.subject.label}"
    with ProgressReport(label, len(attacks), "attacks", done=len(is_right)) as progress:
        for attack in attacks[len(is_right) :]:
            is_right.append(is_right_under(trained, settings, pixels, labels, attack))
            partial.write(is_right=np.stack(is_right))
            progress.advance(1)
    found = dict(zip(attacks, is_right, strict=True))
    numbers = numbers_of(trained, settings, found, clean)
    return Measured(numbers, {"is_right": np.stack(is_right), "clean": clean})


PROJECTED_GRADIENT_DESCENT = Evaluation(
    measure=_measure,
    settings=PGD(),
    data=first_images_checksum,
    version=2,
    check=_check,
    cells=cells,
    products=products,
    comparison=paired_comparison(
        Pairing(accuracies, lambda measured: None), lambda numbers: f"PGD on {numbers['images']} images"
    ),
    findings=findings,
    score=lambda numbers: statistics.mean(numbers["accuracy"]["pgd"]),
    by_default=False,
)
