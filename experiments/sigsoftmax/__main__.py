"""Train LSTM language models with each output activation, alone and as mixtures, and compare them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from etils import epath
from typing_extensions import Doc
from tyro.conf import OmitArgPrefixes, Positional, arg

from experiments.data.text import find_corpus, tokenize
from experiments.harness import command_line
from experiments.harness.command_line import Output, RunOutput
from experiments.harness.evaluation import chosen, made
from experiments.harness.export import export
from experiments.harness.flags import Flags, require_made
from experiments.harness.page import Report
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare, train_one
from experiments.harness.settings import (
    choices,
    find,
    require_at_least,
    require_different,
    require_seeds,
    to_json,
    without_places,
)
from experiments.sigsoftmax.command_options import (
    OF_DATA,
    At,
    Changes,
    Evaluations,
    Fields,
    Files,
    Names,
    RecipeFile,
    described,
    places,
    table_title,
    unknown_words,
)
from experiments.sigsoftmax.config import NETWORKS, Settings, find_network
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.generation import generate, require_temperature
from experiments.sigsoftmax.models import num_parameters
from experiments.sigsoftmax.recipe_changes import OF_RECIPE, RecipeChanges
from experiments.sigsoftmax.recipes import MIXTURES
from experiments.sigsoftmax.run import WordModel, build_model, corpus_of, open_run
from experiments.training.devices import is_main_process
from sigsoftmax_jax.scores import SCORES


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

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        require_made(flags, EVALUATIONS, made(EVALUATIONS, self.evaluations))

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
        directory = self.output.out or epath.Path("runs") / f"compare-{self.recipe}"
        require_own_result(directory, WordModel.experiment, "compare")
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        corpus = corpus_of(models[0].recipe, self.files.data_dir)
        runs = [
            Run(WordModel(each, corpus), directory / f"{each.name}-seed{each.seed}", **self.output.of_run)
            for each in models
        ]
        with compare(runs, evaluations, directory, force=self.output.force) as finished:
            about = {"command": "compare", "settings": without_places(to_json(self)), "corpus": described(corpus)}
            about["recipes"] = {each.name: to_json(each.recipe) for each in models}
            about["places"] = places(finished)
            write_report(directory, finished, evaluations, about=about, title=table_title(corpus))


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
        directory = self.output.out or epath.Path("runs") / f"train-{Path(self.recipe).stem}-{score}"
        corpus = corpus_of(recipe, self.files.data_dir)
        run = Run(WordModel(settings, corpus), directory, **self.output.of_run)
        lines = train_one(run, force=self.output.force).lines
        if is_main_process():
            print(f"{corpus.name}: {len(corpus.vocabulary)} words; {unknown_words(corpus)}")
            best = min(line["validation_loss"] for line in lines)
            print(f"validation perplexity {np.exp(best):.2f}, the best of {len(lines)} epochs")
            corpus_flag = f" --data-dir {self.files.data_dir}" if self.files.data_dir else ""
            print(f"evaluate it with: python -m experiments.sigsoftmax evaluate --run {directory}{corpus_flag}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a language model that was trained before, on the test split as well, and report."""

    run_directory: Annotated[epath.Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of the corpus in its standard files, or that DIRECTORY lies in."""
    at: At = None
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        require_made(flags, EVALUATIONS, made(EVALUATIONS, self.evaluations))

    def run(self) -> None:
        """Evaluate and report; the run itself is only read where --out is elsewhere."""
        opened = open_run(self.run_directory, self.data_dir)
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        directory, corpus = self.output.out or opened.made_of(self.at), opened.subject.corpus
        require_own_result(directory, WordModel.experiment, "evaluate", run=self.run_directory)
        finished = [opened.evaluate(evaluations, directory, self.at)]
        about = {"command": "evaluate", "settings": without_places(to_json(self)), "corpus": described(corpus)}
        about |= {"network": opened.subject.settings, "places": places(finished)}
        write_report(directory, finished, evaluations, about=about, title=table_title(corpus))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe:
    """Print the parameter, vocabulary and token counts of a recipe as JSON, without training."""

    recipe: RecipeFile = "small"
    experts: Annotated[int | None, OF_RECIPE] = None
    """Components of the mixture."""
    fields: Fields = RecipeChanges()
    data: Annotated[str | None, OF_RECIPE, Doc(OF_DATA)] = None
    data_dir: Path | None = None
    """Directory of the corpus; without it the published counts of ptb and wikitext2 are taken."""

    def run(self) -> None:
        """Count and print."""
        recipe = Changes(data=self.data).of(self.recipe, self.fields, num_experts=self.experts)
        size, counted = find_corpus(recipe.data).published, {}
        if size is None or self.data_dir is not None or recipe.minimum_count or recipe.vocabulary_size:
            corpus = corpus_of(recipe, self.data_dir)
            size, counted = corpus.size, {"unknown_share": corpus.unknown_share}
        model = build_model(recipe, "sigsoftmax", size.vocabulary)
        about = {"recipe": self.recipe, "parameters": num_parameters(model), "corpus": recipe.data}
        about |= {"counted": bool(counted), **to_json(size), **counted, "settings": to_json(recipe)}
        print(json.dumps(about, indent=2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue a prompt with words drawn from a language model that was trained before."""

    run_directory: Annotated[epath.Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    prompt: str = "we"
    """Its words have to be in the vocabulary."""
    words: int = 60
    """How many to draw."""
    temperature: float = 1.0
    """Log-probabilities are divided by it."""
    seed: int = 0
    """Of the draws."""
    at: At = None
    data_dir: Path | None = None
    """Directory of the corpus in its standard files, or that DIRECTORY lies in."""

    def run(self) -> None:
        """Print the prompt and how the model goes on."""
        require_at_least(self, 1, ("words",))
        require_temperature(self.temperature)
        require_seeds(self.seed)
        opened = open_run(self.run_directory, self.data_dir)
        corpus = opened.subject.corpus
        corpus.vocabulary.encode(tokenize(self.prompt, corpus.name))  # fails before anything is loaded
        text = generate(
            opened.subject.model, opened.load(self.at).params, corpus, self.prompt, self.words,
            seed=self.seed, temperature=self.temperature,
        )  # fmt: skip
        print(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write the parameters of a trained network as msgpack and npz, with the lines that load them."""

    run_directory: Annotated[epath.Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    at: At = None
    data_dir: Path | None = None
    """Directory of the corpus in its standard files, or that DIRECTORY lies in."""
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Export."""
        opened = open_run(self.run_directory, self.data_dir)
        trained = opened.load(self.at)
        recipe = to_json(trained.subject.recipe)
        lines = _LOADING.format(recipe=recipe, score=trained.subject.given.score)
        words = "\n".join(trained.subject.corpus.vocabulary.words) + "\n"
        directory = self.output.out or opened.made_of(self.at) / "export"
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    command_line.main(COMMANDS, arguments, experiment=WordModel.experiment, description=__doc__)


if __name__ == "__main__":
    main()
