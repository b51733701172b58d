"""The picture of a choice of strength shows every score, and what was chosen."""

import numpy as np
import pytest

from experiments.absum.figures.selection import score_panel


@pytest.mark.parametrize("strengths", [(0.1, 0.01, 1.0), (0.0, 0.1, 0.01), (0.0,)])
def test_it_shows_the_mean_every_seed_and_the_chosen_strength(strengths):
    scores = [[0.1 * (i + 1), 0.1 * (i + 2)] for i in range(len(strengths))]
    figure = score_panel(strengths, scores, strengths[-1], regularizer="absum", by="noise")
    mean, seeds, chosen = figure.axes[0].get_lines()
    order = np.argsort(strengths)
    np.testing.assert_allclose(mean.get_xydata(), np.c_[strengths, np.mean(scores, axis=1)][order])
    wanted = [(strengths[i], score) for i in order for score in scores[i]]
    np.testing.assert_allclose(seeds.get_xydata(), wanted)
    assert set(chosen.get_xdata()) == {strengths[-1]}
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["mean over seeds", "a seed", f"chosen: {strengths[-1]:g}"]
    assert figure.axes[0].get_title() == "Absum: 2 seeds"
    figure.canvas.draw()
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == [f"{strengths[i]:g}" for i in order]
