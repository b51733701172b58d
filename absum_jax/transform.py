"""Any proximal operator as an optax transformation."""

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

    With other transformations:

    - Adam and others that scale each weight by itself: the threshold stays learning_rate * strength for all
      weights; the proximal operator in Adam's own metric would be another.
    - ``optax.MultiSteps``: wrap the whole chain in it, and one proximal step follows each real update. The
      schedule is read at the number of real updates.
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
    require_nonnegative("strength", strength)
    if not callable(learning_rate):
        require_nonnegative("learning_rate", learning_rate)

    def init(params: PyTree) -> ProximalState:
        del params
        return ProximalState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: ProximalState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, ProximalState]:
        del extra
        if params is None:
            raise ValueError("params must be given to proximal, got None: call update(grads, state, params)")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        flags = resolve_mask(params, mask)
        target = tree_prox(prox, optax.apply_updates(params, updates), strength, rate, mask=flags)
        new_updates = jax.tree.map(
            lambda flag, new, param, update: new - param if flag else update, flags, target, params, updates
        )
        return new_updates, ProximalState(count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)
