"""PGD and FGSM: ball and bounds, the closed-form optimum of a linear model, and what must not matter."""

import warnings

import hypothesis
import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from absum_jax import cross_entropy_loss, fgsm, logits_ratio_loss, margin_loss, pgd
from tests.absum_jax.attack_problem import (
    SHAPE,
    N,
    is_wrong,
    linear,
    small_pgd,
    small_problem,
    template_problem,
    two_layers,
)

PROBLEM = small_problem()
KEY = jax.random.key(7)
UNIT = np.finfo(np.float32).eps  # at a pixel of 1


def norm_of(difference, norm):
    flat = np.asarray(difference, np.float64).reshape(len(difference), -1)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.linalg.norm(flat, axis=1)


def assert_within(found, images, epsilon, norm, bounds=(0, 1)):
    found = np.asarray(found)
    assert found.dtype == np.float32
    assert bounds[0] <= found.min()
    assert found.max() <= bounds[1]
    distance = norm_of(found.astype(np.float64) - images.astype(np.float64), norm)
    assert distance.max() <= float(np.float32(epsilon)) + UNIT * max(1, *np.abs(bounds))


pixels = strategies.floats(0, 1, width=32) | strategies.sampled_from([0.0, 1.0, 0.5, float(np.float32(1e-7))])
gradients = strategies.floats(-3, 3, width=32) | strategies.sampled_from([0.0, 1e-30, -1e-38, 1e18])


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    images=arrays.arrays(np.float32, (3, *SHAPE), elements=pixels),
    template=arrays.arrays(np.float32, SHAPE, elements=gradients),
    epsilon=strategies.floats(0, 2, width=32),
    share=strategies.floats(0, 1),
    seed=strategies.integers(0, 2**31 - 1),
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ball_and_bounds_hold(norm, images, template, epsilon, share, seed):
    labels = np.zeros(3, np.int32)
    with jax.numpy_dtype_promotion("strict"):
        found = pgd(
            linear, template, images, labels, epsilon=epsilon, step_size=share * epsilon, num_steps=3, norm=norm,
            key=jax.random.key(seed),
        )  # fmt: skip
    assert_within(found, images, epsilon, norm)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [1e-6, 0.3, 20.0])
def test_ball_and_bounds_hold_for_larger_images_and_other_bounds(norm, epsilon):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 3, (4, 32, 32, 3)).astype(np.float32)
    template = rng.standard_normal((32, 32, 3)).astype(np.float32)
    found = pgd(
        linear, template, images, np.array([0, 1, 0, 1]), epsilon=epsilon, step_size=epsilon, num_steps=3,
        norm=norm, key=KEY, bounds=(-1.0, 3.0),
    )  # fmt: skip
    assert_within(found, images, epsilon, norm, (-1, 3))


def closed_form(template, images, labels, epsilon, norm):
    """The point of ball and bounds that is worst for a linear model of two classes."""
    away = np.where(labels, -1, 1)[:, None, None, None] * template
    if norm == "linf":
        return np.clip(images + epsilon * np.sign(away), 0, 1)
    # images + offset with offset = clip(multiplier * away) of norm epsilon: bisection in float64.
    images, away = images.astype(np.float64), away.astype(np.float64)
    lower, upper = np.zeros((len(images), 1, 1, 1)), np.full((len(images), 1, 1, 1), 1e6)
    for _ in range(100):
        middle = (lower + upper) / 2
        squares = np.clip(middle * away, -images, 1 - images) ** 2
        is_inside = squares.sum(axis=(1, 2, 3), keepdims=True) < epsilon**2
        lower, upper = np.where(is_inside, middle, lower), np.where(is_inside, upper, middle)
    return images + np.clip(lower * away, -images, 1 - images)


def gains(found, template, images, labels):
    """What a linear model's loss was raised by, in float64."""
    away = np.where(labels, -1, 1)[:, None, None, None] * template
    return np.sum((np.asarray(found, np.float64) - images) * away, axis=(1, 2, 3))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_optimum_is_reached_where_the_bounds_cut_most_pixels_off(norm):
    template, _, _ = template_problem()
    images = np.random.default_rng(0).uniform(size=(N, *SHAPE)).astype(np.float32)
    images[images < 0.7], images[images > 0.9] = 0, 1
    labels = np.arange(N) % 2
    options = {"norm": norm, "key": KEY, "stop_at_success": False, "loss_fn": margin_loss}
    # Distance from corner to corner: 1 in L-infinity, 6.3 in L2.
    for epsilon in (0.1, 0.5) if norm == "linf" else (0.3, 1.0, 3.0):
        most = gains(closed_form(template, images, labels, epsilon, norm), template, images, labels)
        # Measured at epsilon 3 in L2: 0.9987 and 0.9965, as three passes do not find all pixels that are cut off.
        for share, num_steps, least in ((0.25, 40, 0.995), (1.0, 20, 0.99)):
            found = pgd(
                linear, template, images, labels, epsilon=epsilon, step_size=share * epsilon, num_steps=num_steps,
                **options,
            )  # fmt: skip
            assert_within(found, images, epsilon, norm)
            assert (gains(found, template, images, labels) > least * most).all()


def test_one_step_in_l2_leaves_out_pixels_that_cannot_move():
    template, _, _ = template_problem()
    images, labels = np.zeros((2, *SHAPE), np.float32), np.array([0, 1])
    options = {"epsilon": 0.2, "step_size": 0.2, "num_steps": 1, "norm": "l2", "key": None, "random_start": False}
    found = pgd(linear, template, images, labels, stop_at_success=False, loss_fn=margin_loss, **options)
    optimum = closed_form(template, images, labels, 0.2, "l2")
    np.testing.assert_allclose(found, optimum, atol=1e-6)  # no pixel is moved as far as the other bound


@pytest.mark.parametrize("random_start", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("norm", "epsilon", "spread"), [("linf", 0.01, 0.05), ("linf", 0.05, 0.5), ("l2", 0.04, 0.05)]
)
def test_a_linear_model_is_attacked_to_the_optimum(norm, epsilon, spread, random_start):
    """Images that cannot be fooled end at the optimum; the others are all those that it fools."""
    template, images, labels = template_problem(spread)
    images = images.clip(0, 1)  # at the larger spread a third of the pixels lie on the bounds
    labels = labels ^ is_wrong(linear, template, images, labels)
    found = pgd(
        linear, template, images, labels, epsilon=epsilon, step_size=epsilon, num_steps=20, norm=norm, key=KEY,
        random_start=random_start,
    )  # fmt: skip
    optimum = closed_form(template, images, labels, epsilon, norm)
    expected = is_wrong(linear, template, optimum, labels)
    np.testing.assert_array_equal(is_wrong(linear, template, found, labels), expected)
    assert 0 < expected.sum() < N
    # Pixels in float32; in L2 each step halves what is left of the random direction.
    np.testing.assert_allclose(found[~expected], optimum[~expected], atol=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_model_a_larger_epsilon_never_lowers_the_success(norm):
    template, images, labels = template_problem()
    epsilons = np.linspace(0.0, 0.08 if norm == "linf" else 0.4, 9)
    epsilons = np.append(epsilons, [1e4, 1e10, 1e19, 1e25, 1e30]).astype(np.float32)  # squares that are infinite

    def attacked(epsilon):
        options = {"epsilon": epsilon, "step_size": epsilon / 2, "num_steps": 20, "norm": norm, "key": KEY}
        return pgd(linear, template, images, labels, **options)

    found = jax.vmap(attacked)(epsilons)
    wrong = np.array([is_wrong(linear, template, each, labels) for each in found])
    assert (wrong[1:] >= wrong[:-1]).all()
    assert not wrong[0].any()
    assert wrong[-1].all()


@pytest.mark.parametrize("targeted", [False, True])
def test_images_that_fool_stay_as_they_are(targeted):
    params, images, labels = PROBLEM
    targets, epsilon = ((labels + 1) % 4, 0.08) if targeted else (None, 0.04)
    fooled_before, before = np.zeros(N, bool), images
    for num_steps in (1, 2, 4, 8):
        found = np.asarray(small_pgd(*PROBLEM, epsilon=epsilon, num_steps=num_steps, targets=targets, unroll=True))
        predicted = np.asarray(two_layers(params, found).argmax(axis=-1))
        fooled = predicted == targets if targeted else predicted != labels
        np.testing.assert_array_equal(found[fooled_before], before[fooled_before])
        assert fooled[fooled_before].all()
        fooled_before, before = fooled, found
    clean = is_wrong(two_layers, *PROBLEM) if not targeted else two_layers(params, images).argmax(-1) == targets
    np.testing.assert_array_equal(found[clean], images[clean])
    assert clean.sum() < fooled.sum() < N


@pytest.mark.parametrize("unroll", [True, pytest.param(1, marks=pytest.mark.slow)])
def test_restarts_keep_what_fools_and_else_the_largest_loss(unroll):
    params, _, labels = PROBLEM

    def losses(found):
        return np.asarray(margin_loss(two_layers(params, found), jnp.asarray(labels)))

    def attacked(num_restarts):
        return np.asarray(
            small_pgd(*PROBLEM, num_restarts=num_restarts, epsilon=0.06, loss_fn=margin_loss, num_steps=2,
                      unroll=unroll)
        )  # fmt: skip

    one, four = attacked(1), attacked(4)
    fooled = is_wrong(two_layers, params, one, labels)
    np.testing.assert_array_equal(four[fooled], one[fooled])
    assert (losses(four)[~fooled] >= losses(one)[~fooled] - 1e-6).all()  # float32 logits of two programs
    assert (losses(four)[~fooled] > losses(one)[~fooled] + 1e-3).any()


def test_a_restart_that_fools_is_better_than_any_loss():
    template, images, _ = template_problem(0.0)  # the boundary goes through mid-grey: half of all starts fool
    labels = np.zeros(N, int)

    def infinite(logits, labels):
        return jnp.where(logits[:, 0] >= logits[:, 1], jnp.inf, 0.0)

    options = {"epsilon": 0.1, "step_size": 0.0, "num_steps": 1, "key": KEY, "loss_fn": infinite}
    one, many = (pgd(linear, template, images, labels, num_restarts=count, **options) for count in (1, 12))
    assert not is_wrong(linear, template, one, labels).all()
    assert is_wrong(linear, template, many, labels).all()  # but for one image in 2^12, with another key


def test_without_stopping_the_loss_is_raised_to_the_end():
    params, images, labels = PROBLEM
    stopped = small_pgd(params, images, labels)
    raised = small_pgd(params, images, labels, stop_at_success=False)
    wrong = is_wrong(two_layers, params, images, labels)
    assert wrong.any()
    np.testing.assert_array_equal(stopped[wrong], images[wrong])
    losses = [cross_entropy_loss(two_layers(params, each), jnp.asarray(labels)) for each in (stopped, raised)]
    assert np.all(np.asarray(losses[1] - losses[0])[wrong] > 0.1)
    assert_within(raised, images, 0.08, "linf")
    # Where nothing fools, the two are one.
    ball = {"epsilon": 0.004, "step_size": 0.002}
    small = [small_pgd(params, images, labels, **ball, stop_at_success=stop) for stop in (True, False)]
    resisting = ~is_wrong(two_layers, params, small[0], labels)
    assert resisting.any()
    np.testing.assert_array_equal(small[0][resisting], small[1][resisting])


@pytest.mark.parametrize("loss_fn", [margin_loss, logits_ratio_loss, lambda logits, labels: -logits[:, 0]])
def test_the_loss_is_what_is_raised(loss_fn):
    params, images, labels = PROBLEM
    right = ~is_wrong(two_layers, *PROBLEM)
    found = small_pgd(*PROBLEM, loss_fn=loss_fn, epsilon=0.01, step_size=0.01, num_steps=1, random_start=False)
    before, after = (loss_fn(two_layers(params, x), jnp.asarray(labels)) for x in (jnp.asarray(images), found))
    assert (np.asarray(after)[right] > np.asarray(before)[right]).all()


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_targets_are_reached(norm):
    params, images, labels = PROBLEM
    targets = (labels + 1) % 4
    epsilon = 0.3 if norm == "linf" else 1.5
    found = small_pgd(*PROBLEM, targets=targets, epsilon=epsilon, step_size=epsilon / 4, num_steps=20, norm=norm)
    reached = np.asarray(two_layers(params, found).argmax(-1) == targets)
    assert reached.mean() > 0.9
    assert_within(found, images, epsilon, norm)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_from_the_clean_images(norm):
    template, images, labels = template_problem()
    found = fgsm(linear, template, images, labels, epsilon=0.1, norm=norm)
    np.testing.assert_allclose(found, closed_form(template, images, labels, 0.1, norm), atol=1e-6)


def test_epsilon_zero_changes_nothing():
    for norm in ("linf", "l2"):
        np.testing.assert_array_equal(small_pgd(*PROBLEM, epsilon=0.0, norm=norm), PROBLEM[1])


def test_no_step_leaves_the_random_start():
    template, images, labels = template_problem()
    right = ~is_wrong(linear, template, images, labels)
    for norm in ("linf", "l2"):
        found = pgd(linear, template, images, labels, epsilon=0.1, step_size=0.0, num_steps=3, norm=norm, key=KEY)
        distance = norm_of(np.asarray(found) - images, norm)
        assert (distance[right] > 0.07).all()  # most of a ball of dimension 40 lies near its surface
        assert len(np.unique(distance)) > N // 2


def test_gradients_that_are_tiny_still_give_a_direction_and_broken_ones_none():
    def scaled(params, images):
        return params * linear(np.ones(SHAPE, np.float32), images)

    images, labels = np.full((2, *SHAPE), 0.6, np.float32), np.array([1, 1])
    for scale, moves in ((1e-30, True), (np.inf, False), (0.0, False)):
        for norm in ("linf", "l2"):
            found = pgd(
                scaled, np.float32(scale), images, labels, epsilon=0.05, step_size=0.05, num_steps=1, norm=norm,
                key=None, random_start=False, loss_fn=margin_loss,
            )  # fmt: skip
            assert (np.abs(np.asarray(found) - images) > 0.005).all() == moves
            assert np.isfinite(found).all()


def test_the_same_key_gives_the_same_bits_and_another_others():
    np.testing.assert_array_equal(small_pgd(*PROBLEM), small_pgd(*PROBLEM))
    assert (np.asarray(small_pgd(*PROBLEM)) != np.asarray(small_pgd(*PROBLEM, key=KEY))).any()


def test_raw_keys_are_taken_too():
    raw = jax.random.key_data(jax.random.key(5))
    np.testing.assert_array_equal(small_pgd(*PROBLEM), small_pgd(*PROBLEM, key=raw))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), jnp.arange(N))
    np.testing.assert_array_equal(small_pgd(*PROBLEM), small_pgd(*PROBLEM, key=jax.random.key_data(keys)))


def test_other_generators_draw_for_an_image_alone_as_well():
    params, images, labels = PROBLEM
    key, other = (jax.random.key(seed, impl="rbg") for seed in (5, 6))
    whole = small_pgd(params, images, labels, key=key)
    # A matrix product of fewer rows may be summed in another order.
    np.testing.assert_allclose(small_pgd(params, images[:4], labels[:4], key=key), whole[:4], atol=1e-6)
    assert np.abs(whole - small_pgd(params, images, labels, key=other)).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_other_images_of_the_batch_do_not_matter(x64, norm):
    params, images, labels = small_problem(np.float64)
    key, options = jax.random.key(5), {"norm": norm, "epsilon": 0.08 if norm == "linf" else 0.4, "num_restarts": 2}
    whole = small_pgd(params, images, labels, key=key, **options)
    assert whole.dtype == np.float64
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(N))
    for i in (1, N - 1):
        # Sums of a product with one row are taken in another order.
        alone = small_pgd(params, images[i : i + 1], labels[i : i + 1], key=keys[i : i + 1], **options)
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unroll", "num_restarts"), [(2, 2), *(pytest.param(n, 1, marks=pytest.mark.slow) for n in (1, 7))]
)
def test_the_form_of_the_loop_does_not_matter(x64, unroll, num_restarts):
    problem = small_problem(np.float64)
    options = {"num_restarts": num_restarts, "key": jax.random.key(5)}
    # Two programs round differently.
    np.testing.assert_allclose(
        small_pgd(*problem, unroll=unroll, **options), small_pgd(*problem, unroll=True, **options), atol=1e-12
    )


@pytest.mark.parametrize("unroll", [True, pytest.param(1, marks=pytest.mark.slow)])
def test_all_epsilons_keys_and_parameters_at_once(x64, unroll):
    params, images, labels = small_problem(np.float64)

    def attacked(epsilon, key, params):
        return small_pgd(params, images, labels, epsilon=epsilon, key=key, unroll=unroll)

    epsilons, keys = jnp.array([0.0, 0.05, 0.1]), jax.random.split(KEY, 3)
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), params)
    together = jax.jit(jax.vmap(attacked))(epsilons, keys, many)
    for i in range(3):
        one = attacked(epsilons[i], keys[i], jax.tree.map(lambda x, i=i: x[i], many))
        np.testing.assert_allclose(together[i], one, atol=1e-12)


@pytest.mark.parametrize("unroll", [True, 1])
def test_other_numbers_compile_nothing(count_compilations, unroll):
    params, images, labels = PROBLEM

    def attacked(scale, **numbers):
        scaled = tuple(np.float32(scale) * x for x in params)
        jax.block_until_ready(small_pgd(scaled, images, labels, unroll=unroll, num_restarts=2, **numbers))

    attacked(1, epsilon=0.1, step_size=0.01)
    key = jax.random.key(11)
    with count_compilations() as compiled:
        attacked(2, epsilon=0.2, step_size=0.03, key=key)
    assert compiled.count == 0


def test_without_a_compiled_loop_more_steps_compile_nothing(count_compilations):
    jax.block_until_ready(small_pgd(*PROBLEM, unroll=True, num_steps=3))
    with count_compilations() as compiled:
        jax.block_until_ready(small_pgd(*PROBLEM, unroll=True, num_steps=30))
    assert compiled.count == 0


@pytest.mark.slow
@pytest.mark.devices(4)
@pytest.mark.parametrize("unroll", [1, pytest.param(True, marks=pytest.mark.slow)])
def test_devices_share_a_batch(unroll):
    params, images, labels = PROBLEM
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), jnp.arange(N))
    whole = np.asarray(small_pgd(*PROBLEM))

    def attacked(params, images, labels, keys):
        return small_pgd(params, images, labels, key=keys, unroll=unroll)

    split = jax.tree.map(lambda x: x.reshape(4, N // 4, *x.shape[1:]), (images, labels, keys))
    mapped = jax.pmap(attacked, in_axes=(None, 0, 0, 0), devices=jax.devices()[:4])(params, *split)
    # float32: other batch sizes, other order of sums, 5 steps.
    np.testing.assert_allclose(np.asarray(mapped).reshape(whole.shape), whole, atol=1e-5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    rows, everywhere = jax.P("data"), jax.P()
    sharded = jax.jit(jax.shard_map(attacked, mesh=mesh, in_specs=(everywhere, rows, rows, rows), out_specs=rows))
    np.testing.assert_allclose(sharded(params, images, labels, keys), whole, atol=1e-5)


@pytest.mark.parametrize("unroll", [1, pytest.param(True, marks=pytest.mark.slow)])
def test_the_result_is_a_constant_for_whoever_differentiates(unroll):
    _, images, labels = PROBLEM

    def total(params, images, epsilon):
        return jnp.sum(small_pgd(params, images, labels, epsilon=epsilon, unroll=unroll))

    gradients = jax.grad(total, argnums=(0, 1, 2))(PROBLEM[0], jnp.asarray(images), 0.1)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradients))


def test_parameters_are_operands_of_the_loop():
    def attacked(params):
        return small_pgd(params, *PROBLEM[1:], unroll=1)

    (loop,) = [each for each in jaxpr_of(attacked, PROBLEM[0]) if each.primitive.name == "scan"]
    shapes = [x.aval.shape for x in loop.invars]
    assert (40, 16) in shapes
    assert (16, 4) in shapes


def jaxpr_of(function, *arguments):
    """Equations of a traced function, those of inner functions included."""
    left = [jax.make_jaxpr(function)(*arguments).jaxpr]
    while left:
        for equation in left.pop().eqns:
            yield equation
            left += [each.jaxpr for each in equation.params.values() if hasattr(each, "jaxpr")]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_half_precision_is_attacked_in_single(dtype):
    params, images, labels = PROBLEM
    images = images.astype(dtype)
    found = small_pgd(params, images, labels)
    assert_within(found, images.astype(np.float32), 0.08, "linf")
    np.testing.assert_array_equal(found, small_pgd(params, images.astype(np.float32), labels))

    # Logits of half precision: the loss is still one of float32.
    def in_half(params, images):
        return two_layers(jax.tree.map(lambda x: x.astype(dtype), params), images.astype(dtype))

    half = pgd(in_half, params, images, labels, epsilon=0.08, step_size=0.02, num_steps=5, key=KEY)
    assert_within(half, images.astype(np.float32), 0.08, "linf")


def test_not_a_number_logits_are_no_prediction():
    def broken(params, images):
        return jnp.where(images.mean(axis=(1, 2, 3))[:, None] > params, jnp.nan, two_layers(PROBLEM[0], images))

    _, images, labels = PROBLEM
    found = pgd(
        broken, np.float32(0.0), images, labels, epsilon=0.1, step_size=0.02, num_steps=2, key=KEY, num_restarts=2
    )
    np.testing.assert_array_equal(found, images)


def test_a_profile_names_the_attack():
    program = jax.jit(lambda epsilon: small_pgd(*PROBLEM, epsilon=epsilon)).lower(0.1)
    assert "gradient_attack/" in program.as_text(debug_info=True)


CASES = [
    ({"epsilon": -0.1}, "epsilon must be finite and not negative, got -0.1"),
    ({"epsilon": [0.1, 0.2]}, r"epsilon must be one number, got shape \(2,\); jax.vmap takes several"),
    ({"epsilon": None}, "epsilon must be an array of numbers, got NoneType"),
    ({"step_size": -1}, "step_size must be finite and not negative, got -1"),
    ({"step_size": np.nan}, "step_size must be finite and not negative, got nan"),
    ({"num_steps": 0}, "num_steps must be an integer of at least 1, got 0"),
    ({"num_steps": 2.0}, "num_steps must be an integer of at least 1, got 2.0"),
    ({"num_restarts": 0}, "num_restarts must be an integer of at least 1, got 0"),
    ({"num_restarts": 2, "random_start": False}, "num_restarts must be 1 without a random start, got 2"),
    ({"unroll": 0}, "unroll must be an integer of at least 1, got 0"),
    ({"norm": "l1"}, "norm must be one of 'linf', 'l2', got 'l1'"),
    ({"bounds": (1.0, 0.0)}, r"bounds must be two numbers, the smaller first, got \(1.0, 0.0\)"),
    ({"labels": np.full(N, 4)}, "labels must lie in 0 to 3, the classes of predict_fn, got 4 to 4"),
    ({"labels": np.full(N, -1)}, "labels must lie in 0 to 3, the classes of predict_fn, got -1 to -1"),
    ({"labels": np.zeros(3, int)}, r"labels must be 16 integers, one per image, got \(3,\)"),
    ({"targets": np.full(N, 4)}, "targets must lie in 0 to 3, the classes of predict_fn, got 4 to 4"),
    ({"targets": np.full(N, -1)}, "targets must lie in 0 to 3, the classes of predict_fn, got -1 to -1"),
    ({"targets": 1}, r"targets must be 16 integers, one per image, got \(\)"),
    ({"targets": np.zeros(N)}, "targets must be 16 integers, one per image, got .*float32"),
    ({"targets": PROBLEM[2]}, "targets must be other classes than the labels, got the same for 16 images"),
    ({"images": 2 * np.ones((N, *SHAPE), np.float32)}, r"images must lie within \(0.0, 1.0\)"),
    ({"images": np.zeros((N, *SHAPE), int)}, "images must be floats .*divide by 255 first"),
    ({"key": None}, r"key must be one key, such as jax.random.key\(0\), or one for each of the 16 .*, got None"),
    ({"key": 0}, "key must be one key, .* got 0"),
    ({"key": jax.random.split(KEY, 3)}, r"key must be one key, .* got key<fry> of shape \(3,\)"),
    ({"key": jnp.zeros(2)}, r"key must be one key, .* got float32 of shape \(2,\)"),
    ({"key": np.zeros(3, np.uint32)}, r"key must be one key, .* got uint32 of shape \(3,\)"),
    ({"key": np.zeros((N, 3), np.uint32)}, r"key must be one key, .* got uint32 of shape \(16, 3\)"),
    ({"loss_fn": "margin"}, "loss_fn must be a function .* got 'margin'"),
    ({"loss_fn": lambda logits, labels: logits}, r"loss_fn must give 16 real losses, .* got \(16, 4\) of float32"),
    ({"loss_fn": lambda logits, labels: None}, "loss_fn must give 16 real losses, one per image, got None"),
    ({"loss_fn": lambda logits: logits}, r"loss_fn must take logits \(16, 4\) and labels \(16,\) .*got TypeError"),
    ({"predict_fn": linear, "params": np.ones(SHAPE, np.float32), "labels": np.zeros(N, int),
      "loss_fn": logits_ratio_loss}, "loss_fn must take .* got ValueError: logits must have 3 or more classes"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), CASES)
def test_bad_input_is_named_before_anything_is_compiled(changes, message, no_shape_types, count_compilations):
    params, images, labels = PROBLEM
    values = {"predict_fn": two_layers, "params": params, "images": images, "labels": labels, "epsilon": 0.1}
    values |= {"step_size": 0.02, "num_steps": 5, "key": KEY} | changes
    with count_compilations() as compiled, pytest.raises(ValueError, match=message) as raised:
        pgd(**values)
    assert "\n" not in str(raised.value)
    assert compiled.count == 0


def test_a_step_longer_than_the_ball_is_warned_of():
    with pytest.warns(UserWarning, match="step_size 0.3 is longer than the ball is wide, 0.2"):
        small_pgd(*PROBLEM, epsilon=0.1, step_size=0.3)
    for epsilon, step_size in ((0.1, 0.125), (0.0, 0.3)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small_pgd(*PROBLEM, epsilon=epsilon, step_size=step_size)


def test_the_default_loss_is_the_cross_entropy():
    np.testing.assert_array_equal(small_pgd(*PROBLEM), small_pgd(*PROBLEM, loss_fn=cross_entropy_loss))
