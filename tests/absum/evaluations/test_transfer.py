"""Transferred attacks between known networks: against a float64 reference; the diagonal is the direct attack."""

import dataclasses
import weakref
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest

from absum_jax import frequency_grid
from experiments.absum.evaluations.transfer import TRANSFER, Transfer
from experiments.absum.evaluations.transfer_tables import ATTACKS
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from tests.absum.evaluations.known_networks import classes_of, known_network

SETTINGS = Transfer(images=24, validation_images=16, batch_size=24, fourier_epsilon=0.2, gradient_epsilon=0.02)


def with_subject(trained, regularizer, labels=None):
    """As a run of that regulariser; all have the same labels, as they have the same test images."""
    subject = SimpleNamespace(**vars(trained.subject))
    subject.group, subject.facts = regularizer, subject.facts | {"regularizer": regularizer}
    if labels is not None:
        subject.images = lambda split: (trained.subject.images(split)[0], labels[:: 1 if split == "test" else -1])
    return SimpleNamespace(**vars(trained) | {"subject": subject})


@pytest.fixture(scope="module")
def networks(splits):
    """Two seeds of one and one of another, with a hidden layer; all of the same weights but for some."""
    images, first = splits[2], known_network(splits[2])
    labels = first.subject.images("test")[1]
    second = known_network(images, seed=1)
    for layer, values in second.params.items():
        for name, own in values.items():
            values[name] = (0.7 * first.params[layer][name] + 0.3 * own).astype(np.float32)
    third = known_network(images, hidden=12, seed=2)
    return [
        with_subject(first, "none", labels=labels),
        with_subject(second, "none", labels=labels),
        with_subject(third, "absum", labels=labels),
    ]


@pytest.fixture(scope="module")
def finished(networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("transfer")
    return [
        (trained, TRANSFER.measure(trained, SETTINGS, Partial(path / f"{index}.npz", {})))
        for index, trained in enumerate(networks)
    ]


@pytest.fixture(scope="module")
def compared(finished, tmp_path_factory):
    return TRANSFER.comparison.measure(
        finished, SETTINGS, Partial(tmp_path_factory.mktemp("matrix") / "p.npz", {})
    )


def fourier_attack(pixels, frequency):
    rows, columns = np.mgrid[:16, :16]
    wave = np.cos(2 * np.pi * (frequency[0] * rows + frequency[1] * columns) / 16 + np.pi / 4)
    return np.clip(pixels + (0.2 * wave / np.abs(wave).max())[None, :, :, None], 0, 1)


def test_the_worst_frequency_is_that_of_validation_images(finished):
    for trained, measured in finished:
        images, labels = trained.subject.images("validation")
        pixels, labels = to_float(images[:16]), labels[:16]
        grid = np.asarray(frequency_grid(16, 16, half=True)).tolist()
        correct = [np.sum(classes_of(trained, fourier_attack(pixels, each)) == labels) for each in grid]
        assert measured.numbers["frequency"] == grid[int(np.argmin(correct))]


def test_every_entry_is_the_accuracy_of_the_target_on_the_images_of_the_substitute(finished, compared):
    accuracy = compared.numbers["accuracy"]
    for row, (substitute, made) in enumerate(finished):
        images, labels = substitute.subject.images("test")
        pixels, labels = to_float(images[:24]), labels[:24]
        shown = {name: made.arrays[f"images_{name}"] for name in ("pgd", "fgsm")}
        shown["fourier"] = fourier_attack(pixels, made.numbers["frequency"])
        for name in ("pgd", "fgsm"):
            assert 0 < np.abs(shown[name] - pixels).max() <= 0.02 + 1e-6  # a rounding of float32
        for column, (target, _) in enumerate(finished):
            for name, each in shown.items():
                wanted = np.mean(classes_of(target, each) == labels)
                assert accuracy[name][row][column] == pytest.approx(wanted, abs=1e-6)  # six digits are kept


def test_the_diagonal_is_the_direct_attack_and_stronger_than_others(finished, compared):
    for name in ATTACKS:
        matrix = np.asarray(compared.numbers["accuracy"][name])
        direct = [measured.numbers["accuracy"][name] for _, measured in finished]
        np.testing.assert_array_equal(np.diag(matrix), direct)
    matrix = np.asarray(compared.numbers["accuracy"]["pgd"])
    assert matrix[0, 0] < matrix[1, 0] < matrix[2, 0]  # from itself, from one much like it, from another


def test_what_was_broken_off_goes_on(finished, compared, tmp_path):
    partial = Partial(tmp_path / "partial.npz", {})
    partial.write(correct=np.zeros((1, 3, 3), int))
    found = TRANSFER.comparison.measure(finished, SETTINGS, partial).numbers["accuracy"]
    for name in ATTACKS:
        # What was there is taken as it was, and the rest measured.
        assert found[name] == [[0, 0, 0], *compared.numbers["accuracy"][name][1:]]


def test_tables_are_means_over_pairs_of_different_networks(compared):
    tables = TRANSFER.comparison.tables(compared.numbers)
    assert [title.split(":")[0] for title in tables] == [
        "transfer of worst frequency of validation images at 0.2", "transfer of PGD at 0.02",
        "transfer of FGSM at 0.02",
    ]  # fmt: skip
    header, lines = list(tables.values())[1]
    matrix, clean = np.asarray(compared.numbers["accuracy"]["pgd"]), compared.numbers["clean_accuracy"]

    def spread(*values):
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"

    assert header == ["substitute", "none", "absum"]
    assert lines == [
        ["none", spread(matrix[1, 0], matrix[0, 1]), f"{(matrix[0, 2] + matrix[1, 2]) / 2:.3f}"],
        ["absum", spread(matrix[2, 0], matrix[2, 1]), ""],
        [
            "all other networks",
            spread((matrix[1, 0] + matrix[2, 0]) / 2, (matrix[0, 1] + matrix[2, 1]) / 2),
            f"{(matrix[0, 2] + matrix[1, 2]) / 2:.3f}",
        ],
        ["the target itself", spread(matrix[0, 0], matrix[1, 1]), f"{matrix[2, 2]:.3f}"],
        ["clean", spread(clean[0], clean[1]), f"{clean[2]:.3f}"],
    ]


def test_the_figure_shows_the_matrices(compared):
    (figure,) = TRANSFER.comparison.products(compared).values()
    panels = figure.axes[:3]
    for axes, name in zip(panels, ATTACKS, strict=True):
        np.testing.assert_allclose(axes.get_images()[0].get_array(), compared.numbers["accuracy"][name])
    assert panels[1].get_title() == "PGD\nepsilon 0.02"
    names = [label.get_text() for label in panels[0].get_xticklabels()]
    assert names == ["no regulariser, seed 0", "no regulariser, seed 1", "Absum, seed 2"]
    assert len(panels[0].texts) == 9


def test_targets_are_paired_by_what_misleads_the_networks_of_other_seeds(finished, tmp_path):
    # Of the second and the third network, as seed 1 of both; the first is the only one of another seed.
    (first, made), _, (third, other) = finished
    third = SimpleNamespace(**vars(third) | {"subject": SimpleNamespace(**vars(third.subject))})
    third.subject.facts = {"regularizer": "absum", "seed": 1}
    four = [(first, made), finished[1], (third, other), (with_subject(first, "absum"), made)]
    numbers = TRANSFER.comparison.measure(four, SETTINGS, Partial(tmp_path / "p.npz", {})).numbers
    (pair,) = numbers["others"]
    assert (numbers["reference"], pair["name"], pair["seeds"]) == ("absum", "none", [0, 1])
    matrix = np.asarray(numbers["accuracy"]["pgd"])
    of_seed_0 = (matrix[1, 3] + matrix[2, 3]) / 2 - (matrix[1, 0] + matrix[2, 0]) / 2
    of_seed_1 = (matrix[0, 2] + matrix[3, 2]) / 2 - (matrix[0, 1] + matrix[3, 1]) / 2
    assert pair["columns"]["PGD"]["difference"] == pytest.approx((of_seed_0 + of_seed_1) / 2, abs=1e-6)
    assert of_seed_0 != of_seed_1
    assert len(TRANSFER.comparison.tables(numbers)) == 4


class _Read(Mapping):
    """Arrays that are made anew whenever they are looked at, as those on a disk."""

    alive, most = set(), 0

    def __init__(self, arrays):
        self.arrays = arrays

    def __getitem__(self, name):
        found = self.arrays[name].copy()
        if found.ndim == 4:
            number = object()
            _Read.alive.add(number)
            _Read.most = max(_Read.most, len(_Read.alive))
            weakref.finalize(found, _Read.alive.discard, number)
        return found

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)


def test_the_images_of_one_attack_are_in_memory_at_a_time(finished, compared, tmp_path):
    read = [(trained, each._replace(arrays=_Read(each.arrays))) for trained, each in finished]
    found = TRANSFER.comparison.measure(read, SETTINGS, Partial(tmp_path / "p.npz", {}))
    assert found.numbers == compared.numbers
    assert _Read.most <= 4  # of nine: one, and those that JAX, on threads of its own, has not let go of yet


def test_other_images_are_refused(finished, tmp_path):
    (first, measured), _, (third, other) = finished
    partial = Partial(tmp_path / "partial.npz", {})
    changed = other._replace(arrays=other.arrays | {"labels": other.arrays["labels"][::-1]})
    with pytest.raises(
        ValueError, match="the same test images, got others for none, seed 2 than for none, seed 0"
    ):
        TRANSFER.comparison.measure([(first, measured), (third, changed)], SETTINGS, partial)


def test_cells_name_the_frequency(finished):
    measured = finished[0][1]
    l, m = measured.numbers["frequency"]
    wanted = {"worst validation frequency at 0.2": (measured.numbers["accuracy"]["fourier"], f"({l},{m})")}
    assert TRANSFER.cells(measured.numbers) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 41}, "--transfer.images must be at most the 40 test images"),
        ({"validation_images": 41}, "--transfer.validation-images must be at most the 40 validation images"),
        ({"num_steps": 0}, "--transfer.num-steps must be at least 1"),
        ({"gradient_epsilon": 2.0}, r"--transfer.gradient-epsilon must lie in \[0, 1\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(networks, change, message):
    TRANSFER.check(networks[0].subject, SETTINGS)
    with pytest.raises(ValueError, match=message):
        TRANSFER.check(networks[0].subject, dataclasses.replace(SETTINGS, **change))
