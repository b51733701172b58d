"""The Absum example on a few small images: it trains, attacks and draws."""

import optax
import pytest

from absum_jax import absum_penalty
from examples import absum_flax
from experiments.data.images import ImageDataset, load_images


@pytest.fixture(scope="module")
def few_images():
    whole = load_images("embedded")
    return ImageDataset(
        "few", whole.train_images[:100, 8:20, 8:20], whole.train_labels[:100],
        whole.test_images[:20, 8:20, 8:20], whole.test_labels[:20], num_classes=10,
    )  # fmt: skip


def test_it_draws_a_picture_of_both_sweeps(tmp_path, capsys, few_images):
    path = tmp_path / "heatmaps.png"
    sweeps = absum_flax.main(path, dataset=few_images, steps=3, num_attacked=20)
    assert list(sweeps) == ["without Absum", "with Absum"]
    for sweep in sweeps.values():
        assert sweep.correct.shape == (1, 74)  # 12 x 12: (144 + 4) / 2 distinct frequencies
        assert sweep.total == 20
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "with Absum     clean" in printed
    assert "heatmaps.png" in printed


def test_the_step_with_the_prox_is_one_program_and_takes_filter_sums_to_zero(few_images):
    schedule = optax.constant_schedule(0.05)
    optimizer = optax.sgd(schedule, momentum=0.9)
    step = absum_flax.make_step(schedule, optimizer)
    penalties = [
        absum_penalty(absum_flax.train(few_images, step, optimizer, strength, 3)["params"])
        for strength in (0.0, 20.0)
    ]
    assert step._cache_size() == 1
    # 0.05 * 20 is above the mean of every filter; what is left of the 16 + 512 sums of 25 taps is rounding.
    assert penalties[1] < 1e-4
    assert penalties[0] > 1
