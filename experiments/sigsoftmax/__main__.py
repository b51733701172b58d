"""Train LSTM language models with each output activation, alone and as mixtures, and compare them.

Without a sub-command this is ``compare``, whose flags ``compare --help`` lists.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.data.text import find_corpus, load_corpus, tokenize
from experiments.data.vocabulary import UNKNOWN
from experiments.sigsoftmax.config import NETWORKS, Compare, Config, Describe, Evaluate, Generate, Train, to_json
from experiments.sigsoftmax.generation import generate
from experiments.sigsoftmax.network import Network, open_network
from experiments.sigsoftmax.recipes import MIXTURES, RECIPES
from experiments.sigsoftmax.report import write_report
from experiments.sigsoftmax.row import evaluated
from experiments.sigsoftmax.settings import Settings, build_model, num_parameters
from experiments.training.command import one_line_errors, parse, with_default
from experiments.training.devices import initialize, is_main_process
from experiments.training.files import write_json

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Describe, tyro.conf.subcommand("describe")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
)


def compare(config: Compare) -> None:
    """Train and evaluate a language model for every network and seed, and report."""
    settings = [
        Settings(config.recipe_of(MIXTURES[config.recipe] if is_mixture else config.recipe), score, seed)
        for score, is_mixture in (NETWORKS[name] for name in config.networks)
        for seed in range(config.seed, config.seed + config.seeds)
    ]
    corpus = load_corpus(settings[0].recipe.data, config.data_dir)
    directory = config.out or Path("runs") / f"compare-{config.recipe}"
    if (directory / "checkpoints").exists():
        raise ValueError(f"{directory} holds a single network; choose another --out")
    names = [name for name in config.networks for _ in range(config.seeds)]
    networks = [
        Network(each, corpus, directory / f"{name}-seed{each.seed}", config.checkpoint_every)
        for name, each in zip(names, settings, strict=True)
    ]
    for network in networks:
        network.check()  # all of them, before any directory is made
    for network in networks:
        network.prepare(force=config.force)
    _write_config(directory, config)
    finished, samples = [], []
    for network in networks:
        params = network.trained()
        row = evaluated(network, params, dynamic=config.dynamic, rank_contexts=config.rank_contexts)
        finished.append((network, row))
        samples.append(f"{network.label}: {_look(network, params)}\n")
    if is_main_process():
        write_report(directory, config, corpus, finished, "\n".join(samples))


def train(config: Train) -> None:
    """Train one language model; the test split is left alone."""
    settings = Settings(config.recipe_of(config.recipe, num_experts=config.experts), config.score, config.seed)
    corpus = load_corpus(settings.recipe.data, config.data_dir)
    directory = config.out or Path("runs") / f"train-{config.recipe}-{config.score}"
    network = Network(settings, corpus, directory, config.checkpoint_every)
    network.prepare(force=config.force)
    network.trained()
    if is_main_process():
        lines = network.log()
        best = min(line["validation_loss"] for line in lines)
        print(f"validation perplexity {np.exp(best):.2f}, the best of {len(lines)} epochs")
        corpus_flag = f" --data-dir {config.data_dir}" if config.data_dir else ""
        print(f"evaluate it with: python -m experiments.sigsoftmax evaluate --run {directory}{corpus_flag}")


def evaluate(config: Evaluate) -> None:
    """Evaluate a language model that was trained before, and report."""
    network = open_network(config.run, config.data_dir)
    params = network.trained()
    row = evaluated(network, params, dynamic=config.dynamic, rank_contexts=config.rank_contexts)
    if is_main_process():
        sample = f"{network.label}: {_look(network, params)}\n"
        write_report(config.out or config.run, config, network.corpus, [(network, row)], sample)


def describe(config: Describe) -> None:
    """Print what a recipe amounts to."""
    recipe = RECIPES[config.recipe].override(num_experts=config.experts, data=config.data)
    published = find_corpus(recipe.data).published if config.data_dir is None else None
    size = published or load_corpus(recipe.data, config.data_dir).size
    counts = {"counted": published is None, **dataclasses.asdict(size)}
    model = build_model(recipe, "sigsoftmax", size.vocabulary)
    window = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *window, model.initial_carry(1), None)
    described = {"recipe": config.recipe, "parameters": num_parameters(shapes["params"]), "corpus": recipe.data}
    print(json.dumps(described | counts | {"settings": dataclasses.asdict(recipe)}, indent=2))


def generate_text(config: Generate) -> None:
    """Print the prompt and how a language model goes on."""
    network = open_network(config.run, config.data_dir)
    network.corpus.vocabulary.encode(
        tokenize(config.prompt, network.corpus.name)
    )  # fails before anything is loaded
    print(_sample(network, network.trained(), config))


def _look(network: Network, params: dict[str, Any]) -> str:
    """A few sentences, from the first known word of the validation text."""
    words = network.corpus.vocabulary.decode(network.corpus.valid[:1000])
    prompt = next(word for word in words if word != UNKNOWN)
    return _sample(network, params, Generate(run=network.directory, prompt=prompt, temperature=0.8))


def _sample(network: Network, params: dict[str, Any], config: Generate) -> str:
    """Words drawn from the better phase's model."""
    return generate(
        network.model, params[network.final_phase()], network.corpus, config.prompt, config.words,
        seed=config.seed, temperature=config.temperature,
    )  # fmt: skip


def _write_config(directory: Path, config: Config) -> None:
    if is_main_process():
        write_json(directory / "config.json", to_json(config))


def main(arguments: list[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    arguments = with_default(arguments, "compare")
    with one_line_errors():
        config = parse(Command, arguments, prog="python -m experiments.sigsoftmax", description=__doc__)
        config.check()
        initialize(getattr(config, "distributed", False))
        match config:
            case Compare():
                compare(config)
            case Train():
                train(config)
            case Evaluate():
                evaluate(config)
            case Describe():
                describe(config)
            case Generate():
                generate_text(config)


if __name__ == "__main__":
    main()
