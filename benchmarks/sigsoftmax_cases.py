"""What the sigsoftmax benchmarks run: each case is a loss and the shapes that it is measured at.

``python -m benchmarks.sigsoftmax_cases NAME [tiny]`` prints the extra memory of one call as JSON.
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
from jax.stages import Compiled

import sigsoftmax_jax as ss
from benchmarks.measure import compiled_extra_bytes
from sigsoftmax_jax.scores import Score

VOCAB = 33_278  # WikiText-2


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss of float arrays and, last, labels; the shapes of the former, the range of the latter, a dtype."""

    loss: Callable[..., Array]
    shapes: tuple[tuple[int, ...], ...]
    vocab: int
    dtype: str = "float32"

    def step(self, *arguments: Array) -> Any:
        """Mean loss and its gradients for every float array."""
        *floats, labels = arguments
        loss = lambda *a: self.loss(*a, labels).mean()  # noqa: E731
        return jax.value_and_grad(loss, tuple(range(len(floats))))(*floats)

    def structs(self) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the arguments."""
        labels = jax.ShapeDtypeStruct(self.shapes[0][:1], jnp.int32)
        return [*(jax.ShapeDtypeStruct(shape, self.dtype) for shape in self.shapes), labels]

    def arguments(self) -> list[Array]:
        """Normal arrays and random labels."""
        *floats, labels = self.structs()
        keys = jax.random.split(jax.random.key(0), len(floats) + 1)
        arguments = [0.3 * jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, floats, strict=False)]
        arguments.append(jax.random.randint(keys[-1], labels.shape, 0, self.vocab))
        return arguments

    def compiled(self) -> Compiled:
        """The step, compiled ahead of time."""
        return jax.jit(self.step).lower(*self.structs()).compile()


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


def cases(tiny: bool = False) -> dict[str, Case]:
    """Every case by name: FUNCTION_SCORE_FORM, the form "materialised" or "plain" as a user would write it."""
    tokens, width, vocab = (8, 4, 640) if tiny else (1_400, 400, VOCAB)
    shapes = (tokens, width), (vocab, width), (vocab,)
    linear = {
        f"linear_{name}_{form}": Case(partial(loss, score), shapes, vocab)
        for name, score in (("softmax", ss.softmax_score), ("sigsoftmax", ss.sigsoftmax_score))
        for form, loss in (("materialised", materialised_linear), ("blocked", blocked_linear))
    }
    return linear | _mixtures("", 840, 10_000, tiny) | _mixtures("_wikitext2", 1_050, VOCAB, tiny)


def _mixtures(suffix: str, tokens: int, vocab: int, tiny: bool) -> dict[str, Case]:
    """Those of 15 experts of width 300."""
    tokens, experts, width, vocab = (8, 3, 4, 640) if tiny else (tokens, 15, 300, vocab)
    shapes = (tokens, experts, width), (tokens, experts), (vocab, width), (vocab,)
    forms = {
        "softmax{}_plain": partial(plain_mixture, ss.softmax_score),
        "softmax{}_blocked": partial(blocked_mixture, ss.softmax_score),
        "sigsoftmax{}_plain": partial(plain_mixture, plain_sigsoftmax_score),
        "sigsoftmax{}_blocked": partial(blocked_mixture, ss.sigsoftmax_score),
    }
    return {f"mixture_{name.format(suffix)}": Case(loss, shapes, vocab) for name, loss in forms.items()}


def main() -> None:
    """Print the extra memory of one call of the named case, the compiler not included."""
    name, *sizes = sys.argv[1:]
    case = cases("tiny" in sizes)[name]
    print(json.dumps({"bytes": compiled_extra_bytes(case.compiled(), *case.arguments())}))


if __name__ == "__main__":
    main()
