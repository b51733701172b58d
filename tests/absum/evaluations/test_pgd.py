"""PGD of known networks: against the closed form, its controls, its counts, and where it goes on."""

import dataclasses

import numpy as np
import pytest

from absum_jax import frequency_grid
from experiments.absum.evaluations.pgd import PGD, PROJECTED_GRADIENT_DESCENT
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from tests.absum.evaluations.known_networks import classes_of, known_network

EPSILONS = (0.01, 0.03, 0.2)
SETTINGS = PGD(images=24, batch_size=24, epsilons=EPSILONS, steps=(1, 20), noise_draws=3)
ORDER = ("cross_entropy", "margin", "noise", "fourier")  # of the attacks at each epsilon


@pytest.fixture(scope="module")
def linear(splits):
    return known_network(splits[2])


def data_of(trained):
    images, labels = trained.subject.images("test")
    return to_float(images[:24]), labels[:24]


def measure(trained, path, settings=SETTINGS):
    return PROJECTED_GRADIENT_DESCENT.measure(trained, settings, Partial(path / "partial.npz", {}))


@pytest.fixture(scope="module")
def measured(linear, tmp_path_factory):
    return measure(linear, tmp_path_factory.mktemp("pgd"))


def stays_right(trained, epsilon):
    """Whether no image of the ball is wrong [N]: the largest margin of each other class, in closed form."""
    images, labels = (np.asarray(each) for each in data_of(trained))
    x = images.reshape(len(images), -1).astype(np.float64)
    low, high = np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1)
    kernel, bias = (np.asarray(trained.params["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    right = np.ones(len(x), bool)
    for other in range(10):
        weights = kernel[:, other][None] - kernel[:, labels].T  # [N, pixels]
        margin = np.where(weights > 0, high - 0.5, low - 0.5) * weights
        margin = margin.sum(axis=1) + bias[other] - bias[labels]
        right &= (labels == other) | (margin < 0)
    return right


def test_a_linear_network_is_attacked_as_far_as_its_closed_form(linear, measured):
    accuracy = measured.numbers["accuracy"]
    for index, epsilon in enumerate(EPSILONS):
        right = stays_right(linear, epsilon)
        assert accuracy["pgd"][index] == pytest.approx(right.mean(), abs=1e-6)  # six digits are kept
    assert accuracy["pgd"][0] > accuracy["pgd"][1] > accuracy["pgd"][2]


def test_controls_are_weaker_and_those_of_the_reference(linear, measured):
    pixels, labels = data_of(linear)
    rows, columns = np.mgrid[:16, :16]
    accuracy = measured.numbers["accuracy"]
    for index, epsilon in enumerate(EPSILONS):
        right = np.ones(24, bool)
        for l, m in np.asarray(frequency_grid(16, 16, half=True)):
            wave = np.cos(2 * np.pi * (l * rows + m * columns) / 16 + np.pi / 4)
            pattern = epsilon * (wave / np.abs(wave).max())[None, :, :, None]
            right &= classes_of(linear, np.clip(pixels + pattern, 0, 1)) == labels
        assert accuracy["fourier"][index] == pytest.approx(right.mean(), abs=1e-6)
        assert accuracy["pgd"][index] <= min(accuracy["fourier"][index], accuracy["noise"][index])
        assert accuracy["worst_case"][index] == accuracy["pgd"][index]
        assert accuracy["noise"][index] <= measured.numbers["clean_accuracy"]
    assert accuracy["fourier"][1] < measured.numbers["clean_accuracy"]
    assert accuracy["noise"][2] > accuracy["pgd"][2]
    assert measured.numbers["doubts"] == []


def test_noise_is_a_sign_at_every_pixel_that_batches_do_not_change(linear, measured, tmp_path):
    found = measure(linear, tmp_path, dataclasses.replace(SETTINGS, batch_size=7))
    assert found.numbers["accuracy"] == measured.numbers["accuracy"]


def test_steps_chance_and_passes(measured):
    numbers = measured.numbers
    assert numbers["over_steps"]["epsilon"] == 0.01
    one, twenty = numbers["over_steps"]["accuracy"]
    assert one >= twenty == numbers["accuracy"]["pgd"][0]
    at_chance = numbers["epsilon_at_chance"]
    first = EPSILONS.index(at_chance)
    assert [low <= 0.1 for low, _ in numbers["interval"]][: first + 1] == [*[False] * first, True]
    # Two losses: clean, 20 steps, prediction; 130 frequencies.
    assert numbers["passes"] == {
        "pgd": {"forward": 44, "backward": 40},
        "noise": {"forward": 3, "backward": 0},
        "fourier": {"forward": 130, "backward": 0},
    }


def test_what_speaks_against_the_attack_is_found(linear, tmp_path):
    """As if PGD had fooled nothing at the second epsilon; which is also where it goes on from."""
    attacks = {name: np.zeros(24, bool) for name in ORDER}
    second = attacks | {
        "cross_entropy": np.ones(24, bool),
        "margin": np.ones(24, bool),
        "noise": np.arange(24) > 1,
    }
    rows = [each[name] for each in (attacks, second, attacks) for name in ORDER]
    Partial(tmp_path / "partial.npz", {}).write(is_right=np.stack([*rows, rows[0], rows[0]]))
    numbers = measure(linear, tmp_path).numbers
    assert numbers["accuracy"]["pgd"] == [0, 1, 0]
    assert numbers["accuracy"]["worst_case"] == [0, 0, 0]
    noise, fourier, larger = numbers["doubts"]
    assert noise == "at epsilon 0.03 random noise fools 2 images that PGD leaves right"
    assert fourier == "at epsilon 0.03 a Fourier frequency fools 24 images that PGD leaves right"
    assert larger.startswith("a larger epsilon leaves more images right: [0, 24, 0]")


def test_cells_and_figure(measured):
    cells = PROJECTED_GRADIENT_DESCENT.cells(measured.numbers)
    assert list(cells) == ["PGD at 0.01", "PGD at 0.03", "PGD at 0.2"]
    assert cells["PGD at 0.03"].value == measured.numbers["accuracy"]["pgd"][1]
    figure = PROJECTED_GRADIENT_DESCENT.products({"none": [measured], "absum": [measured]})["pgd.png"]
    curve = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(curve.get_xdata(), [0, *EPSILONS])
    clean = measured.numbers["clean_accuracy"]
    np.testing.assert_allclose(curve.get_ydata(), [clean, *measured.numbers["accuracy"]["pgd"]])
    np.testing.assert_array_equal(figure.axes[3].get_lines()[0].get_xdata(), [1, 20])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 41}, "--pgd.images must be at most the 40 test images"),
        ({"epsilons": (2.0,)}, r"--pgd.epsilons must lie in \[0, 1\]"),
        ({"steps_epsilon": 2.0}, r"--pgd.steps-epsilon must lie in \[0, 1\]"),
        ({"losses": ("hinge",)}, "--pgd.losses must be of cross_entropy, margin, logits_ratio, got 'hinge'"),
        ({"losses": ()}, "--pgd.losses must be different names, at least one"),
        ({"steps": (0, 1)}, "--pgd.steps must be numbers of at least 1"),
        ({"num_steps": 0}, "--pgd.num-steps must be at least 1"),
        ({"noise_draws": 0}, "--pgd.noise-draws must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(linear, change, message):
    PROJECTED_GRADIENT_DESCENT.check(linear.subject, SETTINGS)
    with pytest.raises(ValueError, match=message):
        PROJECTED_GRADIENT_DESCENT.check(linear.subject, dataclasses.replace(SETTINGS, **change))
