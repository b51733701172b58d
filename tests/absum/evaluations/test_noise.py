"""Accuracy under noise, against a float64 reference; what does not matter, what is stored, what is drawn."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.absum.evaluations.noise import NOISE, Noise
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from tests.absum.evaluations.known_networks import classes_of, known_network

SETTINGS = Noise(images=24, batch_size=24, draws=2, epsilon=4.0, epsilons=(2.0, 4.0), bandwidths=(0, 3, 8, 16))


@pytest.fixture(scope="module", params=[0, 12], ids=["linear", "two layers"])
def trained(request, splits):
    return known_network(splits[2], hidden=request.param)


def partial_in(path):
    return Partial(path / "partial.npz", {})


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    return NOISE.measure(trained, SETTINGS, partial_in(tmp_path_factory.mktemp("noise")))


def reference_noise(seed, draw, row, shape, kind, bandwidth, epsilon):
    """White noise, of whose spectrum a centred square is kept."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), draw), row)
    white = np.asarray(jax.random.normal(key, shape), np.float64)
    if kind == "white":
        bandwidth = shape[0]
    spectrum = np.fft.fft2(white, axes=(0, 1))
    if kind != "high":
        spectrum = np.fft.fftshift(spectrum, axes=(0, 1))
    first = shape[0] // 2 - bandwidth // 2
    kept = np.zeros_like(spectrum)
    square = slice(first, first + bandwidth)
    kept[square, square] = spectrum[square, square]
    if kind != "high":
        kept = np.fft.ifftshift(kept, axes=(0, 1))
    noise = np.fft.ifft2(kept, axes=(0, 1)).real
    return epsilon * noise / max(np.linalg.norm(noise), 1e-300)


def reference(trained, kind, bandwidth, epsilon):
    images, labels = trained.subject.images("test")
    images, labels = to_float(images[:24]).astype(np.float64), labels[:24]
    right = 0
    for draw in range(2):
        noise = [
            reference_noise(0, draw, row, images.shape[1:], kind, bandwidth, epsilon) for row in range(len(images))
        ]
        right += np.sum(classes_of(trained, np.clip(images + np.stack(noise), 0, 1)) == labels)
    return right / 48


def test_accuracies_are_those_of_the_reference(trained, measured):
    numbers = measured.numbers
    for kind in ("low", "high"):
        wanted = [reference(trained, kind, bandwidth, 4.0) for bandwidth in (0, 3, 8, 16)]
        np.testing.assert_allclose(numbers["over_bandwidth"][kind], wanted, atol=1e-6)  # six digits are kept
    for kind in ("low", "high", "white"):
        wanted = [reference(trained, kind, 8, epsilon) for epsilon in (2.0, 4.0)]
        np.testing.assert_allclose(numbers["over_norm"][kind], wanted, atol=1e-6)
        assert numbers["accuracy"][kind] == numbers["over_norm"][kind][1]
    # Enough noise to tell one network, band or norm from another.
    assert len({accuracy for part in numbers["over_norm"].values() for accuracy in part}) > 2


def test_no_bandwidth_is_clean_and_the_whole_spectrum_is_white(measured):
    over_bandwidth = measured.numbers["over_bandwidth"]
    for kind in ("low", "high"):
        assert over_bandwidth[kind][0] == pytest.approx(measured.numbers["clean_accuracy"], abs=1e-6)
        assert over_bandwidth[kind][-1] == measured.numbers["accuracy"]["white"]


def test_noise_does_not_depend_on_batches_or_on_which_sorts_were_asked_for(trained, measured, tmp_path):
    settings = dataclasses.replace(SETTINGS, batch_size=7, bandwidths=(3,), epsilons=(4.0,))
    found = NOISE.measure(trained, settings, partial_in(tmp_path)).numbers
    assert found["over_bandwidth"]["low"] == [measured.numbers["over_bandwidth"]["low"][1]]
    assert found["accuracy"] == measured.numbers["accuracy"]


def test_what_was_broken_off_goes_on(trained, measured, tmp_path):
    partial = partial_in(tmp_path)
    partial.write(is_right=np.zeros_like(measured.arrays["is_right"][:3]))
    found = NOISE.measure(trained, SETTINGS, partial)
    # What was there is taken as it was, all of it wrong, and the rest measured.
    np.testing.assert_array_equal(found.arrays["is_right"][3:], measured.arrays["is_right"][3:])
    assert not found.arrays["is_right"][:3].any()
    assert measured.arrays["is_right"][:3].any()


@pytest.mark.parametrize(("shape", "epsilon"), [((32, 32, 3), 8.0), ((16, 16, 1), 8 * math.sqrt(256 / 3072))])
def test_by_default_the_norm_is_that_of_the_paper_for_each_pixel(shape, epsilon, tmp_path):
    trained = known_network(np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8))
    numbers = NOISE.measure(trained, Noise(images=4, draws=1), partial_in(tmp_path)).numbers
    assert numbers["epsilon"] == pytest.approx(epsilon, abs=5e-4)  # three digits are kept
    assert (numbers["bandwidths"][0], numbers["bandwidths"][-1]) == (0, shape[0])
    assert numbers["bandwidth"] == shape[0] // 2


def test_findings_have_the_interval_of_the_images_however_many_draws_there_are(measured):
    for found, kind in zip(NOISE.findings(measured.numbers), ("low", "high", "white"), strict=True):
        assert (found["examples"], found["threat_model"]) == (24, "corruptions")
        assert found["accuracy"] == measured.numbers["accuracy"][kind]
        # A count is whole, where a mean over two draws may lie between two: half an image of 24.
        np.testing.assert_allclose(found["interval"], measured.numbers["interval"][kind], atol=0.5 / 24)


def test_cells_and_figures(measured):
    cells = NOISE.cells(measured.numbers)
    assert list(cells) == ["low-frequency noise", "high-frequency noise", "white noise"]
    low, high = measured.numbers["interval"]["low"]
    assert 0 <= low < cells["low-frequency noise"].value < high <= 1
    products = NOISE.products({"none": [measured, measured], "absum": [measured, measured]})
    over_bandwidth, over_norm = products["noise_over_bandwidth.png"], products["noise_over_norm.png"]
    assert [len(figure.axes) for figure in (over_bandwidth, over_norm)] == [2, 3]
    line = over_bandwidth.axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 3, 8, 16])
    np.testing.assert_allclose(line.get_ydata(), measured.numbers["over_bandwidth"]["low"])
    assert "2 seeds" in over_norm.get_suptitle()
    assert "L2 norm 4" in over_bandwidth.get_suptitle()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 41}, "--noise.images must be at most the 40 test images, got 41"),
        ({"draws": 0}, "--noise.draws must be at least 1"),
        ({"epsilon": -1.0}, r"--noise.epsilon must lie in \[0, 16\]"),
        ({"epsilons": (1.0, math.nan)}, r"--noise.epsilons must lie in \[0, 16\]"),
        ({"bandwidths": (0, 17)}, r"must lie in 0 to 16, got \(0, 17\)"),
        ({"bandwidth": 17}, "must lie in 0 to 16, got 17"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trained, change, message):
    NOISE.check(trained.subject, SETTINGS)
    with pytest.raises(ValueError, match=message):
        NOISE.check(trained.subject, dataclasses.replace(SETTINGS, **change))
