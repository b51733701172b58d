"""The pictures of the attack: what is said in them, and that it can be told apart and read."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import FourierSweep, frequency_grid
from experiments.absum.evaluations.fourier_results import fourier_numbers
from experiments.absum.evaluations.fourier_sweeps import Attack, equal_phases
from experiments.absum.figures import fourier as figures
from experiments.harness.figures import looks, new_figure

NAMES = ("none", "weight_decay", "l1", "absum")


def sweep_of(frequencies, epsilons, correct):
    phases = equal_phases(correct.shape[1])
    return FourierSweep(
        *map(jnp.asarray, (frequencies, np.float32(epsilons), correct, 33, 40, np.float32(phases)))
    )


def numbers_of(sweep, norm="linf"):
    """Those of a sweep of test images, with predictions for 50 images at random."""
    attack = Attack(norm, sweep.epsilons.tolist(), sweep.phases.tolist(), 10)
    rng = np.random.default_rng(2)
    predicted = {"labels": np.zeros(50, int), "classes_clean": rng.integers(0, 2, 50)}
    predicted["classes_chosen"] = rng.integers(0, 2, (len(sweep.epsilons), 50))
    sweeps = {"test": sweep, "validation": sweep_of(sweep.frequencies, sweep.epsilons, sweep.correct)}
    return fourier_numbers(attack, "test", sweeps, predicted, (8, 8))


@pytest.fixture(scope="module")
def sweeps():
    """Two seeds each of random counts of 40 images, 8x8 pixels."""
    rng = np.random.default_rng(0)
    frequencies = np.asarray(frequency_grid(8, 8, half=True))
    epsilons = 0.1, 0.3

    def sweep():
        return sweep_of(frequencies, epsilons, rng.integers(5, 30, (2, 1, len(frequencies))))

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
def numbers(sweeps):
    return {name: [numbers_of(run) for run in runs] for name, runs in sweeps.items()}


@pytest.fixture(scope="module")
def curves(numbers):
    return figures.accuracy_curves(numbers)


@pytest.fixture(scope="module")
def maps(sweeps):
    return figures.heatmaps(sweeps, (8, 8), "linf")


@pytest.fixture(scope="module")
def attacked(sweeps, examples):
    return figures.attacked_images(examples, sweeps, "linf")


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


def test_nothing_lies_on_anything_else(maps, attacked, curves):
    for figure in (maps, attacked, curves):
        require_no_overlap(figure)
    figure, axes = new_figure()
    axes.set_title("one")
    axes.text(0.5, 1.02, "two", transform=axes.transAxes, ha="center")
    with pytest.raises(AssertionError):  # so that the test above can fail
        require_no_overlap(figure)


def lines_of(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]


def test_curves_are_told_apart_without_colours(numbers, curves):
    for axes in curves.axes:
        lines = lines_of(axes)
        assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 4
    labels = [text.get_text() for text in curves.axes[0].get_legend().get_texts()]
    assert labels == ["no regulariser", "weight decay", "L1", "Absum"]


def test_curves_say_which_worst_and_what_the_bars_are(numbers, curves):
    assert [axes.get_title() for axes in curves.axes] == [
        "worst of all 34 frequencies, 40 test images",
        "worst without the 10 binary ones, 40 test images",
        "mean of all 34 frequencies, 40 test images",
        "worst for 40 validation images, on 50 test images",
    ]
    title = curves.get_suptitle()
    assert title == "Single Fourier attack in the L-infinity norm\n2 seeds, bars: lowest to highest seed"
    one_seed = {name: runs[:1] for name, runs in numbers.items()}
    assert "1 seed, bars: 95 % interval" in figures.accuracy_curves(one_seed).get_suptitle()
    assert curves.get_supxlabel() == "epsilon (largest change of a pixel; pixels in [0, 1])"


def test_curves_show_the_means_over_seeds(sweeps, numbers, curves):
    def mean(name, get):
        return np.mean([get(each) for each in numbers[name]], axis=0)

    for index, name in enumerate(sweeps):
        counts = np.stack([run.correct[:, 0] for run in sweeps[name]]) / 40  # [seeds, E, F]
        is_binary = (np.asarray(sweeps[name][0].frequencies) % 2 == 0).all(axis=1)
        expected = [
            [33 / 40, *counts.min(axis=2).mean(axis=0)],
            [33 / 40, *counts[..., ~is_binary].min(axis=2).mean(axis=0)],
            [33 / 40, *counts.mean(axis=(0, 2))],
            [
                mean(name, lambda each: each["chosen_on_validation"]["clean_accuracy"]),
                *mean(name, lambda each: each["chosen_on_validation"]["accuracy"]),
            ],
        ]
        for axes, values in zip(curves.axes, expected, strict=True):
            line = lines_of(axes)[index]
            np.testing.assert_allclose(line.get_ydata(), values, atol=1e-6)
            np.testing.assert_allclose(line.get_xdata(), [0, 0.1, 0.3], atol=0.01)  # side by side


def test_validation_images_alone_have_three_panels_in_any_order_of_epsilons(sweeps):
    run = sweeps["none"][0]
    reverse = sweep_of(run.frequencies, run.epsilons[::-1], run.correct[::-1])
    found = numbers_of(reverse, "l2")
    del found["chosen_on_validation"]
    figure = figures.accuracy_curves({"none": [found]})
    assert len([axes for axes in figure.axes if axes.get_title()]) == 3
    (line,) = lines_of(figure.axes[0])
    assert line.get_xdata().tolist() == sorted(line.get_xdata())
    assert figure.get_supxlabel() == "epsilon (L2 norm of the change of an image; pixels in [0, 1])"


def test_heat_maps_say_what_the_tables_say(numbers, maps):
    for axes, found in zip(maps.axes, numbers.values(), strict=False):
        worst, mean = (np.mean([each[name][1] for each in found]) for name in ("worst_accuracy", "mean_accuracy"))
        assert axes.get_title().splitlines()[1:] == [f"mean accuracy {mean:.3f}", f"worst accuracy {worst:.3f}"]
    assert maps.axes[-1].get_ylabel() == "error at L-infinity norm 0.3"


def test_the_worst_frequency_of_each_seed_is_circled(sweeps, maps):
    for axes, runs in zip(maps.axes, sweeps.values(), strict=False):
        circles = [each.get_offsets().tolist() for each in axes.collections]
        assert len(circles) == 2
        for circle, run in zip(circles, runs, strict=True):
            l, m = run.frequencies[run.correct[1, 0].argmin()].tolist()
            # In cycles from -4 to 3, where index 4 is -4; and the conjugate.
            assert sorted(circle) == sorted([[(s * m + 4) % 8 - 4, (s * l + 4) % 8 - 4] for s in (1, -1)])
    (note,) = maps.axes[0].texts
    assert note.get_text() == "circles: worst frequency of each seed; 2 seeds, 40 images"


def test_heat_maps_of_several_phases_show_the_worst_of_each_frequency():
    correct = np.random.default_rng(3).integers(5, 30, (1, 3, 34))
    sweep = sweep_of(frequency_grid(8, 8, half=True), [0.3], correct)
    figure = figures.heatmaps({"none": [sweep]}, (8, 8), "linf")
    (image,) = figure.axes[0].get_images()
    assert image.get_array()[4, 4] == pytest.approx(1 - correct[0, :, 0].min() / 40, abs=1e-6)
    assert figure.axes[0].get_title().splitlines()[1] == f"mean accuracy {correct.mean() / 40:.3f}"


def test_heat_maps_have_whole_cycles(sweeps, maps):
    for axes in maps.axes[:4]:
        for ticks in (axes.get_xticks(), axes.get_yticks()):
            np.testing.assert_array_equal(ticks, np.round(ticks))
        assert axes.get_xlabel() == "horizontal cycles per image"
    assert maps.axes[0].get_ylabel() == "vertical cycles per image"
    # The pixel in the middle of the picture is the frequency zero.
    error = 1 - np.mean([run.correct[1, 0, 0] for run in sweeps["none"]]) / 40
    (image,) = maps.axes[0].get_images()
    assert image.get_array()[4, 4] == pytest.approx(error, abs=1e-6)
    assert image.get_extent() == [-4.5, 3.5, 3.5, -4.5]


def test_more_than_five_heat_maps_have_two_rows(sweeps):
    figure = figures.heatmaps(dict.fromkeys("abcdefg", sweeps["none"]), (8, 8), "linf")
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes if axes.get_images()]
    assert titles == list("abcdefg")
    assert [axes.get_ylabel() != "" for axes in figure.axes[:7]] == [True, False, False, False, True, False, False]
    require_no_overlap(figure)


def test_wrong_classes_are_told_without_colours(sweeps, attacked):
    pictures = [axes for axes in attacked.axes if axes.get_images()]
    assert len(pictures) == 4 * 3 * 4
    labels = [axes.get_xlabel() for axes in pictures[:12]]
    assert labels == ["1", "2", "3", "4", "1", "0 ≠ 2", "3", "0 ≠ 4", "5 ≠ 1", "6 ≠ 2", "7 ≠ 3", "8 ≠ 4"]
    for axes in pictures:
        is_wrong = "≠" in axes.get_xlabel()
        assert {spine.get_linestyle() for spine in axes.spines.values()} == {"--" if is_wrong else "-"}
    worst = sweeps["none"][0].frequencies[sweeps["none"][0].correct[1, 0].argmin()]
    assert pictures[8].get_title(loc="left") == f"0.3 at ({worst[0]},{worst[1]})"


def test_many_epsilons_show_fewer_images(sweeps):
    arrays = {"example_images": np.zeros((7, 4, 8, 8, 1)), "example_labels": np.zeros(4, int)}
    arrays["example_classes"] = np.zeros((7, 4), int)
    run = sweeps["none"][0]
    six = sweep_of(run.frequencies, np.linspace(0.05, 0.3, 6), np.tile(run.correct[:1], (6, 1, 1)))
    figure = figures.attacked_images({"none": arrays}, {"none": [six]}, "linf")
    assert len([axes for axes in figure.axes if axes.get_images()]) == 7


def test_looks_come_again_only_after_seven_times_seven():
    found = looks(dict.fromkeys(map(str, range(49))))
    assert len({(look.color, look.marker) for look in found.values()}) == 49
    assert len({look.color for look in list(found.values())[:7]}) == 7
