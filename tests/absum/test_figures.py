"""The pictures of the attack: what is said in them, and that it can be told apart and read."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import FourierSweep, frequency_grid
from experiments.absum import figures
from experiments.absum.evaluations import fourier
from experiments.harness.figures import looks, new_figure

NAMES = ("none", "weight_decay", "l1", "absum")


def sweep_of(frequencies, epsilons, correct):
    return FourierSweep(*map(jnp.asarray, (frequencies, np.float32(epsilons), correct, 33, 40)))


@pytest.fixture(scope="module")
def sweeps():
    """Two seeds each of random counts of 40 images, 8x8 pixels."""
    rng = np.random.default_rng(0)
    frequencies = np.asarray(frequency_grid(8, 8, half=True))
    epsilons = 0.1, 0.3

    def sweep():
        return sweep_of(frequencies, epsilons, rng.integers(5, 30, (2, len(frequencies))))

    return {name: [sweep(), sweep()] for name in NAMES}


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(1)

    def arrays():
        images = rng.random((3, 4, 8, 8, 1), np.float32)
        classes = np.array([[1, 2, 3, 4], [1, 0, 3, 0], [5, 6, 7, 8]])
        return {"example_images": images, "example_labels": classes[0], "example_classes": classes}

    return {name: arrays() for name in NAMES}


@pytest.fixture(scope="module")
def curves(sweeps):
    return figures.accuracy_curves(sweeps)


@pytest.fixture(scope="module")
def maps(sweeps):
    return figures.heatmaps(sweeps, (8, 8))


@pytest.fixture(scope="module")
def attacked(sweeps, examples):
    return figures.attacked_images(examples, sweeps)


def drawn_texts(figure):
    """Every text that is seen, with its place on the drawn figure."""
    figure.canvas.draw()
    texts = figure.findobj(match=lambda each: hasattr(each, "get_text"))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        texts = [text for text in texts if not any(text in (tick.label1, tick.label2) for tick in unseen)]
    seen = [text for text in texts if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in seen]


def require_no_overlap(figure):
    for (one, first), (other, second) in itertools.combinations(drawn_texts(figure), 2):
        # Half a pixel where two lines of text touch.
        overlaps = first.x0 + 0.5 < second.x1 and second.x0 + 0.5 < first.x1
        overlaps &= first.y0 + 0.5 < second.y1 and second.y0 + 0.5 < first.y1
        assert not overlaps or one == other, (one, other)


def test_nothing_lies_on_anything_else(maps, attacked):
    require_no_overlap(maps)
    require_no_overlap(attacked)
    figure, axes = new_figure()
    axes.set_title("one")
    axes.text(0.5, 1.02, "two", transform=axes.transAxes, ha="center")
    with pytest.raises(AssertionError):  # so that the test above can fail
        require_no_overlap(figure)


def test_curves_are_told_apart_without_colours(sweeps, curves):
    (axes,) = curves.axes
    lines = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 4
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["no regulariser", "weight decay", "L1", "Absum"]
    assert "40 images, 2 seeds, bars: lowest to highest" in axes.get_title()
    one_seed = {name: runs[:1] for name, runs in sweeps.items()}
    assert "1 seed, bars: 95 % interval" in figures.accuracy_curves(one_seed).axes[0].get_title()


def test_curves_show_the_means_over_seeds(sweeps, curves):
    (axes,) = curves.axes
    solid = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    for runs, worst, mean in zip(sweeps.values(), solid, dashed, strict=True):
        counts = np.stack([run.correct for run in runs]) / 40
        np.testing.assert_allclose(worst.get_ydata(), [33 / 40, *counts.min(axis=2).mean(axis=0)], rtol=1e-6)
        np.testing.assert_allclose(mean.get_ydata(), [33 / 40, *counts.mean(axis=(0, 2))], rtol=1e-6)
        np.testing.assert_allclose(worst.get_xdata(), [0, 0.1, 0.3], atol=0.01)  # side by side


def test_heat_maps_say_what_the_tables_say(sweeps, maps):
    for axes, runs in zip(maps.axes, sweeps.values(), strict=False):
        numbers = [fourier._numbers(run) for run in runs]
        worst, mean = (
            np.mean([each[name][1] for each in numbers]) for name in ("worst_accuracy", "mean_accuracy")
        )
        assert axes.get_title().splitlines()[1:] == [f"mean accuracy {mean:.3f}", f"worst accuracy {worst:.3f}"]
    assert maps.axes[-1].get_ylabel() == "error at epsilon 0.3"


def test_heat_maps_have_whole_cycles(sweeps, maps):
    for axes in maps.axes[:4]:
        for ticks in (axes.get_xticks(), axes.get_yticks()):
            np.testing.assert_array_equal(ticks, np.round(ticks))
        assert axes.get_xlabel() == "horizontal cycles per image"
    assert maps.axes[0].get_ylabel() == "vertical cycles per image"
    # The pixel in the middle of the picture is the frequency zero.
    error = 1 - np.mean([run.correct[1, 0] for run in sweeps["none"]]) / 40
    (image,) = maps.axes[0].get_images()
    assert image.get_array()[4, 4] == pytest.approx(error, abs=1e-6)
    assert image.get_extent() == [-4.5, 3.5, 3.5, -4.5]


def test_wrong_classes_are_told_without_colours(sweeps, attacked):
    pictures = [axes for axes in attacked.axes if axes.get_images()]
    assert len(pictures) == 4 * 3 * 4
    labels = [axes.get_xlabel() for axes in pictures[:12]]
    assert labels == ["1", "2", "3", "4", "1", "0 ≠ 2", "3", "0 ≠ 4", "5 ≠ 1", "6 ≠ 2", "7 ≠ 3", "8 ≠ 4"]
    for axes in pictures:
        is_wrong = "≠" in axes.get_xlabel()
        assert {spine.get_linestyle() for spine in axes.spines.values()} == {"--" if is_wrong else "-"}
    worst = sweeps["none"][0].frequencies[sweeps["none"][0].correct[1].argmin()]
    assert pictures[8].get_title(loc="left") == f"0.3 at ({worst[0]},{worst[1]})"


def test_many_epsilons_show_fewer_images(sweeps):
    arrays = {"example_images": np.zeros((7, 4, 8, 8, 1)), "example_labels": np.zeros(4, int)}
    arrays["example_classes"] = np.zeros((7, 4), int)
    run = sweeps["none"][0]
    six = sweep_of(run.frequencies, np.linspace(0.05, 0.3, 6), np.tile(run.correct[:1], (6, 1)))
    figure = figures.attacked_images({"none": arrays}, {"none": [six]})
    assert len([axes for axes in figure.axes if axes.get_images()]) == 7


def test_looks_come_again_only_after_seven_times_seven():
    found = looks(dict.fromkeys(map(str, range(49))))
    assert len({(look.color, look.marker) for look in found.values()}) == 49
    assert len({look.color for look in list(found.values())[:7]}) == 7
