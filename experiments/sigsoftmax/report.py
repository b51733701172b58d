"""What a finished comparison leaves behind: result.json, tables on the terminal, two pictures and some text."""

from pathlib import Path
from typing import Any

from experiments import results
from experiments.data.text import Corpus
from experiments.sigsoftmax import figures
from experiments.sigsoftmax.config import to_json
from experiments.sigsoftmax.evaluation import unigram_perplexity
from experiments.sigsoftmax.network import Network
from experiments.storage import write_atomically, write_json

_NOT_OF_RESULTS = ("out", "run", "data_dir", "distributed", "force", "checkpoint_every")


def write_report(
    directory: Path, config: Any, corpus: Corpus, finished: list[tuple[Network, dict[str, Any]]], samples: str
) -> None:
    """Write result.json, the pictures and the samples into ``directory``, and print the tables."""
    splits = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    result = {
        "experiment": "sigsoftmax",
        # Without what names places on this machine or does not bear on the numbers.
        "config": {name: value for name, value in to_json(config).items() if name not in _NOT_OF_RESULTS},
        "recipes": {network.settings.name: network.settings.to_json()["recipe"] for network, _ in finished},
        "corpus": {
            "name": corpus.name,
            "vocabulary": len(corpus.vocabulary),
            "tokens": {name: len(tokens) for name, tokens in splits.items()},
            "unigram_test_perplexity": unigram_perplexity(corpus.train, corpus.test, len(corpus.vocabulary)),
        },
        "versions": results.versions(),
        "rows": [row for _, row in finished],
        "curves": [
            {"network": network.settings.name, "seed": network.settings.seed, "lines": network.log()}
            for network, _ in finished
        ],
    }
    write_json(directory / "result.json", result)
    write_atomically(directory / "samples.txt", samples)
    curves: dict[str, list] = {}
    for network, _ in finished:
        curves.setdefault(network.settings.name, []).append(network.log())
    results.save_figure(figures.learning_curves(curves), directory / "learning_curves.png")
    first = {row["network"]: row for _, row in reversed(finished)}
    results.save_figure(figures.spectra(list(reversed(first.values()))), directory / "spectra.png")
    print_tables(result)
    print(f"\nwrote result.json, learning_curves.png, spectra.png and samples.txt to {directory}")


def print_tables(result: results.Result) -> None:
    """Print a line for each network and, for several seeds, one for each kind of network."""
    corpus = result["corpus"]
    results.print_table(
        f"perplexities on {corpus['name']}, {corpus['tokens']['test']} test tokens, {corpus['vocabulary']} words;"
        f" the unigram model has {corpus['unigram_test_perplexity']:.1f}",
        results.sigsoftmax_rows(result),
    )
    if len({row["seed"] for row in result["rows"]}) > 1:
        results.print_table("mean ± standard deviation over seeds", results.sigsoftmax_summary(result))
