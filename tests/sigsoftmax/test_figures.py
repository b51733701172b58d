"""The pictures: what is drawn, told apart without colour, with numbers that can be read."""

import numpy as np

from experiments.sigsoftmax.figures import display, learning_curves, spectra

CURVES = {
    "softmax": [[[1, 5.5, 5.4], [2, 5.0, 5.1]], [[1, 5.6, 5.5], [2, 5.1, 5.2]]],
    "moss": [[[1, 5.3, 5.2], [2, 4.9, 4.8]]],
}
RANKS = {
    name: {"singular_values": [[1, 8.0], [2, 4.0], [3, last]], "rank": rank, "tolerance": 4e-6,
           "contexts": 20, "vocabulary": 30}
    for name, rank, last in (("softmax", 2, 1e-7), ("moss", 3, 1.0))
}  # fmt: skip


def test_a_curve_for_each_seed_and_one_name_for_each_network():
    (axes,) = learning_curves(CURVES).axes
    lines = axes.get_lines()
    assert len(lines) == 2 * 3  # validation and training of three seeds
    np.testing.assert_allclose(lines[0].get_ydata(), np.exp([5.4, 5.1]))
    np.testing.assert_allclose(lines[1].get_ydata(), np.exp([5.5, 5.0]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["softmax", "MoSS"]


def test_ticks_are_whole_epochs_and_plain_perplexities():
    figure = learning_curves(CURVES)
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    shown = [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]
    assert shown
    assert all(text.isdigit() for text in shown)  # not 2.4 x 10^1
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_network_within_its_first_epoch_has_no_curve_yet():
    (axes,) = learning_curves({"softmax": [[]]}).axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [0, 0]


def test_networks_are_told_apart_without_colour():
    markers = {line.get_marker() for line in learning_curves(CURVES).axes[0].get_lines()[::2]}
    assert len(markers) == 2
    lines = {line.get_linestyle() for line in spectra(RANKS).axes[0].get_lines()}
    assert len(lines) == 2


def test_spectra_have_one_tolerance():
    (axes,) = spectra(RANKS).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [1, 0.5, 1e-7 / 8])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["softmax: rank 2", "MoSS: rank 3", "tolerance of the rank"]
    assert axes.get_title() == "Log-probabilities of 20 test contexts x 30 words"


def test_names_are_written_as_readers_know_them():
    assert [display(name) for name in ("mos", "moss", "relu", "softmax")] == ["MoS", "MoSS", "ReLU", "softmax"]
