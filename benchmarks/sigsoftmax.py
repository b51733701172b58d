"""Time and memory of the sigsoftmax losses against what a user would write or import instead."""

from collections.abc import Iterator

import jax
import optax

import sigsoftmax_jax as ss
from benchmarks.measure import Row, in_fresh_process, paired_times
from benchmarks.sigsoftmax_cases import CASES, VOCAB

TOKENS = 840


def log_sigsoftmax_time() -> Iterator[Row]:
    """log_sigsoftmax forward against jax.nn.log_softmax (840 x 33,278): time."""
    logits = 3 * jax.random.normal(jax.random.key(0), (TOKENS, VOCAB))
    ours, theirs = jax.jit(ss.log_sigsoftmax), jax.jit(jax.nn.log_softmax)
    times = paired_times(lambda: ours(logits), lambda: theirs(logits))
    yield Row("log_sigsoftmax / log_softmax, time", times.ratio, 1.3, details=str(times))


def cross_entropy_time() -> Iterator[Row]:
    """Cross-entropy value and gradient on logits (840 x 33,278) against optax and the plain form: time."""
    logits = 3 * jax.random.normal(jax.random.key(0), (TOKENS, VOCAB))
    labels = jax.random.randint(jax.random.key(1), (TOKENS,), 0, VOCAB)

    def plain(z: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(z + jax.nn.log_sigmoid(z), labels).mean()

    def optax_softmax(z: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()

    def ours(z: jax.Array) -> jax.Array:
        return ss.cross_entropy_with_integer_labels(z, labels).mean()

    step = jax.jit(jax.value_and_grad(ours))
    bar = 1.15 if jax.default_backend() == "gpu" else 1.6
    for name, loss, limit in (("optax softmax", optax_softmax, bar), ("plain sigsoftmax", plain, 1.0)):
        reference = jax.jit(jax.value_and_grad(loss))
        times = paired_times(lambda: step(logits), lambda r=reference: r(logits))  # type: ignore[misc]
        yield Row(f"cross-entropy / {name}, time", times.ratio, limit, details=str(times))


def linear_time() -> Iterator[Row]:
    """linear_cross_entropy (1,400 x 400 x 33,278) against materialised logits: time."""
    for score in ("softmax", "sigsoftmax"):
        yield _time(f"linear_{score}_blocked", f"linear_{score}_materialised", 1.35)


def linear_memory() -> Iterator[Row]:
    """linear_cross_entropy (1,400 x 400 x 33,278) against materialised logits: extra memory."""
    for score in ("softmax", "sigsoftmax"):
        yield _memory(f"linear_{score}_blocked", f"linear_{score}_materialised")


def mixture_time() -> Iterator[Row]:
    """mixture_cross_entropy (840 x 15 x 300 x 10,000) against the plain formula: time."""
    for score in ("sigsoftmax", "softmax"):
        yield _time(f"mixture_{score}_blocked", f"mixture_{score}_plain", 1.0, pairs=7)


def mixture_memory() -> Iterator[Row]:
    """mixture_cross_entropy (1,050 x 15 x 300 x 33,278): extra memory; and against the plain formula."""
    extra = _extra_gib("mixture_sigsoftmax_wikitext2_blocked")
    details = f"one tokens x K x V array is {1_050 * 15 * VOCAB * 4 / 2**30:.2f} GiB"
    yield Row("mixture at WikiText-2 size, extra memory", extra, 1.0, unit="GiB", details=details)
    yield _memory("mixture_sigsoftmax_blocked", "mixture_sigsoftmax_plain")


def _time(ours: str, theirs: str, bar: float, pairs: int = 9) -> Row:
    times = paired_times(CASES[ours].compiled(), CASES[theirs].compiled(), pairs=pairs)
    return Row(f"{ours.replace('_', ' ')}, time", times.ratio, bar, details=str(times))


def _memory(ours: str, theirs: str) -> Row:
    first, second = _extra_gib(ours), _extra_gib(theirs)
    details = f"{first * 1024:.0f} MiB against {second * 1024:.0f} MiB"
    return Row(f"{ours.replace('_', ' ')}, extra memory", first / second, 1 / 8, details=details)


def _extra_gib(name: str) -> float:
    return in_fresh_process("benchmarks.sigsoftmax_cases", name)["extra_bytes"] / 2**30
