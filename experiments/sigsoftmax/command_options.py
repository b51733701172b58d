"""What the commands have in common: flags, and what is said of the corpus."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typing_extensions import Doc
from tyro.conf import Positional, arg

from experiments.data.corpus import Corpus
from experiments.data.text import corpus_names
from experiments.harness.settings import choices, evaluation_settings, to_json
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.perplexity import unigram_perplexity
from experiments.sigsoftmax.models import BODIES
from experiments.sigsoftmax.recipe_changes import OF_RECIPE, RecipeChanges, changed, find_recipe
from experiments.sigsoftmax.recipes import OPTIMIZERS, RECIPES, Recipe
from experiments.sigsoftmax.run import WordModelRun
from experiments.training.precision import COMPUTE_DTYPES

Evaluations: Any = evaluation_settings(EVALUATIONS)
Names = Annotated[tuple[str, ...], arg(help=f"Which to make, of {choices(EVALUATIONS)}; all when none is named.")]
RecipeFile = Annotated[
    Positional[str],
    arg(help=f"One of {choices(RECIPES)}, or a file NAME.json with what describe prints."),
]
OF_DATA = f"The corpus, one of {', '.join(corpus_names())}."
Fields = Annotated[RecipeChanges, arg(name="recipe")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """Settings in place of the recipe's own."""

    data: Annotated[str | None, OF_RECIPE, Doc(OF_DATA)] = None
    vocabulary_size: Annotated[int | None, OF_RECIPE] = None
    """At most so many words, <unk> among them: those seen most often in the training text."""
    minimum_count: Annotated[int | None, OF_RECIPE] = None
    """Words seen fewer times in the training text are read as <unk>."""
    body: Annotated[str | None, OF_RECIPE, Doc(f"What turns words into states, one of {choices(BODIES)}.")] = None
    epochs: Annotated[int | None, OF_RECIPE] = None
    """Passes over the training data; a finished run can be given more."""
    finetune_epochs: Annotated[int | None, OF_RECIPE] = None
    """At most so many more passes, averaged from the first step; 0 for none."""
    batch_size: Annotated[int | None, OF_RECIPE] = None
    """Parallel streams, over all devices."""
    learning_rate: Annotated[float | None, OF_RECIPE] = None
    """Of the first phase, for windows of the usual length."""
    finetune_learning_rate: Annotated[float | None, OF_RECIPE] = None
    """Of the second."""
    optimizer: Annotated[str | None, OF_RECIPE, arg(help=f"One of {choices(OPTIMIZERS)}; sgd is averaged once the"
        " validation stops improving, fine-tuning is averaged with either.")] = None  # fmt: skip
    bptt: Annotated[int | None, OF_RECIPE] = None
    """Tokens of a window, most of the time."""
    compute_dtype: Annotated[str | None, OF_RECIPE, Doc("What the layers compute in, one of"
        f" {', '.join(COMPUTE_DTYPES)}.")] = None  # fmt: skip

    def of(self, name: str, fields: Any, **further: Any) -> Recipe:
        """The named recipe with these changes, which count more than those of its fields."""
        return changed(find_recipe(name), fields).override(**dataclasses.asdict(self), **further)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """Where texts are read."""

    data_dir: Path | None = None
    """Directory of the corpus in its standard files, or that DIRECTORY lies in."""


At = Annotated[
    str | None,
    arg(
        help="A checkpoint that is kept, also of a run that is not finished: base or finetune for what that phase"
        " ends with so far, or a number of epochs, counted over both."
    ),
]


def described(corpus: Corpus) -> dict[str, Any]:
    """The corpus, for result.json."""
    unigram = unigram_perplexity(corpus.train, corpus.test, len(corpus.vocabulary))
    return {
        "name": corpus.name,
        **to_json(corpus.size),
        "unknown_share": corpus.unknown_share,
        "unigram_test_perplexity": unigram,
    }


def places(finished: Sequence[tuple[WordModelRun, Any]]) -> dict[str, Any]:
    """Where in its phases each network was taken from, for result.json."""
    return {trained.subject.label: trained.places for trained, _ in finished}


def table_title(corpus: Corpus) -> str:
    """What stands above the table of all networks."""
    about = described(corpus)
    return (
        f"perplexities on {corpus.name}, {about['tokens']['test']} test tokens, {about['vocabulary']} words;"
        f" {unknown_words(corpus)}; the unigram model has {about['unigram_test_perplexity']:.1f}"
    )


def unknown_words(corpus: Corpus) -> str:
    """How much of each split is ``<unk>``, in words."""
    shares = corpus.unknown_share
    if not any(shares.values()):
        return "no word is <unk>"
    line = ", ".join(f"{100 * share:.2f} % of {split}" for split, share in shares.items()) + " are <unk>"
    if not shares["train"]:
        line += ", which nothing is learned of: --minimum-count or --vocabulary-size gives it training words"
    return line
