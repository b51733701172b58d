"""A few sentences of a trained model, for a look."""

import dataclasses
from typing import Any

from experiments.data.vocabulary import UNKNOWN
from experiments.harness.evaluation import Evaluation, Group
from experiments.harness.settings import require_at_least, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.sigsoftmax.evaluations.perplexity import checksums
from experiments.sigsoftmax.generation import generate, require_temperature
from experiments.sigsoftmax.run import WordModel, WordModelRun


@dataclasses.dataclass(frozen=True)
class Samples:
    """Settings of the samples, which begin with the first known word of the validation text."""

    words: int = 60
    """How many to draw."""
    temperature: float = 0.8
    """Log-probabilities are divided by it."""
    seed: int = 0
    """Of the draws."""


def _check(subject: WordModel, settings: Samples) -> None:
    del subject
    require_at_least(settings, 1, ("words",), prefix="samples.")
    require_temperature(settings.temperature)
    require_seeds(settings.seed)


def _measure(trained: WordModelRun, settings: Samples, partial: Partial) -> Measured:
    del partial
    subject = trained.subject
    vocabulary = subject.corpus.vocabulary
    words = [*vocabulary.decode(subject.corpus.valid[:1000]), *vocabulary.words]
    prompt = next(word for word in words if word != UNKNOWN)
    text = generate(
        subject.model, trained.params, subject.corpus, prompt, settings.words,
        seed=settings.seed, temperature=settings.temperature,
    )  # fmt: skip
    return Measured({"label": subject.label, "text": text})


def _products(group: Group) -> dict[str, Any]:
    samples = (each.numbers for measured in group.values() for each in measured)
    return {"samples.txt": "".join(f"{each['label']}: {each['text']}\n\n" for each in samples)}


SAMPLES = Evaluation(
    measure=_measure,
    settings=Samples(),
    data=lambda trained, settings: checksums(trained.subject)["valid"],
    check=_check,
    products=_products,
)
