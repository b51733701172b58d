"""Local images as sets of tensorflow-datasets: read again they are the same; what does not fit is refused."""

import numpy as np
import pytest

from experiments.data.__main__ import main
from experiments.data.images import ImageDataset, load_images
from experiments.data.prepared import write_prepared

tfds = pytest.importorskip("tensorflow_datasets")

PARTS = ("train_images", "train_labels", "test_images", "test_labels")


def dataset(name, shape=(28, 28, 1), num_classes=10):
    rng = np.random.default_rng(len(name))
    splits = []
    for count in (12, 5):
        splits += [rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count, dtype=np.int32) % num_classes]
    return ImageDataset(name, *splits, num_classes=num_classes)


def assert_same(found, wanted):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part), getattr(wanted, part))
    assert found.num_classes == wanted.num_classes


@pytest.mark.parametrize(
    ("name", "written", "shape"),
    [("fashion_mnist", "fashion_mnist/3.0.1", (28, 28, 1)), ("svhn", "svhn_cropped/3.1.0", (32, 32, 3))],
)
def test_a_built_in_set_is_read_under_its_own_name(tmp_path, name, written, shape):
    wanted = dataset(name, shape)
    assert write_prepared(wanted, tmp_path) == tmp_path / written
    set_name = written.split("/", maxsplit=1)[0]
    assert_same(load_images(f"tfds:{set_name}", tmp_path), wanted)
    source = tfds.data_source(set_name, split="test", data_dir=tmp_path, download=False)
    assert source.dataset_info.name == set_name
    np.testing.assert_array_equal(source[3]["image"], wanted.test_images[3])


def test_a_set_of_ones_own_has_a_name_and_a_version_of_its_own(tmp_path):
    wanted = dataset("npz:mine.npz", (6, 5, 3), num_classes=4)
    assert write_prepared(wanted, tmp_path, "mine") == tmp_path / "mine" / "1.0.0"
    assert_same(load_images("tfds:mine", tmp_path), wanted)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    for given, name, message in [
        (dataset("npz:mine.npz"), None, "--name must be given for 'npz:mine.npz'"),
        (dataset("mnist", (32, 32, 3)), None, r"'mnist' must be of shape \(28, 28, 1\) in 10 classes, got \(32"),
        (dataset("own", num_classes=4), "mnist", "in 10 classes, got .* in 4"),
        (dataset("own", (32, 32, 3)), "cifar100", "a set with coarse_label, got images and labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_prepared(given, tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, monkeypatch, capsys):
    wanted = dataset("npz:mine.npz", (6, 5, 1), num_classes=3)
    np.savez(tmp_path / "mine.npz", **{part: getattr(wanted, part) for part in PARTS})
    command = ["prepare", "--data", "npz:mine.npz", "--data-dir", str(tmp_path), "--out", str(tmp_path / "sets")]
    main([*command, "--name", "mine"])
    assert "use it by --data tfds:mine --data-dir" in capsys.readouterr().out
    assert_same(load_images("tfds:mine", tmp_path / "sets"), wanted)
    for arguments, message in [
        ([*command, "--name", "mine"], "mine/1.0.0 is there already; remove it"),
        (command, "--name must be given"),
    ]:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        error = capsys.readouterr().err
        assert exit_info.value.code == 2
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
