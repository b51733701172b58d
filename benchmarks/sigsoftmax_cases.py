"""What the sigsoftmax benchmarks run: each case is a loss and the shapes that it is measured at.

``python -m benchmarks.sigsoftmax_cases NAME`` prints the extra memory of one call as JSON.
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import sigsoftmax_jax as ss
from benchmarks.measure import peak_extra_bytes
from sigsoftmax_jax.scores import Score

VOCAB = 33_278  # WikiText-2


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss of float arrays and, last, labels; the shapes of the former; the range of the latter."""

    loss: Callable[..., Array]
    shapes: tuple[tuple[int, ...], ...]
    vocab: int

    def step(self, *arguments: Array) -> Any:
        """Mean loss and its gradients for every float array."""
        *floats, labels = arguments
        loss = lambda *a: self.loss(*a, labels).mean()  # noqa: E731
        return jax.value_and_grad(loss, tuple(range(len(floats))))(*floats)

    def structs(self) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the arguments."""
        labels = jax.ShapeDtypeStruct(self.shapes[0][:1], jnp.int32)
        return [*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self.shapes), labels]

    def compiled(self) -> Callable[[], Any]:
        """The step on normal arrays, compiled, as a function of nothing."""
        *floats, labels = self.structs()
        keys = jax.random.split(jax.random.key(0), len(floats) + 1)
        arguments = [0.3 * jax.random.normal(key, x.shape) for key, x in zip(keys, floats, strict=False)]
        arguments.append(jax.random.randint(keys[-1], labels.shape, 0, self.vocab))
        run = jax.jit(self.step).lower(*arguments).compile()
        return lambda: run(*arguments)


def plain_sigsoftmax_score(logits: Array) -> Array:
    """The score as a user would write it."""
    return logits + jax.nn.log_sigmoid(logits)


def materialised_linear(score: Score, hidden: Array, embedding: Array, bias: Array, labels: Array) -> Array:
    """The loss on logits that exist whole: of optax for the softmax, of this library for the sigsoftmax."""
    logits = hidden @ embedding.T + bias
    if score is ss.softmax_score:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return ss.cross_entropy_with_integer_labels(logits, labels, score=score)


def blocked_linear(score: Score, hidden: Array, embedding: Array, bias: Array, labels: Array) -> Array:
    """The library's loss on hidden states."""
    return ss.linear_cross_entropy(hidden, embedding, labels, bias, score=score)


def plain_mixture(score: Score, hidden: Array, mixture_logits: Array, *rest: Array) -> Array:
    """The formula in log space, with the label picked before the experts are summed, which is cheapest."""
    embedding, bias, labels = rest
    log_probs = jax.nn.log_softmax(score(hidden @ embedding.T + bias))
    at_label = jnp.take_along_axis(log_probs, labels[:, None, None], -1)[..., 0]
    return -jax.nn.logsumexp(jax.nn.log_softmax(mixture_logits) + at_label, -1)


def blocked_mixture(score: Score, hidden: Array, mixture_logits: Array, *rest: Array) -> Array:
    """The library's loss."""
    embedding, bias, labels = rest
    return ss.mixture_cross_entropy(hidden, mixture_logits, embedding, labels, bias, score=score)


def _linear(loss: Callable[..., Array], score: Score) -> Case:
    """1,400 tokens of width 400."""
    return Case(partial(loss, score), ((1_400, 400), (VOCAB, 400), (VOCAB,)), VOCAB)


def _mixture(loss: Callable[..., Array], score: Score, tokens: int, vocab: int) -> Case:
    """15 experts of width 300."""
    return Case(partial(loss, score), ((tokens, 15, 300), (tokens, 15), (vocab, 300), (vocab,)), vocab)


CASES: dict[str, Case] = {
    "linear_softmax_materialised": _linear(materialised_linear, ss.softmax_score),
    "linear_softmax_blocked": _linear(blocked_linear, ss.softmax_score),
    "linear_sigsoftmax_materialised": _linear(materialised_linear, ss.sigsoftmax_score),
    "linear_sigsoftmax_blocked": _linear(blocked_linear, ss.sigsoftmax_score),
    "mixture_softmax_plain": _mixture(plain_mixture, ss.softmax_score, 840, 10_000),
    "mixture_softmax_blocked": _mixture(blocked_mixture, ss.softmax_score, 840, 10_000),
    "mixture_sigsoftmax_plain": _mixture(plain_mixture, plain_sigsoftmax_score, 840, 10_000),
    "mixture_sigsoftmax_blocked": _mixture(blocked_mixture, ss.sigsoftmax_score, 840, 10_000),
    "mixture_softmax_wikitext2_plain": _mixture(plain_mixture, ss.softmax_score, 1_050, VOCAB),
    "mixture_softmax_wikitext2_blocked": _mixture(blocked_mixture, ss.softmax_score, 1_050, VOCAB),
    "mixture_sigsoftmax_wikitext2_plain": _mixture(plain_mixture, plain_sigsoftmax_score, 1_050, VOCAB),
    "mixture_sigsoftmax_wikitext2_blocked": _mixture(blocked_mixture, ss.sigsoftmax_score, 1_050, VOCAB),
}


def main() -> None:
    """Print the extra memory of one call of the named case, the compiler not included."""
    extra, _ = peak_extra_bytes(CASES[sys.argv[1]].compiled())
    print(json.dumps({"extra_bytes": extra}))


if __name__ == "__main__":
    main()
