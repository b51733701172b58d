"""The losses as formulas on the whole array of logits, to be differentiated by JAX in float64."""

import jax
import jax.numpy as jnp

# The log-probability of a masked word: its exponential is 0, and sums over it have a derivative.
MASKED = -1e30


def log_probs(score, logits):
    """s(z) - log sum exp s(z); masked words (-inf) have no score and no gradient."""
    live = logits > -jnp.inf
    scores = jnp.where(live, score(jnp.where(live, logits, 0)), MASKED)
    return scores - jax.nn.logsumexp(scores, -1, keepdims=True)


def logits(hidden, embedding, bias):
    return jnp.einsum("...d,vd->...v", hidden, embedding) + jnp.broadcast_to(bias, hidden.shape[:-1] + bias.shape)


def at(log_probs, ids):
    """log p at ids [..., k]; 0 where the id is masked, which a target of 0 may be."""
    found = jnp.take_along_axis(log_probs, ids, -1)
    return jnp.where(found <= MASKED / 2, 0, found)


def mixture_log_probs(score, hidden, mixture_logits, embedding, bias):
    log_weights = jax.nn.log_softmax(mixture_logits)
    return jax.nn.logsumexp(log_weights[..., None] + log_probs(score, logits(hidden, embedding, bias)), -2)
