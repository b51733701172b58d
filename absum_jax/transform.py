"""Any proximal operator as an optax transformation: after any optimiser, or within Adam, in its own metric."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from absum_jax._argument_checks import require_nonnegative
from absum_jax._types import LearningRate, Mask, Prox, PyTree, SpatialAxes
from absum_jax.kernels import conv_kernel_mask, resolve_mask
from absum_jax.prox import tree_prox, with_spatial_axes


class ProximalState(NamedTuple):
    """Number of updates done; the point at which a schedule is read."""

    count: jax.Array  # type: ignore[assignment]  # optax's name; it hides tuple.count


def proximal(
    prox: Prox,
    learning_rate: LearningRate,
    strength: ArrayLike,
    *,
    mask: Mask = conv_kernel_mask,
    spatial_axes: SpatialAxes = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Finish an optimiser step with a proximal operator. This should be the last transformation in a chain.

    With u the updates that reach it, the masked parameters become
    :math:`\operatorname{prox}(p + u;\ \text{learning\_rate} \cdot \text{strength})`. Since optax adds updates to
    parameters, the result is rounded once more: sums that are zero after :func:`tree_prox` are zero here up to
    rounding. Where you control the step, ``tree_prox(prox, optax.apply_updates(params, updates), ...)`` is exact.

    With other transformations (docs/optimizers.md has each in full):

    - Last in the chain. In ``chain(proximal(...), sgd(...))`` it takes gradients for updates, and what it returns
      is negated and scaled as if it were a gradient: the penalty grows. Nothing can notice that.
    - Adam and others that scale each weight by itself: the threshold stays learning_rate * strength, while a step
      of the optimiser is about learning_rate whatever the size of the gradient, so that strengths far below 1 have
      no effect. Use :func:`proximal_adam`, whose strengths mean what they mean with SGD.
    - ``optax.MultiSteps``: wrap the whole chain in it, and one proximal step follows each real update. The
      schedule is read at the number of real updates. Around the optimiser alone, a proximal step follows each of
      the k small batches: k times as much of it.
    - Frozen parameters: a masked leaf whose update is zero is moved all the same; leave it out of ``mask``.
    - ``optax.inject_hyperparams`` takes every callable for a schedule and calls it with the step count, so name
      those that are none: ``static_args=("prox", "mask")``, also where ``mask`` is the default.

    Args:
        prox: any function ``(leaf, strength, scaling) -> leaf``, such as :func:`prox_absum`.
        learning_rate: the optimiser's own, a number or a schedule of the step count.
        strength: weight of the penalty, not negative.
        mask: which leaves; by default the convolution kernels.
        spatial_axes: handed on to a prox that takes it, for all leaves; ``(-2, -1)`` for Equinox.

    Returns:
        A transformation whose ``update`` needs ``params``.

    Raises:
        ValueError: if a number is negative, or ``spatial_axes`` is given with a prox that does not take it; from
            ``update`` if ``params`` are not given, or as :func:`tree_prox`.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from absum_jax import prox_absum
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 1, 1))}}
        >>> schedule = optax.cosine_decay_schedule(0.1, decay_steps=100)
        >>> optimizer = optax.chain(optax.sgd(schedule, momentum=0.9), proximal(prox_absum, schedule, 0.5))
        >>> state = optimizer.init(params)
        >>> grads = {"Conv_0": {"kernel": jnp.zeros((3, 3, 1, 1))}}
        >>> updates, state = optimizer.update(grads, state, params)
        >>> round(float(optax.apply_updates(params, updates)["Conv_0"]["kernel"][0, 0, 0, 0]), 4)
        0.95

        With its numbers in the optimiser's state, where they can be read and set:

        >>> optimizer = optax.inject_hyperparams(proximal, static_args=("prox", "mask"))(prox_absum, schedule, 0.5)
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> {name: round(float(value), 4) for name, value in sorted(state.hyperparams.items())}
        {'learning_rate': 0.1, 'strength': 0.5}
    """
    prox = with_spatial_axes(prox, spatial_axes)
    _check_numbers(learning_rate, strength)

    def init(params: PyTree) -> ProximalState:
        del params
        return ProximalState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: ProximalState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, ProximalState]:
        del extra
        params = _given(params, "proximal")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        flags = resolve_mask(params, mask)
        target = tree_prox(prox, optax.apply_updates(params, updates), strength, rate, mask=flags)
        return _updates_to(target, params, updates, flags), ProximalState(count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def proximal_adam(
    prox: Prox,
    learning_rate: LearningRate,
    strength: ArrayLike,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0.0,
    mask: Mask = conv_kernel_mask,
    spatial_axes: SpatialAxes = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam or AdamW, each step finished with the proximal operator in Adam's own metric.

    .. math:: d = \max\big(\sqrt{\hat v} + \epsilon,\ 0.1\,\overline d\big), \qquad
              p' = \arg\min_u \tfrac{1}{2\eta} \sum_i d_i (u_i - z_i)^2 + \text{strength} \cdot g(u), \qquad
              z = p - \eta \Big( \frac{\hat m}{\sqrt{\hat v} + \epsilon} + \text{weight\_decay} \cdot p \Big)

    with the bias-corrected moments m and v of the gradient and the learning rate eta; for Absum in closed form
    (:func:`prox_absum`). Where Adam stands still, gradient and penalty are in balance whatever v is, so that a
    strength means what it means with SGD. After ``optax.adam`` the operator of :func:`proximal` would have to win
    against steps of the size of the learning rate.

    A weight that never had a gradient has d = epsilon and would take a whole correction by itself. Hence d is at
    least a tenth of its mean over the leaf: no weight is moved more than ten times as far as one of average d. A
    leaf that never had a gradient has no scale at all, and is left as it is.

    It takes the gradients: put clipping before it, and nothing after it. ``optax.MultiSteps`` goes around it.

    Args:
        prox: a function ``(leaf, strength, scaling, *, metric) -> leaf``, such as :func:`prox_absum`.
        learning_rate: a number or a schedule of the step count.
        strength: weight of the penalty, not negative.
        b1, b2, eps: as in ``optax.adam``; eps is not negative.
        weight_decay: decoupled, of all leaves, as in ``optax.adamw``; not negative.
        mask: the leaves that have the penalty; by default the convolution kernels.
        spatial_axes: handed on to a prox that takes it, for all leaves; ``(-2, -1)`` for Equinox.

    Returns:
        A transformation whose ``update`` needs ``params``; its state is that of ``optax.scale_by_adam``.

    Raises:
        ValueError: as :func:`proximal`, and from ``update`` if ``prox`` does not take ``metric``.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from absum_jax import prox_absum
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 1, 1))}}
        >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), proximal_adam(prox_absum, 1e-3, 0.1))
        >>> grads = {"Conv_0": {"kernel": jnp.full((3, 3, 1, 1), 0.1)}}
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> round(float(updates["Conv_0"]["kernel"][0, 0, 0, 0]), 6)  # Adam's 1e-3 and as much of the penalty
        -0.002

    References:
        Kingma and Ba, ICLR 2015, https://arxiv.org/abs/1412.6980; Loshchilov and Hutter, ICLR 2019,
        https://arxiv.org/abs/1711.05101
    """
    prox = with_spatial_axes(prox, spatial_axes)
    _check_numbers(learning_rate, strength)
    require_nonnegative("eps", eps)
    require_nonnegative("weight_decay", weight_decay)
    adam = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)

    def init(params: PyTree) -> optax.ScaleByAdamState:
        return adam.init(params)

    def update(
        updates: PyTree, state: optax.ScaleByAdamState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, optax.ScaleByAdamState]:
        del extra
        params = _given(params, "proximal_adam")
        rate = jnp.asarray(learning_rate(state.count) if callable(learning_rate) else learning_rate)
        directions, state = adam.update(updates, state)
        steps = jax.tree.map(lambda a, p: (-rate * (a + weight_decay * p)).astype(p.dtype), directions, params)
        correction = 1 - b2**state.count
        metric = jax.tree.map(lambda v: _adam_metric(v / correction, eps), state.nu)
        flags = resolve_mask(params, mask)
        moved = optax.apply_updates(params, steps)
        target = tree_prox(prox, moved, strength, rate, mask=flags, metric=metric)
        return _updates_to(target, params, steps, flags), state

    return optax.GradientTransformationExtraArgs(init, update)


_LEAST_METRIC = 0.1  # of the mean of its leaf
_IMMOVABLE = 1e18  # a metric in which no weight moves by as much as it is rounded to


def _adam_metric(second_moment: jax.Array, eps: ArrayLike) -> jax.Array:
    """What Adam divides by, bounded below so that weights without a gradient do not take everything."""
    wide = jnp.promote_types(second_moment.dtype, jnp.float32)  # eps and the mean are not for half precision
    metric = jnp.sqrt(second_moment.astype(wide)) + eps
    bounded = jnp.maximum(metric, _LEAST_METRIC * metric.mean())
    return jnp.where(jnp.any(second_moment > 0), bounded, _IMMOVABLE)


def _updates_to(target: PyTree, params: PyTree, updates: PyTree, flags: PyTree) -> PyTree:
    """The updates that lead to the target where the flag is set; the given ones elsewhere."""
    return jax.tree.map(
        lambda flag, new, param, update: new - param if flag else update, flags, target, params, updates
    )


def _check_numbers(learning_rate: LearningRate, strength: ArrayLike) -> None:
    require_nonnegative("strength", strength)
    if not callable(learning_rate):
        require_nonnegative("learning_rate", learning_rate)


def _given(params: PyTree | None, name: str) -> PyTree:
    if params is None:
        raise ValueError(f"params must be given to {name}, got None: call update(grads, state, params)")
    return params
