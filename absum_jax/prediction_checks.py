"""Checks of a classifier before it is attacked: what would make its robustness seem other than it is."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from absum_jax._argument_checks import as_array, require_bounds
from absum_jax._classifier_checks import check_image_layout, count_classes, require_classes
from absum_jax._prediction_checks import CHECKS, Case, PredictionFinding
from absum_jax._types import Bounds, PredictFn, PyTree


def check_predictions(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    bounds: Bounds = (0.0, 1.0),
) -> tuple[PredictionFinding, ...]:
    """What would spoil an evaluation by attacks, without attacking. Nothing is printed or warned of.

    Each category is found if its value is not 0:

    - ``out_of_bounds``: share of pixels outside the bounds, not-a-number included;
    - ``epsilon_zero``: change of the accuracy by an attack of size 0, which clips to the bounds;
    - ``not_finite``: share of images with a logit that is infinite or not a number;
    - ``probabilities``: 1 if the outputs of every image lie in [0, 1] and have the sum 1;
    - ``not_deterministic``: change of the logits when they are computed again, and traced anew;
    - ``row_order``: the same, when the images change places, which dropout does not survive;
    - ``other_images``: the same, of images that stay, when the others are inverted, which batch statistics do not
      survive;
    - ``zero_gradients``: share of images whose whole gradient of the logit margin is 0, or not finite.

    A change is the largest of all logits over their largest magnitude, if it is more than rounding: 0.1 %, or for
    half precision 8 units in the last place. It is 1 if a logit becomes finite, or ceases to be, or changes from
    one infinity to another or to not-a-number; those that stay as they are do not count.

    Args:
        predict_fn: ``(params, images) -> logits [N, classes]``, as the attack will be given it.
        params: whatever ``predict_fn`` takes.
        images: array [N, H, W, C], at least 2; one batch is enough, and all are evaluated at once. Integers are
            made floats of the same value.
        labels: int array [N].
        bounds: smallest and largest pixel value that the attack will be given.

    Returns:
        The findings in the order of the table; an empty tuple if all is well.

    Raises:
        ValueError: before anything is compiled, if images are not [N, H, W, C] or fewer than 2, labels do not fit
            images or logits, or ``predict_fn`` cannot be traced with the images or returns anything but logits.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def probabilities(params, images):
        ...     return jax.nn.softmax(images.reshape(len(images), -1) @ params)
        >>> images = jax.random.uniform(jax.random.key(0), (10, 4, 4, 1))
        >>> params = jax.random.normal(jax.random.key(1), (16, 3))
        >>> [finding.category for finding in check_predictions(probabilities, params, images, jnp.zeros(10, int))]
        ['probabilities']

    References:
        The warnings of AutoAttack, https://github.com/fra31/auto-attack/blob/master/flags_doc.md; Carlini et al.,
        On Evaluating Adversarial Robustness, 2019, https://arxiv.org/abs/1902.06705
    """
    require_bounds(bounds)
    images, labels = as_array("images", images), as_array("labels", labels)
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    check_image_layout(images, bounds)
    if len(images) < 2:
        raise ValueError(f"images must be 2 or more, to be exchanged with each other, got {len(images)}")
    require_classes("labels", labels, len(images), count_classes(predict_fn, params, images.shape, images.dtype))

    case = Case(predict_fn, params, jnp.asarray(images), jnp.asarray(labels), bounds)
    values = {category: float(check.measure(case)) for category, check in CHECKS.items()}
    return tuple(PredictionFinding(name, value, CHECKS[name].advice) for name, value in values.items() if value)
