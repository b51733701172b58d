import numpy as np
import pytest

from experiments.data.image_sets import IMAGE_SETS, ImageFiles, ImageLibrary, image_set_names
from experiments.data.images import load_images


def examples(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return images, np.arange(count, dtype=np.int32) % 3


def test_unknown_name_lists_the_names():
    names = ["embedded", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"]
    names += ["tfds:NAME", "npz:FILE", "folder:DIRECTORY"]
    assert image_set_names() == names
    for name in ("imagenet", "mnist:small", "tfds", "npz", ""):
        with pytest.raises(ValueError, match=f"data set must be one of {', '.join(names)}, got '{name}'"):
            load_images(name)


def read_mine(paths):
    images, labels = (np.load(path) for path in paths)
    return images, labels, images[:2], labels[:2]


def test_somebody_else_adds_a_set_as_one_entry(monkeypatch, tmp_path):
    entry = ImageFiles(read_mine, {"pictures.npy": ["pictures.npy"], "kinds.npy": ["kinds.npy"]}, num_classes=3)
    monkeypatch.setitem(IMAGE_SETS, "mine", entry)
    images, labels = examples(5)
    np.save(tmp_path / "pictures.npy", images)
    np.save(tmp_path / "kinds.npy", labels)
    data = load_images("mine", tmp_path)
    np.testing.assert_array_equal(data.train_images, images)
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1]
    assert data.test_labels.tolist() == [0, 1]
    assert (data.name, data.num_classes) == ("mine", 3)
    with pytest.raises(ValueError, match=r"must be a directory with pictures\.npy, kinds\.npy for mine, got none"):
        load_images("mine")
    with pytest.raises(ValueError, match="folder:DIRECTORY, mine, got 'other'"):
        load_images("other")


def test_somebody_else_adds_a_library_as_one_entry(monkeypatch, tmp_path):
    def read(name, data_dir, download):
        asked.append((name, data_dir, download))
        images, labels = examples(5)
        return (images, labels, images[:2], labels[:2]), 3

    asked = []
    monkeypatch.setitem(IMAGE_SETS, "zoo", ImageLibrary(read))
    assert load_images("zoo:cats:2", str(tmp_path), download=True).name == "zoo:cats:2"
    load_images("zoo:cats")
    assert asked == [("cats:2", tmp_path, True), ("cats", None, False)]
    assert image_set_names()[-1] == "zoo:NAME"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "t10k-labels-idx1-ubyte[.gz]"),
        ("fashion_mnist", "train-images-idx3-ubyte[.gz]"),
        ("cifar10", "data_batch_5.bin, test_batch.bin"),
        ("cifar100", "train.bin, test.bin"),
        ("svhn", "train_32x32.mat, test_32x32.mat"),
    ],
)
def test_no_directory_names_the_files(name, file):
    with pytest.raises(
        ValueError, match=f"data_dir .--data-dir. must be a directory with .* for {name}, got none"
    ) as caught:
        load_images(name)
    assert file in str(caught.value)


def test_settings_that_would_be_ignored_are_refused(tmp_path):
    with pytest.raises(ValueError, match="data_dir must not be given for embedded"):
        load_images("embedded", tmp_path)
    with pytest.raises(ValueError, match="download must be False for mnist"):
        load_images("mnist", tmp_path, download=True)


def test_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="absent: must be a directory with") as caught:
        load_images("svhn", "~/absent")
    assert str(tmp_path) in str(caught.value)
