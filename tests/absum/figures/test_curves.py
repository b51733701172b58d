"""Curves over the seeds: mean, band, order of the places, names."""

import numpy as np

from experiments.absum.figures.curves import draw_curves, seeds_in_words
from experiments.harness.figures import new_figure

CURVES = {"none": [[0.5, 0.9, 0.1], [0.7, 0.9, 0.3]], "absum": [[0.6, 0.8, 0.2], [0.6, 0.8, 0.4]]}


def test_the_mean_is_drawn_in_order_with_a_band():
    _, axes = new_figure()
    draw_curves(axes, [2, 1, 3], CURVES, title="a title")
    lines, bands = axes.get_lines(), axes.collections
    assert [line.get_label() for line in lines] == ["no regulariser", "Absum"]
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    np.testing.assert_array_equal(lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(lines[0].get_ydata(), [0.9, 0.6, 0.2])
    corners = bands[0].get_paths()[0].vertices
    assert {(2.0, 0.5), (2.0, 0.7), (3.0, 0.1), (3.0, 0.3)} <= set(map(tuple, corners))
    assert (axes.get_title(), axes.get_ylim()) == ("a title", (0, 1))


def test_one_seed_has_no_band():
    _, axes = new_figure()
    single = {name: seeds[:1] for name, seeds in CURVES.items()}
    draw_curves(axes, [1, 2, 3], single, title="")
    assert not axes.collections
    assert seeds_in_words(single) == "1 seed"
    assert seeds_in_words(CURVES) == "mean of 2 seeds, bands: lowest to highest"
