"""Gradient attacks on images: the fast gradient method and projected gradient descent."""

import warnings

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import (
    as_array,
    check_length,
    concrete,
    require_bounds,
    require_keys,
    require_one_of,
    require_positive_int,
)
from absum_jax._classifier_checks import check_classifier, check_loss, require_classes
from absum_jax._pgd_loop import Loop, Problem, Program, attack
from absum_jax._types import ArrayOrNumpy, AttackLoss, Bounds, Key, PredictFn, PyTree
from absum_jax.attack_losses import cross_entropy_loss


def pgd(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike,
    step_size: ArrayLike,
    num_steps: int,
    key: Key | None,
    norm: str = "linf",
    targets: ArrayLike | None = None,
    random_start: bool = True,
    num_restarts: int = 1,
    bounds: Bounds = (0.0, 1.0),
    loss_fn: AttackLoss | None = None,
    stop_at_success: bool = True,
    unroll: int | bool | None = None,
) -> Float[Array, "N H W C"]:
    r"""Images in the ball of radius epsilon around the given ones that the classifier gets wrong.

    .. math:: x_{t+1} = P(x_t + \eta\, d(\nabla_x \ell(f(x_t), y)))

    with the direction d of steepest ascent, sign(g) in L-infinity and g / \|g\|_2 in L2, and P the way back into
    the ball and the bounds. In L2 a pixel of the image that lies on a bound, is still there and would be moved out
    has no part in g; where bounds cut pixels off, P is a point of ball and bounds, but need not be quite the
    nearest.

    An image that fools the classifier, the clean one to begin with, is not touched again: neither more steps nor
    more restarts lower the success. Of restarts that do not fool, the one with the largest loss is returned, image
    by image.

    What is returned for an image depends on no other image of the batch, and for whoever differentiates it is a
    constant. ``params``, ``images``, ``epsilon``, ``step_size`` and ``key`` are traced: new values compile
    nothing, as long as ``predict_fn`` and ``loss_fn`` are the same function objects. The whole may be under jit,
    pmap and vmap: over epsilons, keys or parameters.

    Args:
        predict_fn: ``(params, images) -> logits [N, classes]``, in evaluation mode, with its normalisation inside.
        params: whatever ``predict_fn`` takes.
        images: float array [N, H, W, C] within ``bounds``.
        labels: int array [N].
        epsilon: radius of the ball, on the pixel scale; L2 is over all pixels and channels of an image. One
            number; ``jax.vmap`` takes several.
        step_size: length of a step in the same norm, one number; 0 leaves the random start, noise in the ball.
        num_steps: number of steps, at least 1. Each takes one gradient, which gives the logits before it as well.
        key: random key; image i draws from ``fold_in(key, i)``. Or an array [N] with a key for each image: a
            batch that begins at image s of a larger set takes ``jax.vmap(jax.random.fold_in, (None, 0))(key,
            s + jnp.arange(N))``. Not needed, and may be ``None``, without a random start.
        norm: "linf" or "l2".
        targets: int array [N] of other classes than the labels. If given, the loss of the targets is lowered, and
            an image fools if the target is predicted.
        random_start: begin at a random point of the ball (all equally likely, then moved within the bounds). The
            clean images are looked at before, a forward pass more.
        num_restarts: how often to begin anew, from other random points. If more than 1, each takes a
            forward pass more to compare them.
        bounds: smallest and largest pixel value; compiled in.
        loss_fn: ``(logits [N, classes], labels [N]) -> loss [N]``: :func:`cross_entropy_loss` (the default),
            :func:`margin_loss`, :func:`logits_ratio_loss` or your own. The logits are float32 at least.
        stop_at_success: leave an image that fools as it is. ``False`` raises the loss to the last step, as
            adversarial training does; then more steps may undo a success, and the clean images are not looked at
            before a random start.
        unroll: the form of the loop. A number is how many steps one turn of a compiled loop takes. ``True`` is no
            such loop: Python calls compiled steps; under an outer jit all of them become one program, whose
            compilation takes as many times as long. ``None`` takes ``True`` on CPUs, where convolutions in a loop
            are several times slower, and 1 elsewhere.

    Returns:
        float array [N, H, W, C]: float32, also for images of half precision, which are attacked in float32;
        float64 for those of double precision. Each pixel is within ``bounds``; in L-infinity it is within epsilon
        of the clean one but for the rounding of their sum, in L2 the norm of the difference is at most epsilon.

    Raises:
        ValueError: before anything is compiled, if images, labels or ``predict_fn`` are not as for
            :func:`fourier_sweep`, targets are not N classes other than the labels, epsilon or ``step_size`` is
            negative or not one number, ``num_steps``, ``num_restarts`` or ``unroll`` is below 1, there are
            restarts without a random start, ``loss_fn`` does not give N losses, or there is a random start and
            ``key`` is neither a random key nor one for each image.

    Warns:
        UserWarning: if a step is longer than the ball is wide, 2 epsilon; not where either is traced, under an
            outer jit or vmap.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     return images.reshape(len(images), -1) @ params
        >>> params = jax.random.normal(jax.random.key(0), (64, 3))
        >>> images = jax.random.uniform(jax.random.key(1), (10, 8, 8, 1))
        >>> labels = predict_fn(params, images).argmax(axis=-1)
        >>> key = jax.random.key(2)
        >>> found = pgd(predict_fn, params, images, labels, epsilon=0.2, step_size=0.05, num_steps=10, key=key)
        >>> int((predict_fn(params, found).argmax(axis=-1) == labels).sum())
        0

    References:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018,
        https://arxiv.org/abs/1706.06083

    See also:
        :func:`fgsm`, one step; :func:`check_predictions`, what would make an attack seem to fail
    """
    require_one_of("norm", norm, ("linf", "l2"))
    require_bounds(bounds)
    require_positive_int("num_steps", num_steps)
    require_positive_int("num_restarts", num_restarts)
    if num_restarts > 1 and not random_start:
        raise ValueError(f"num_restarts must be 1 without a random start, got {num_restarts}")
    goal_loss = cross_entropy_loss if loss_fn is None else loss_fn
    limits = (float(bounds[0]), float(bounds[1]))
    program = Program(predict_fn, goal_loss, norm, limits, targets is not None, stop_at_success)
    loop = Loop(num_steps, num_restarts, _steps_per_turn(unroll, num_steps))
    images, goals = _checked_images(program, params, images, labels, targets)
    radius, length = check_length("epsilon", epsilon), check_length("step_size", step_size)
    _warn_of_long_steps(radius, length)
    if random_start:
        require_keys("key", key, len(images))
    radius, length = (jnp.asarray(number, images.dtype) for number in (radius, length))
    problem = Problem(params, radius, length, jnp.asarray(images), jnp.asarray(goals))
    return attack(problem, key if random_start else None, program=program, loop=loop)


def fgsm(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike,
    norm: str = "linf",
    targets: ArrayLike | None = None,
    bounds: Bounds = (0.0, 1.0),
    loss_fn: AttackLoss | None = None,
) -> Float[Array, "N H W C"]:
    r"""Fast gradient sign method: one step of length epsilon from the clean images.

    .. math:: x' = \operatorname{clip}(x + \varepsilon\, d(\nabla_x \ell(f(x), y)),\ \text{bounds})

    with d = sign in L-infinity, g / \|g\|_2 in L2, there without the pixels on a bound that would be moved out:
    :func:`pgd` with one step and no random start. Images that are wrong as they are come back unchanged.

    Args:
        predict_fn, params, images, labels, epsilon: as in :func:`pgd`.
        norm, targets, bounds, loss_fn: likewise.

    Returns:
        float array [N, H, W, C], as from :func:`pgd`.

    Raises:
        ValueError: as :func:`pgd`.

    Example:
        >>> import jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     return images.mean(axis=(1, 2)) @ params
        >>> params = jnp.array([[1.0, -1.0]])
        >>> fgsm(predict_fn, params, jnp.full((1, 1, 2, 1), 0.5), jnp.array([0]), epsilon=0.25).ravel().tolist()
        [0.25, 0.25]

    References:
        Goodfellow, Shlens and Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015,
        https://arxiv.org/abs/1412.6572
    """
    return pgd(
        predict_fn, params, images, labels, epsilon=epsilon, step_size=epsilon, num_steps=1, key=None, norm=norm,
        targets=targets, random_start=False, bounds=bounds, loss_fn=loss_fn,
    )  # fmt: skip


def _steps_per_turn(unroll: int | bool | None, num_steps: int) -> int:
    """Of the compiled loop; 0 for none. A number, as to a cache of programs ``True`` is the same as 1."""
    if unroll is None:
        unroll = jax.default_backend() == "cpu"
    if isinstance(unroll, bool):
        return 0 if unroll else 1
    require_positive_int("unroll", unroll)
    return min(unroll, num_steps)


def _checked_images(
    program: Program, params: PyTree, images: ArrayLike, labels: ArrayLike, targets: ArrayLike | None
) -> tuple[ArrayOrNumpy, ArrayOrNumpy]:
    """Images in the type in which they are attacked, and goals."""
    images, labels = as_array("images", images), as_array("labels", labels)
    if jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    num_classes = check_classifier(
        program.predict_fn, params, images, labels, bounds=program.bounds, batch_size=len(images)
    )
    check_loss(program.loss_fn, len(images), num_classes)
    if targets is None:
        return images, labels
    targets = as_array("targets", targets)
    require_classes("targets", targets, len(images), num_classes)
    same = concrete((targets == labels).sum())
    if same is not None and same:
        raise ValueError(f"targets must be other classes than the labels, got the same for {same} images")
    return images, targets


def _warn_of_long_steps(epsilon: ArrayOrNumpy, step_size: ArrayOrNumpy) -> None:
    radius, length = concrete(epsilon), concrete(step_size)
    if radius is not None and length is not None and length > 2 * radius > 0:
        warnings.warn(
            f"step_size {length:g} is longer than the ball is wide, {2 * radius:g}: each step crosses it",
            stacklevel=3,
        )
