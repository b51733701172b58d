"""Slow and obvious float64 NumPy forms, written from the formulas and not from the library."""

import numpy as np

SCORES = {
    "softmax": lambda z: z,
    "sigsoftmax": lambda z: z - np.logaddexp(0, -z),
    "sigmoid": lambda z: -np.logaddexp(0, -z),
    "relu": lambda z: np.where(z == -np.inf, -np.inf, np.log(np.maximum(z, 0) + 1e-8)),
}
SLOPES = {
    "softmax": np.ones_like,
    "sigsoftmax": lambda z: 2 - np.exp(-np.logaddexp(0, -z)),
    "sigmoid": lambda z: np.exp(-np.logaddexp(0, z)),
    "relu": lambda z: np.where(z > 0, 1 / (np.maximum(z, 0) + 1e-8), 0),
}


def log_sum_exp(s, axis=-1):
    """log sum exp(s), -inf for an empty sum."""
    largest = np.max(s, axis, keepdims=True)
    shift = np.where(largest == -np.inf, 0, largest)
    with np.errstate(divide="ignore"):
        return (shift + np.log(np.sum(np.exp(s - shift), axis, keepdims=True))).squeeze(axis)


def log_probs(logits, score="sigsoftmax", axis=-1):
    """log f(z)_i = s(z_i) - log sum_j exp(s(z_j)); -inf throughout where all is masked."""
    s = SCORES[score](np.asarray(logits, np.float64))
    largest = np.max(s, axis, keepdims=True)
    # Scores of 1e16 and more have no digits left for the logarithm of a sum.
    s = s - np.where(largest == -np.inf, 0, largest)
    normalizer = np.expand_dims(log_sum_exp(s, axis), axis)
    return s - np.where(normalizer == -np.inf, 0, normalizer)


def jacobian(logits, score="sigsoftmax"):
    """d log f_i / d z_j = s'(z_j) (1[i = j] - f_j) of one row; 0 in masked rows and columns."""
    z = np.asarray(logits, np.float64)
    full = SLOPES[score](z)[None] * (np.eye(z.size) - np.exp(log_probs(z, score))[None])
    live = z > -np.inf
    return np.where(live[:, None] & live[None], full, 0)


def cross_entropy(logits, targets, score="sigsoftmax"):
    """-sum_j t_j log p_j with 0 log 0 = 0."""
    log_p = log_probs(logits, score)
    return -np.sum(np.where(targets == 0, 0, targets * np.where(targets == 0, 0, log_p)), -1)


def cross_entropy_gradient(logits, targets, score="sigsoftmax"):
    """s'(z_j) (p_j sum(t) - t_j), and 0 at masked classes."""
    z = np.asarray(logits, np.float64)
    probs = np.exp(log_probs(z, score))
    gradient = SLOPES[score](z) * (probs * targets.sum(-1, keepdims=True) - targets)
    return np.where(z > -np.inf, gradient, 0)


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def linear_logits(hidden, embedding, bias=None):
    """h W^T + b in float64."""
    logits = np.asarray(hidden, np.float64) @ np.asarray(embedding, np.float64).T
    return logits if bias is None else logits + np.asarray(bias, np.float64)


def linear_gradients(hidden, embedding, labels, bias=None, score="sigsoftmax"):
    """Gradients of the summed loss for hidden [N, d], embedding [V, d] and bias [V]."""
    logits = linear_logits(hidden, embedding, bias)
    dlogits = cross_entropy_gradient(logits, one_hot(labels, len(embedding)), score)
    return dlogits @ np.asarray(embedding, np.float64), dlogits.T @ hidden, dlogits.sum(0)


def mixture_log_probs(hidden, mixture_logits, embedding, bias=None, score="sigsoftmax"):
    """log sum_k pi_k f_k of hidden [N, K, d] and mixture logits [N, K]."""
    log_weights = log_probs(mixture_logits, "softmax")
    return log_sum_exp(log_weights[..., None] + log_probs(linear_logits(hidden, embedding, bias), score), -2)


def mixture_gradients(hidden, mixture_logits, embedding, labels, *, bias=None, score="sigsoftmax"):
    """Gradients of the summed loss by the responsibilities r_k = pi_k f_k(y) / p(y)."""
    logits = linear_logits(hidden, embedding, bias)
    log_weights = log_probs(mixture_logits, "softmax")
    at_label = np.take_along_axis(log_probs(logits, score), labels[:, None, None], -1)[..., 0]
    joint = log_weights + at_label
    responsibility = np.exp(joint - log_sum_exp(joint)[:, None])
    targets = np.broadcast_to(one_hot(labels, len(embedding))[:, None], logits.shape)
    dlogits = responsibility[..., None] * cross_entropy_gradient(logits, targets, score)
    return (
        dlogits @ np.asarray(embedding, np.float64),
        np.exp(log_weights) - responsibility,
        np.einsum("nkv,nkd->vd", dlogits, np.asarray(hidden, np.float64)),
        dlogits.sum((0, 1)),
    )
