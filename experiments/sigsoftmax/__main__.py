"""Train LSTM language models with each output activation, alone and as mixtures, and compare them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typing_extensions import Doc
from tyro.conf import OmitArgPrefixes, Positional, arg

from experiments.data.text import CORPORA, Corpus, find_corpus, load_corpus, tokenize
from experiments.harness import command_line
from experiments.harness.command_line import Output, RunOutput
from experiments.harness.evaluation import chosen
from experiments.harness.export import export
from experiments.harness.page import Report
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare, train_one
from experiments.harness.settings import (
    choices,
    evaluation_settings,
    find,
    require_at_least,
    require_different,
    require_seeds,
    to_json,
    without_places,
)
from experiments.sigsoftmax.config import NETWORKS, Settings, find_network
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.evaluations.perplexity import unigram_perplexity
from experiments.sigsoftmax.generation import generate, require_temperature
from experiments.sigsoftmax.models import BODIES, num_parameters
from experiments.sigsoftmax.recipe_changes import OF_RECIPE, RecipeChanges, changed, find_recipe
from experiments.sigsoftmax.recipes import MIXTURES, OPTIMIZERS, RECIPES, Recipe
from experiments.sigsoftmax.run import WordModel, build_model, open_run
from experiments.training.devices import is_main_process
from experiments.training.precision import COMPUTE_DTYPES
from sigsoftmax_jax.scores import SCORES

Evaluations: Any = evaluation_settings(EVALUATIONS)
Names = Annotated[tuple[str, ...], arg(help=f"Which to make, of {choices(EVALUATIONS)}; all when none is named.")]
RecipeFile = Annotated[
    Positional[str],
    arg(help=f"One of {choices(RECIPES)}, or a file NAME.json with what describe prints."),
]
Fields = Annotated[RecipeChanges, arg(name="recipe")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """Settings in place of the recipe's own."""

    data: Annotated[str | None, OF_RECIPE, Doc(f"The corpus, one of {choices(CORPORA)}.")] = None
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
    """Directory of the corpus in its standard files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """Train a language model with each output activation, evaluate and compare them."""

    recipe: Annotated[Positional[str], arg(help=f"One of {choices(MIXTURES)}; mixtures take what belongs to it."
        )] = "small"  # fmt: skip
    networks: Annotated[tuple[str, ...], arg(help=f"Which to compare, of {choices(NETWORKS)}.")] = (
        "softmax", "sigsoftmax", "mos", "moss",
    )  # fmt: skip
    seed: int = 0
    """The first; of the initialisation, the windows and the dropout."""
    seeds: int = 1
    """How many seeds, counted from --seed."""
    changes: Annotated[Changes, OmitArgPrefixes] = Changes()
    fields: Fields = RecipeChanges()
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    files: Annotated[Files, OmitArgPrefixes] = Files()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def run(self) -> None:
        """Train, evaluate and report."""
        require_seeds(self.seed, self.seeds)
        require_different("--networks", self.networks)
        mixture = find(self.recipe, MIXTURES, "recipe")
        kinds = [find_network(name) for name in self.networks]
        models = [
            Settings(
                recipe=self.changes.of(mixture if is_mixture else self.recipe, self.fields), score=score, seed=seed
            )
            for score, is_mixture in kinds
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        directory = self.output.out or Path("runs") / f"compare-{self.recipe}"
        require_own_result(directory, WordModel.experiment, "compare")
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        corpus = load_corpus(models[0].recipe.data, self.files.data_dir)
        runs = [
            Run(WordModel(each, corpus), directory / f"{each.name}-seed{each.seed}", **self.output.of_run)
            for each in models
        ]
        finished = compare(runs, evaluations, force=self.output.force)
        about = {"command": "compare", "settings": without_places(to_json(self)), "corpus": _described(corpus)}
        about["recipes"] = {each.name: to_json(each.recipe) for each in models}
        write_report(directory, finished, evaluations, about=about, title=_title(corpus))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train one language model; the test split is left alone."""

    recipe: RecipeFile = "small"
    score: Annotated[str, arg(help=f"The output activation, one of {choices(SCORES, own=True)}.")] = "sigsoftmax"
    experts: Annotated[int | None, OF_RECIPE] = None
    """Components of the mixture."""
    seed: int = 0
    """Of the initialisation, the windows and the dropout."""
    changes: Annotated[Changes, OmitArgPrefixes] = Changes()
    fields: Fields = RecipeChanges()
    files: Annotated[Files, OmitArgPrefixes] = Files()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def run(self) -> None:
        """Train, and say how well."""
        recipe = self.changes.of(self.recipe, self.fields, num_experts=self.experts)
        settings = Settings(recipe=recipe, score=self.score, seed=self.seed)
        settings.check()
        score = self.score.replace(":", "-")
        directory = self.output.out or Path("runs") / f"train-{Path(self.recipe).stem}-{score}"
        subject = WordModel(settings, load_corpus(recipe.data, self.files.data_dir))
        run = Run(subject, directory, **self.output.of_run)
        lines = train_one(run, force=self.output.force).lines
        if is_main_process():
            best = min(line["validation_loss"] for line in lines)
            print(f"validation perplexity {np.exp(best):.2f}, the best of {len(lines)} epochs")
            corpus_flag = f" --data-dir {self.files.data_dir}" if self.files.data_dir else ""
            print(f"evaluate it with: python -m experiments.sigsoftmax evaluate --run {directory}{corpus_flag}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a language model that was trained before, on the test split as well, and report."""

    run_directory: Annotated[Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of the corpus in its standard files."""
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Evaluate and report; the run itself is only read where --out is elsewhere."""
        opened = open_run(self.run_directory, self.data_dir)
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        directory, corpus = self.output.out or self.run_directory, opened.subject.corpus
        require_own_result(directory, WordModel.experiment, "evaluate", run=self.run_directory)
        finished = [opened.evaluate(evaluations, directory)]
        about = {"command": "evaluate", "settings": without_places(to_json(self)), "corpus": _described(corpus)}
        about["network"] = opened.subject.settings
        write_report(directory, finished, evaluations, about=about, title=_title(corpus))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe:
    """Print the parameter, vocabulary and token counts of a recipe as JSON, without training."""

    recipe: RecipeFile = "small"
    experts: Annotated[int | None, OF_RECIPE] = None
    """Components of the mixture."""
    fields: Fields = RecipeChanges()
    data: Annotated[str | None, OF_RECIPE, Doc(f"The corpus, one of {choices(CORPORA)}.")] = None
    data_dir: Path | None = None
    """Directory of the corpus; without it the published counts of ptb and wikitext2 are taken."""

    def run(self) -> None:
        """Count and print."""
        recipe = Changes(data=self.data).of(self.recipe, self.fields, num_experts=self.experts)
        published = find_corpus(recipe.data).published
        is_counted = published is None or self.data_dir is not None
        size = load_corpus(recipe.data, self.data_dir).size if is_counted or published is None else published
        model = build_model(recipe, "sigsoftmax", size.vocabulary)
        described = {"recipe": self.recipe, "parameters": num_parameters(model), "corpus": recipe.data}
        described |= {"counted": is_counted, **to_json(size), "settings": to_json(recipe)}
        print(json.dumps(described, indent=2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue a prompt with words drawn from a language model that was trained before."""

    run_directory: Annotated[Path, arg(name="run")]
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
    """Directory of the corpus in its standard files."""

    def run(self) -> None:
        """Print the prompt and how the model goes on."""
        require_at_least(self, 1, ("words",))
        require_temperature(self.temperature)
        require_seeds(self.seed)
        opened = open_run(self.run_directory, self.data_dir)
        corpus = opened.subject.corpus
        corpus.vocabulary.encode(tokenize(self.prompt, corpus.name))  # fails before anything is loaded
        text = generate(
            opened.subject.model, opened.load().params, corpus, self.prompt, self.words,
            seed=self.seed, temperature=self.temperature,
        )  # fmt: skip
        print(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write the parameters of a trained network as msgpack and npz, with the lines that load them."""

    run_directory: Annotated[Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of the corpus in its standard files."""
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Export."""
        trained = open_run(self.run_directory, self.data_dir).load()
        recipe = to_json(trained.subject.recipe)
        lines = _LOADING.format(recipe=recipe, score=trained.subject.given.score)
        words = "\n".join(trained.subject.corpus.vocabulary.words) + "\n"
        directory = self.output.out or self.run_directory / "export"
        export({"params": trained.params}, directory, lines, texts={"vocabulary.txt": words})


_LOADING = """\
import flax.serialization, jax.numpy as jnp, pathlib
from experiments.harness.settings import from_json
from experiments.sigsoftmax.run import Recipe, build_model
directory = pathlib.Path(__file__).parent
words = (directory / "vocabulary.txt").read_text(encoding="utf-8").split("\\n")[:-1]
model = build_model(from_json(Recipe, {recipe}), "{score}", len(words))
variables = flax.serialization.msgpack_restore((directory / "variables.msgpack").read_bytes())
tokens = jnp.zeros((1, 1), jnp.int32)
log_probs, carry = model.apply(variables, tokens, tokens == 0, model.initial_carry(1), method="log_probs")
print(log_probs.shape)
"""

COMMANDS = {
    "compare": Compare, "train": Train, "evaluate": Evaluate, "describe": Describe, "generate": Generate,
    "export": Export, "report": Report,
}  # fmt: skip


def _described(corpus: Corpus) -> dict[str, Any]:
    unigram = unigram_perplexity(corpus.train, corpus.test, len(corpus.vocabulary))
    return {"name": corpus.name, **to_json(corpus.size), "unigram_test_perplexity": unigram}


def _title(corpus: Corpus) -> str:
    about = _described(corpus)
    return (
        f"perplexities on {corpus.name}, {about['tokens']['test']} test tokens, {about['vocabulary']} words; the"
        f" unigram model has {about['unigram_test_perplexity']:.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    command_line.main(COMMANDS, arguments, experiment=WordModel.experiment, description=__doc__)


if __name__ == "__main__":
    main()
