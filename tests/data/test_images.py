import dataclasses

import numpy as np
import pytest

from experiments.data.images import (
    IMAGE_SETS,
    ImageCatalogue,
    ImageDataset,
    ImageFiles,
    image_set_names,
    load_images,
    to_float,
    train_validation_split,
)


def dataset(count=20, shape=(4, 5, 3), num_classes=10, **changed):
    generator = np.random.default_rng(0)
    arrays = {
        "train_images": generator.integers(0, 256, (count, *shape), dtype=np.uint8),
        # Every label its own index: a row can be told by its label.
        "train_labels": np.arange(count, dtype=np.int32) % num_classes,
        "test_images": generator.integers(0, 256, (6, *shape), dtype=np.uint8),
        "test_labels": np.arange(6, dtype=np.int32) % num_classes,
    }
    return ImageDataset(name="small", **{**arrays, "num_classes": num_classes, **changed})


def test_properties_match_float64():
    data = dataset(shape=(7, 5, 2))
    pixels = data.train_images.astype(np.float64).reshape(-1, 2) / 255
    assert data.image_shape == (7, 5, 2)
    # float32 rounds to 6e-8 of the value.
    np.testing.assert_allclose(data.channel_mean, pixels.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(data.channel_std, pixels.std(axis=0), rtol=1e-7)
    assert data.channel_mean.dtype == data.channel_std.dtype == np.float32


def test_statistics_do_not_overflow_or_cancel():
    # The largest sums, and a variance so small that a difference of rounded squares would lose it.
    images = np.full((5_000, 4, 4, 2), 255, np.uint8)
    images[0, 0, 0, 1] = 254
    data = dataset(train_images=images, train_labels=np.zeros(5_000, np.int32), test_images=images[:6, :4, :4])
    assert data.channel_mean[0] == 1
    assert data.channel_std[0] == 0
    count = 5_000 * 16
    # One pixel of n lower by 1: variance (1 - 1/n) / n. 1e-6: 65025 * 2**-53 over that variance of 1.25e-5.
    expected = np.sqrt((1 - 1 / count) / count) / 255
    np.testing.assert_allclose(data.channel_std[1], expected, rtol=1e-6)


IMAGES = np.zeros((20, 4, 5, 3), np.uint8)
LABELS = np.zeros(20, np.int32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_images": IMAGES.astype(np.float32)}, "train_images must be uint8 .*got float32"),
        (
            {"test_images": IMAGES[:6, ..., 0]},
            r"test_images must be .*\[N, H, W, C\], .*got uint8 of shape \(6, 4, 5\)",
        ),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, r"not empty, .*shape \(0, 4, 5, 3\)"),
        ({"train_images": IMAGES[:, :0]}, "not empty"),
        ({"train_labels": LABELS.astype(np.int64)}, "train_labels must be int32 .*got int64"),
        (
            {"train_labels": LABELS[:19]},
            r"train_labels must be int32 of shape \(20,\), .*got int32 of shape \(19,\)",
        ),
        ({"test_labels": np.zeros((6, 1), np.int32)}, r"test_labels must be .*\(6,\), .*got .*\(6, 1\)"),
        (
            {"test_labels": np.arange(5, 11, dtype=np.int32)},
            r"test_labels must be in \[0, 9\], got \[5, 10\]",
        ),
        ({"train_labels": LABELS - 1}, r"train_labels must be in \[0, 9\], got \[-1, -1\]"),
        ({"test_images": IMAGES[:6, :3]}, r"must have one shape .*, got \(4, 5, 3\) and \(3, 5, 3\)"),
    ],
)
def test_dataset_names_what_is_wrong(changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        dataset(**changed)
    assert str(caught.value).startswith("small: ")


def test_dataset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset().name = "other"


def test_unknown_name_lists_the_names():
    names = ["embedded", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "tfds:NAME"]
    assert image_set_names() == names
    for name in ("imagenet", "mnist:small", "tfds", ""):
        with pytest.raises(ValueError, match=f"data set must be one of {', '.join(names)}, got '{name}'"):
            load_images(name)


def read_mine(paths):
    images, labels = (np.load(path) for path in paths)
    return images, labels, images[:2], labels[:2]


def test_somebody_else_adds_a_set_as_one_entry(monkeypatch, tmp_path):
    entry = ImageFiles(read_mine, {"pictures.npy": ["pictures.npy"], "kinds.npy": ["kinds.npy"]}, num_classes=3)
    monkeypatch.setitem(IMAGE_SETS, "mine", entry)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", images)
    np.save(tmp_path / "kinds.npy", np.array([0, 1, 2, 0, 1], np.int32))
    data = load_images("mine", tmp_path)
    np.testing.assert_array_equal(data.train_images, images)
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1]
    assert data.test_labels.tolist() == [0, 1]
    assert (data.name, data.num_classes) == ("mine", 3)
    with pytest.raises(ValueError, match=r"must be a directory with pictures\.npy, kinds\.npy for mine, got none"):
        load_images("mine")
    with pytest.raises(ValueError, match="svhn, tfds:NAME, mine, got 'other'"):
        load_images("other")


def test_somebody_else_adds_a_library_as_one_entry(monkeypatch, tmp_path):
    def read(name, data_dir, download):
        asked.append((name, data_dir, download))
        data = dataset()
        return (data.train_images, data.train_labels, data.test_images, data.test_labels), 10

    asked = []
    monkeypatch.setitem(IMAGE_SETS, "zoo", ImageCatalogue(read))
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


def test_validation_split_has_every_image_once():
    data = dataset(count=20, num_classes=20)
    train, validation = train_validation_split(data, 6, seed=0)
    assert (len(train["labels"]), len(validation["labels"])) == (14, 6)
    assert sorted([*train["labels"], *validation["labels"]]) == list(range(20))
    for part in (train, validation):
        assert part["images"].dtype == np.uint8
        np.testing.assert_array_equal(part["images"], data.train_images[part["labels"]])


def test_validation_split_depends_on_the_seed_alone():
    data = dataset(count=20, num_classes=20)
    validation = [train_validation_split(data, 6, seed)[1]["labels"].tolist() for seed in (0, 0, 1)]
    assert validation[0] == validation[1] != validation[2]


def test_validation_split_of_no_images_keeps_all():
    train, validation = train_validation_split(dataset(), 0, seed=0)
    assert (len(train["images"]), len(validation["images"])) == (20, 0)


@pytest.mark.parametrize("size", [-1, 20, 21])
def test_validation_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"validation_size must be 0 to 19, of 20 images, got {size}"):
        train_validation_split(dataset(), size, seed=0)


def test_to_float_is_exact_at_the_ends():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = to_float(pixels)
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0, 1)
    np.testing.assert_array_equal(scaled, (pixels.astype(np.float64) / 255).astype(np.float32))


def test_to_float_refuses_what_may_be_scaled_already():
    with pytest.raises(ValueError, match="images must be uint8, got float32"):
        to_float(np.ones(3, np.float32))
