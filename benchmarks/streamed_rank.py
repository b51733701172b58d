"""Memory of the rank of a matrix the size of Penn Treebank's test set, streamed.

``python -m benchmarks.streamed_rank CONTEXTS VOCAB`` prints the peak memory and the report as JSON.
"""

import json
import sys
from collections.abc import Iterator

import jax
from jax import Array

import sigsoftmax_jax as ss
from benchmarks.measure import Row, in_fresh_process, peak_extra_bytes


def rank_memory(tiny: bool = False) -> Iterator[Row]:
    """Rank of 82,430 x 10,000 log-probabilities (3.07 GiB): peak memory of the stream."""
    run = in_fresh_process("benchmarks.streamed_rank", *(("32", "16") if tiny else ("82430", "10000")))
    yield Row("rank, streamed", run["bytes"] / 2**30, 4.0, unit="GiB", details=run["report"])


def log_prob_blocks(contexts: int, vocab: int, rows: int = 2_048) -> Iterator[Array]:
    """Log-probabilities of random states of width 400, a block of rows at a time."""
    keys = jax.random.split(jax.random.key(0), -(-contexts // rows) + 1)
    embedding = jax.random.normal(keys[-1], (vocab, 400)) / 20
    for index, key in enumerate(keys[:-1]):
        hidden = jax.random.normal(key, (min(rows, contexts - index * rows), 400))
        yield ss.log_sigsoftmax(3 * hidden @ embedding.T)


def main() -> None:
    """Stream a matrix of the given size."""
    contexts, vocab = (int(number) for number in sys.argv[1:])
    extra, report = peak_extra_bytes(lambda: ss.streamed_log_prob_rank(log_prob_blocks(contexts, vocab)))
    print(json.dumps({"bytes": extra, "report": str(report)}))


if __name__ == "__main__":
    main()
