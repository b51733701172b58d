"""The heat map of known networks: against a float64 reference, where it goes on, and what is drawn."""

import dataclasses

import jax
import numpy as np
import pytest

from absum_jax import frequency_grid
from experiments.absum.evaluations.heatmap import HEATMAP, Heatmap
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from tests.absum.evaluations.known_networks import classes_of, known_network

EPSILON = 3.0
SETTINGS = Heatmap(images=24, batch_size=24, epsilon=EPSILON)


@pytest.fixture(scope="module", params=[0, 12], ids=["linear", "two layers"])
def trained(request, splits):
    """Two channels: a sign for each."""
    return known_network(np.concatenate([splits[2], splits[2][::-1]], axis=-1), hidden=request.param)


def partial_in(path):
    return Partial(path / "partial.npz", {})


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    return HEATMAP.measure(trained, SETTINGS, partial_in(tmp_path_factory.mktemp("heatmap")))


def test_errors_are_those_with_some_sign_on_each_channel(trained, measured):
    """Which of the four signs an image has is the library's; each image's class must be that of one of them."""
    images, labels = trained.subject.images("test")
    pixels, labels = to_float(images[:24]).astype(np.float64), labels[:24]
    rows, columns = np.mgrid[:16, :16]
    grid = np.asarray(frequency_grid(16, 16, half=True))
    np.testing.assert_array_equal(measured.arrays["test_frequencies"], grid)
    has_spread = 0
    for index in range(0, len(grid), 13):
        l, m = grid[index]
        wave = np.cos(2 * np.pi * (l * rows + m * columns) / 16)
        wave *= EPSILON / np.linalg.norm(wave)
        signs = [np.array([first, second]) for first in (-1, 1) for second in (-1, 1)]
        changes = [wave[None, :, :, None] * each for each in signs]
        right = np.stack([classes_of(trained, np.clip(pixels + change, 0, 1)) == labels for change in changes])
        correct = measured.arrays["test_correct"][0, 0, index]
        assert right.all(axis=0).sum() <= correct <= right.any(axis=0).sum()
        has_spread += right.all(axis=0).sum() < correct < right.any(axis=0).sum()
    assert has_spread  # neither the best nor the worst sign of each image


def test_at_no_norm_the_error_is_that_of_clean_images(trained, tmp_path):
    numbers = HEATMAP.measure(trained, dataclasses.replace(SETTINGS, epsilon=0.0), partial_in(tmp_path)).numbers
    assert numbers["mean_error"] == numbers["worst_error"] == numbers["clean_error"]


def test_numbers_follow_from_the_counts(measured):
    errors = 1 - measured.arrays["test_correct"][0, 0] / 24
    numbers = measured.numbers
    assert numbers["mean_error"] == pytest.approx(errors.mean(), abs=1e-6)  # six digits are kept
    assert numbers["worst_error"] == pytest.approx(errors.max(), abs=1e-6)
    assert numbers["worst_frequency"] == measured.arrays["test_frequencies"][errors.argmax()].tolist()
    assert (numbers["frequencies"], numbers["images"], numbers["epsilon"]) == (130, 24, 3)
    cells = HEATMAP.cells(numbers)
    assert [cell.value for cell in cells.values()] == [numbers["mean_error"], numbers["worst_error"]]


def test_what_was_broken_off_goes_on(trained, measured, tmp_path):
    part = {name: array for name, array in measured.arrays.items() if name != "image_size"}
    part |= {
        "test_frequencies": part["test_frequencies"][:100],
        "test_correct": part["test_correct"][..., :100] * 0,
    }
    partial = partial_in(tmp_path)
    partial.write(**part)
    found = HEATMAP.measure(trained, SETTINGS, partial).arrays["test_correct"]
    # What was there is taken as it was, and the rest has the same signs as before.
    assert not found[..., :100].any()
    np.testing.assert_array_equal(found[..., 100:], measured.arrays["test_correct"][..., 100:])


@pytest.mark.parametrize(("shape", "epsilon"), [((32, 32, 3), 4.0), ((16, 16, 1), 2.0)])
def test_by_default_the_norm_is_that_of_the_paper_for_each_pixel(shape, epsilon, tmp_path):
    trained = known_network(np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8))
    with jax.default_device(jax.devices()[0]):
        assert HEATMAP.measure(trained, Heatmap(images=2), partial_in(tmp_path)).numbers["epsilon"] == epsilon


def test_zero_lies_in_the_centre_of_the_figure(measured):
    figure = HEATMAP.products({"none": [measured], "absum": [measured, measured]})["fourier_heatmap.png"]
    drawn = figure.axes[0].get_images()[0].get_array()
    errors = 1 - measured.arrays["test_correct"][0, 0] / 24
    assert drawn.shape == (16, 16)
    assert drawn[8, 8] == pytest.approx(errors[0])
    assert measured.arrays["test_frequencies"][0].tolist() == [0, 0]
    assert "L2 norm 3 on each channel" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 41}, "--heatmap.images must be at most the 40 test images"),
        ({"epsilon": 17.0}, r"--heatmap.epsilon must lie in \[0, 16\]"),
        ({"seed": -1}, "--heatmap.seed must not be negative"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trained, change, message):
    with pytest.raises(ValueError, match=message):
        HEATMAP.check(trained.subject, dataclasses.replace(SETTINGS, **change))
