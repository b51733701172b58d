"""The row of results of one language model: perplexities after every phase, dynamic evaluation, the rank."""

import statistics
from typing import Any

from experiments.data.text import checksum
from experiments.sigsoftmax.dynamic import dynamic_loss, gradient_rms
from experiments.sigsoftmax.evaluation import log_prob_rank_of, model_loss, text_perplexity
from experiments.sigsoftmax.network import Network, Params
from experiments.sigsoftmax.settings import num_parameters
from experiments.training.devices import is_main_process, peak_memory_bytes
from experiments.storage import read_json, write_json
from sigsoftmax_jax import perplexity

SPLITS = ("valid", "test")


def evaluated(network: Network, params: dict[str, Params], *, dynamic: bool, rank_contexts: int) -> dict[str, Any]:
    """The row; read from disk if it was made before of the same splits and options.

    Args:
        network: a trained one.
        params: its parameters after each phase.
        dynamic: whether to evaluate dynamically as well.
        rank_contexts: contexts of the test split whose log-probabilities the rank is of; 0 for all.
    """
    corpus, path = network.corpus, network.directory / "row.json"
    options: dict[str, Any] = {"dynamic": dynamic, "rank_contexts": rank_contexts}
    options |= {f"{split}_checksum": checksum(corpus.vocabulary, getattr(corpus, split)) for split in SPLITS}
    if path.exists() and (saved := read_json(path)).get("options") == options:
        return saved["row"]
    row = _training_columns(network, params)
    for phase, each in params.items():
        row |= _columns(phase, _perplexities(network, each))
    row["final_phase"] = network.final_phase()
    final = params[row["final_phase"]]
    if dynamic:
        row |= _columns("dynamic", _dynamic_perplexities(network, final))
    # Fewer contexts where the text has no more.
    contexts = rank_contexts if 0 < rank_contexts < len(corpus.test) - 1 else None
    label = f"rank {network.label}"
    row["rank"] = log_prob_rank_of(network.model, final, corpus.test, contexts=contexts, label=label)
    row["process_peak_memory_bytes"] = peak_memory_bytes()
    if is_main_process():
        write_json(path, {"options": options, "row": row})
    return row


def _training_columns(network: Network, params: dict[str, Params]) -> dict[str, Any]:
    lines = network.log()
    return {
        "network": network.settings.name,
        "activation": network.settings.score,
        "experts": network.recipe.num_experts,
        "seed": network.settings.seed,
        "parameters": num_parameters(params["base"]),
        "epochs": len(lines),
        "train_seconds": round(sum(line["seconds"] for line in lines), 3),
        "tokens_per_second": round(statistics.median(line["tokens_per_second"] for line in lines), 1),
    }


def _columns(phase: str, perplexities: dict[str, float]) -> dict[str, float]:
    return {f"{phase}_{split}_perplexity": value for split, value in perplexities.items()}


def _perplexities(network: Network, params: Params) -> dict[str, float]:
    recipe, corpus = network.recipe, network.corpus
    rows = {"valid": recipe.evaluation_batch_size, "test": recipe.test_batch_size}
    return {
        split: text_perplexity(network.model, params, getattr(corpus, split), batch_size=count)
        for split, count in rows.items()
    }


def _dynamic_perplexities(network: Network, params: Params) -> dict[str, float]:
    loss_fn, carry, settings = model_loss(network.model), network.model.initial_carry, network.recipe.dynamic
    label = f"gradient statistics {network.label}"
    rms = gradient_rms(loss_fn, params, carry, network.corpus.train, settings, label=label)
    found = {}
    for split in SPLITS:
        label, text = f"dynamic evaluation ({split}) {network.label}", getattr(network.corpus, split)
        mean = dynamic_loss(loss_fn, params, carry, text, settings, rms=rms, label=label)
        found[split] = float(perplexity(float(mean.total), int(mean.count)))
    return found
