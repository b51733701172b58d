"""Replace the softmax of a Flax language model by a sigsoftmax loss that never builds the logits.

``python examples/flax_sigsoftmax.py`` trains four tiny models for a few steps: linen and nnx, with tied and
with untied embeddings. Lines marked ``was`` and ``now`` are the whole change. In mixed precision cast the
embedding as well (``embedding.astype(jnp.bfloat16)``): bfloat16 states times a float32 embedding are multiplied
in float32.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax
from flax import nnx

from sigsoftmax_jax import linear_cross_entropy, sigsoftmax_score

VOCAB, WIDTH = 50, 16


class LinenModel(nn.Module):
    """A next-word model that returns its loss; with ``tied``, the input embedding is the output's too."""

    tied: bool

    @nn.compact
    def __call__(self, words: jax.Array, labels: jax.Array) -> jax.Array:
        """Mean loss of ``labels`` given ``words``, both [batch, length]."""
        embed = nn.Embed(VOCAB, WIDTH)
        hidden = nn.tanh(nn.Dense(WIDTH)(embed(words)))
        if self.tied:
            # was: logits = embed.attend(hidden)
            #      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            # now:
            losses = linear_cross_entropy(hidden, embed.embedding, labels, score=sigsoftmax_score)
        else:
            # was: logits = nn.Dense(VOCAB)(hidden)
            #      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            # now:
            output = self.param("output", nn.initializers.lecun_normal(1, 0), (VOCAB, WIDTH))
            bias = self.param("bias", nn.initializers.zeros, (VOCAB,))
            losses = linear_cross_entropy(hidden, output, labels, bias, score=sigsoftmax_score)
        return losses.mean()


class NnxModel(nnx.Module):
    """The same model in nnx. An output layer that exists already stays as it is: its kernel is [d, V]."""

    def __init__(self, *, tied: bool, rngs: nnx.Rngs):
        self.embed = nnx.Embed(VOCAB, WIDTH, rngs=rngs)
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.output = None if tied else nnx.Linear(WIDTH, VOCAB, rngs=rngs)

    def __call__(self, words: jax.Array, labels: jax.Array) -> jax.Array:
        """Mean loss of ``labels`` given ``words``, both [batch, length]."""
        hidden = nnx.tanh(self.dense(self.embed(words)))
        if self.output is None:
            # was: logits = self.embed.attend(hidden)
            #      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            # now:
            losses = linear_cross_entropy(hidden, self.embed.embedding[...], labels, score=sigsoftmax_score)
        else:
            # was: logits = self.output(hidden)
            #      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            # now:
            kernel, bias = self.output.kernel[...], self.output.bias[...]
            losses = linear_cross_entropy(hidden, kernel.T, labels, bias, score=sigsoftmax_score)
        return losses.mean()


def train_linen(tied: bool, words: jax.Array, labels: jax.Array, steps: int) -> list[float]:
    """Losses of ``steps`` Adam steps of the linen model."""
    model, optimiser = LinenModel(tied), optax.adam(1e-2)
    params = model.init(jax.random.key(0), words, labels)
    state = optimiser.init(params)

    @jax.jit
    def step(params: optax.Params, state: optax.OptState) -> tuple[optax.Params, optax.OptState, jax.Array]:
        loss, grads = jax.value_and_grad(model.apply)(params, words, labels)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses


def train_nnx(tied: bool, words: jax.Array, labels: jax.Array, steps: int) -> list[float]:
    """Losses of ``steps`` Adam steps of the nnx model."""
    model = NnxModel(tied=tied, rngs=nnx.Rngs(0))
    optimiser = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model: NnxModel, optimiser: nnx.Optimizer) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda m: m(words, labels))(model)
        optimiser.update(model, grads)
        return loss

    return [float(step(model, optimiser)) for _ in range(steps)]


TRAINERS: dict[str, Callable[..., list[float]]] = {"linen": train_linen, "nnx": train_nnx}


def main(steps: int = 30) -> dict[str, list[float]]:
    """Train each model on one random batch and print its first and last loss."""
    words, labels = jax.random.randint(jax.random.key(1), (2, 4, 8), 0, VOCAB)
    losses = {
        f"{name}, {'tied' if tied else 'untied'}": train(tied, words, labels, steps)
        for name, train in TRAINERS.items()
        for tied in (True, False)
    }
    for name, history in losses.items():
        print(f"{name:<14} loss {history[0]:.3f} -> {history[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
