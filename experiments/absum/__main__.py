"""Train CNNs with each regulariser and attack them at every Fourier frequency.

Without a sub-command this is ``compare``, whose flags ``compare --help`` lists.
"""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.absum.config import Attack, Compare, Config, Select, Train, to_json
from experiments.absum.network import Network, open_network
from experiments.absum.report import write_report
from experiments.data.images import ImageDataset, load_images
from experiments.training.command import one_line_errors, parse, with_default
from experiments.training.devices import initialize, is_main_process
from experiments.storage import write_json
from experiments.training.metrics import read_metrics
from experiments.training.run_directory import require_finished

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Attack, tyro.conf.subcommand("attack")]
    | Annotated[Select, tyro.conf.subcommand("select")]
)


def compare(config: Compare) -> None:
    """Train and attack a network for every regulariser and seed, and report."""
    dataset = _load(config)
    _require_enough(config, len(dataset.test_labels), "test")
    directory = config.out or _default_directory(config, "compare")
    if (directory / "checkpoints").exists():
        raise ValueError(f"{directory} holds a single network; choose another --out")
    strengths = config.strengths or (None,) * len(config.regularizers)
    networks = [
        _network(config, dataset, directory / f"{name}-seed{seed}", regularizer=name, strength=strength, seed=seed)
        for name, strength in zip(config.regularizers, strengths, strict=True)
        for seed in range(config.seed, config.seed + config.seeds)
    ]
    for network in networks:
        network.config.check()  # all of them, before any directory is made
    for network in networks:
        network.prepare()
    _write_config(directory, config)
    finished = []
    for network in networks:
        state = network.trained()
        finished.append((network, state, *network.attacked(state, dataset.test_images, dataset.test_labels)))
    if is_main_process():
        write_report(directory, config, finished)


def train(config: Train) -> None:
    """Train one network; the test images are left alone."""
    dataset = _load(config)
    directory = config.out or _default_directory(config, f"train-{config.regularizer}")
    network = Network(config, dataset, directory)
    network.prepare()
    network.trained()
    if is_main_process():
        last = read_metrics(directory / "metrics.jsonl")[-1]
        print(f"validation accuracy {last['validation_accuracy']:.4f}, filter-sum ratio {last['absum_ratio']:.4f}")
        print(f"attack it with: python -m experiments.absum attack --run {directory}")


def attack(config: Attack) -> None:
    """Attack a network that was trained before, and report."""
    trained = open_network(config.run)
    for name in ("model", "epochs", "seed"):
        given = getattr(config, name)
        if given is not None and given != getattr(trained, name):
            raise ValueError(f"the network in {config.run} has {name} {getattr(trained, name)!r}, not {given!r}")
    names = ("epsilons", "attack_images", "attack_batch_size")
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    trained = dataclasses.replace(trained, **given, force=False)
    trained.check()
    dataset = load_images(trained.data, trained.data_dir, download=trained.download)
    if config.data is not None:
        other = load_images(config.data, config.data_dir, download=config.download)
        dataset = dataclasses.replace(
            dataset, name=other.name, test_images=other.test_images, test_labels=other.test_labels
        )
    _require_enough(trained, len(dataset.test_labels), "test")
    network = Network(trained, dataset, config.run)
    network.run_directory.require_same()
    require_finished(config.run, len(read_metrics(config.run / "metrics.jsonl")), trained.epochs)
    state = network.trained()
    finished = (network, state, *network.attacked(state, dataset.test_images, dataset.test_labels))
    if is_main_process():
        write_report(config.out or config.run, trained, [finished])


def select(config: Select) -> None:
    """Attack on validation images for each strength, and name the one with the best average robust accuracy."""
    dataset = _load(config)
    _require_enough(config, config.validation_size, "validation")
    directory = config.out or _default_directory(config, f"select-{config.regularizer}")
    rows = []
    for strength in config.strengths:
        sweeps = []
        for seed in range(config.seed, config.seed + config.seeds):
            network = _network(
                config, dataset, directory / f"{strength:g}-seed{seed}",
                regularizer=config.regularizer, strength=strength, seed=seed,
            )  # fmt: skip
            network.prepare()
            sweeps.append(network.validation_sweep(network.trained()))
        rows.append(
            {
                "strength": strength,
                "clean_accuracy": statistics.mean(float(sweep.clean_accuracy) for sweep in sweeps),
                "average_robust_accuracy": statistics.mean(
                    float(sweep.average_robust_accuracy) for sweep in sweeps
                ),
            }
        )
        if is_main_process():
            print(json.dumps(rows[-1]), flush=True)
    best = max(rows, key=lambda row: row["average_robust_accuracy"])
    if is_main_process():
        selection = {"config": to_json(config), "rows": rows, "best": best["strength"]}
        write_json(directory / "selection.json", selection)
        print(f"best strength of {config.regularizer}: {best['strength']:g}; wrote {directory / 'selection.json'}")


def _load(config: Config) -> ImageDataset:
    return load_images(config.data, config.data_dir, download=config.download)


def _require_enough(config: Config, images: int, kind: str) -> None:
    if config.attack_images > images:
        raise ValueError(f"--attack-images {config.attack_images} is more than the {images} {kind} images")


def _network(config: Config, dataset: ImageDataset, directory: Path, **settings: Any) -> Network:
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}
    return Network(Train(**{**shared, **settings, "out": directory}), dataset, directory)


def _default_directory(config: Config, name: str) -> Path:
    return Path("runs") / f"{name}-{config.data.replace(':', '-').replace('/', '-')}-{config.model}"


def _write_config(directory: Path, config: Config) -> None:
    if is_main_process():
        write_json(directory / "config.json", to_json(config))


def main(arguments: list[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    arguments = with_default(arguments, "compare")
    with one_line_errors():
        config = parse(Command, arguments, prog="python -m experiments.absum", description=__doc__)
        config.check()
        initialize(config.distributed)
        match config:
            case Compare():
                compare(config)
            case Train():
                train(config)
            case Attack():
                attack(config)
            case Select():
                select(config)


if __name__ == "__main__":
    main()
