"""Time and memory of the sigsoftmax losses against what a user would write or import instead."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import optax

import sigsoftmax_jax as ss
from benchmarks.loss_products import loss_products
from benchmarks.measure import Row, bar, in_fresh_process, paired_times
from benchmarks.sigsoftmax_cases import VOCAB, Case, blocked_linear, blocked_mixture, cases
from sigsoftmax_jax.scores import SCORES as SCORE_OF

SCORES = ("softmax", "sigsoftmax")


def log_sigsoftmax_time(tiny: bool = False) -> Iterator[Row]:
    """log_sigsoftmax forward against jax.nn.log_softmax (840 x 33,278): time."""
    logits = _logits(tiny)
    ours, theirs = jax.jit(ss.log_sigsoftmax), jax.jit(jax.nn.log_softmax)
    limit = bar(cpu=1.25, accelerator=1.1)
    yield _time("log_sigsoftmax / log_softmax", lambda: ours(logits), lambda: theirs(logits), limit, tiny=tiny)


def cross_entropy_time(tiny: bool = False) -> Iterator[Row]:
    """Cross-entropy value and gradient on logits (840 x 33,278) against optax and the plain form: time."""
    logits = _logits(tiny)
    labels = jax.random.randint(jax.random.key(1), logits.shape[:1], 0, logits.shape[1])

    def plain(z: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(z + jax.nn.log_sigmoid(z), labels).mean()

    def optax_softmax(z: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()

    def ours(z: jax.Array) -> jax.Array:
        return ss.cross_entropy_with_integer_labels(z, labels).mean()

    step = jax.jit(jax.value_and_grad(ours))
    against = ("optax softmax", optax_softmax, bar(cpu=1.2, accelerator=1.05)), ("plain sigsoftmax", plain, 1.0)
    for name, loss, limit in against:
        reference = jax.jit(jax.value_and_grad(loss))
        theirs = lambda reference=reference: reference(logits)  # noqa: E731
        yield _time(f"cross-entropy / {name}", lambda: step(logits), theirs, limit, tiny=tiny)


def linear_time(tiny: bool = False) -> Iterator[Row]:
    """linear_cross_entropy (1,400 x 400 x 33,278) against materialised logits: time."""
    for score in SCORES:
        ours, theirs = _step(f"linear_{score}_blocked", tiny), _step(f"linear_{score}_materialised", tiny)
        yield _time(f"linear {score}, blocked / materialised", ours, theirs, 1.35, tiny=tiny)


def linear_products(tiny: bool = False) -> Iterator[Row]:
    """linear_cross_entropy (350 x 400 x 33,278, bfloat16 64 x 512 x 128,256) against its products alone: time."""
    sizes = {"float32": (350, 400, VOCAB), "bfloat16": (64, 512, 128_256)}
    for dtype, limit in (("float32", 1.25), ("bfloat16", 1.4)):
        for score in SCORES:
            tokens, width, vocab = (8, 4, 640) if tiny else sizes[dtype]
            shapes = (tokens, width), (vocab, width), (vocab,)
            case = Case(partial(blocked_linear, SCORE_OF[score]), shapes, vocab, dtype)
            yield _against_products(f"linear {score}, {dtype}", case, bar(cpu=limit, accelerator=1.35), tiny)


def mixture_products(tiny: bool = False) -> Iterator[Row]:
    """mixture_cross_entropy (64 x 15 x 300 x 10,000) against the matrix products of its loss alone: time."""
    tokens, experts, width, vocab = (8, 3, 4, 640) if tiny else (64, 15, 300, 10_000)
    shapes = (tokens, experts, width), (tokens, experts), (vocab, width), (vocab,)
    for score in SCORES:
        case = Case(partial(blocked_mixture, SCORE_OF[score]), shapes, vocab)
        yield _against_products(f"mixture {score}", case, 1.35, tiny)


def _against_products(name: str, case: Case, limit: float, tiny: bool) -> Row:
    """Value and gradients against the products of the flattened states and the embedding."""
    compiled, products, arguments = case.compiled(), jax.jit(loss_products), case.arguments()
    hidden, embedding = arguments[0].reshape(-1, case.shapes[0][-1]), arguments[-3]
    ours, theirs = lambda: compiled(*arguments), lambda: products(hidden, embedding)
    return _time(f"{name} / products", ours, theirs, limit, tiny=tiny)


def linear_memory(tiny: bool = False) -> Iterator[Row]:
    """linear_cross_entropy (1,400 x 400 x 33,278) against materialised logits: extra memory."""
    for score in SCORES:
        yield _memory(f"linear_{score}_blocked", f"linear_{score}_materialised", tiny)


def linear_blocks(tiny: bool = False) -> Iterator[Row]:
    """linear_cross_entropy (64 x 256 x 50,257) in blocks of 512 words to all against the default size: time."""
    tokens, width, vocab = (4, 8, 1280) if tiny else (64, 256, 50_257)
    labels = jax.random.randint(jax.random.key(0), (tokens,), 0, vocab)
    for dtype in ("float32", "bfloat16"):
        keys = jax.random.split(jax.random.key(1))
        head = [
            0.1 * jax.random.normal(key, (n, width), dtype) for key, n in zip(keys, (tokens, vocab), strict=True)
        ]

        def step(block_size: int | None, head: list[jax.Array] = head) -> Callable[[], Any]:
            loss = lambda h, w: ss.linear_cross_entropy(h, w, labels, block_size=block_size).mean()  # noqa: E731
            compiled = jax.jit(jax.value_and_grad(loss, (0, 1)))
            return lambda: compiled(*head)

        default = step(None)
        yield _time(f"linear {dtype}, blocks of 512 / default", step(512), default, 1.3, tiny=tiny)
        # No size may be much better than the default; one block, of twice its logits, needs no loop.
        for size, least in ((2_048, 0.8), (8_192, 0.8), (vocab, 0.5)):
            times = paired_times(step(size), default, pairs=2 if tiny else 9)
            name = f"linear {dtype}, blocks of {size} / default, time"
            yield Row(name, times.ratio, least, higher_is_better=True, details=str(times))


def mixture_time(tiny: bool = False) -> Iterator[Row]:
    """mixture_cross_entropy (840 x 15 x 300 x 10,000) against the plain formula: time."""
    for score in reversed(SCORES):
        ours, theirs = _step(f"mixture_{score}_blocked", tiny), _step(f"mixture_{score}_plain", tiny)
        limit = bar(cpu=1.0, accelerator=0.5)
        yield _time(f"mixture {score}, blocked / plain", ours, theirs, limit, tiny=tiny, pairs=7)


def mixture_memory(tiny: bool = False) -> Iterator[Row]:
    """mixture_cross_entropy (1,050 x 15 x 300 x 33,278): extra memory; and against the plain formula."""
    extra = _extra_gib("mixture_sigsoftmax_wikitext2_blocked", tiny)
    details = f"one tokens x K x V array is {1_050 * 15 * VOCAB * 4 / 2**30:.2f} GiB"
    yield Row("mixture at WikiText-2 size, extra memory", extra, 1.0, unit="GiB", details=details)
    yield _memory("mixture_sigsoftmax_blocked", "mixture_sigsoftmax_plain", tiny)


def _logits(tiny: bool) -> jax.Array:
    return 3 * jax.random.normal(jax.random.key(0), (8, 640) if tiny else (840, VOCAB))


def _step(name: str, tiny: bool) -> Callable[[], Any]:
    """The named case as a function of nothing."""
    case = cases(tiny)[name]
    compiled, arguments = case.compiled(), case.arguments()
    return lambda: compiled(*arguments)


def _time(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], limit: float, *, tiny: bool, pairs: int = 9
) -> Row:
    times = paired_times(ours, theirs, pairs=2 if tiny else pairs)
    return Row(f"{name}, time", times.ratio, limit, details=str(times))


def _memory(ours: str, theirs: str, tiny: bool) -> Row:
    first, second = _extra_gib(ours, tiny), _extra_gib(theirs, tiny)
    details = f"{first * 1024:.0f} MiB against {second * 1024:.0f} MiB"
    # Tiny programs may need nothing at all.
    return Row(f"{ours.replace('_', ' ')}, extra memory", first / max(second, 2**-30), 1 / 8, details=details)


def _extra_gib(name: str, tiny: bool) -> float:
    sizes = ["tiny"] if tiny else []
    return in_fresh_process("benchmarks.sigsoftmax_cases", name, *sizes)["bytes"] / 2**30
