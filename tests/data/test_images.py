import dataclasses

import numpy as np
import pytest

from experiments.data.images import ImageDataset, to_float
from experiments.data.source_files import checksum


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
    images[0, 0, :2, 0] = 0
    data = dataset(train_images=images, train_labels=np.zeros(5_000, np.int32), test_images=images[:6, :4, :4])
    # k of n pixels lower by d: mean 255 - d k/n, variance d**2 (1 - k/n) k/n. float32 rounds to 6e-8 of the value.
    share, depth = np.array([2, 1]) / (5_000 * 16), np.array([255, 1])
    np.testing.assert_allclose(data.channel_mean, 1 - depth * share / 255, rtol=1e-7)
    np.testing.assert_allclose(data.channel_std, depth * np.sqrt((1 - share) * share) / 255, rtol=1e-7)


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


@pytest.mark.parametrize(("channel", "value"), [(0, 0), (2, 77)])
def test_a_channel_of_one_value_is_refused(channel, value):
    images = dataset().train_images.copy()
    images[..., channel] = value
    message = f"^small: train_images must have .*got {value} everywhere in channel {channel}$"
    with pytest.raises(ValueError, match=message):
        dataset(train_images=images)
    # The test images are scaled by the training set's deviation, and may be of one value.
    dataset(test_images=images[:6])
    images[-1, -1, -1, channel] = value + 1
    assert dataset(train_images=images).channel_std.min() > 0


def test_checksums_tell_the_splits():
    data = dataset()
    assert data.checksum("train") == checksum(data.train_images, data.train_labels)
    assert data.checksum("test") == checksum(data.test_images, data.test_labels)
    inverted = dataset(train_images=255 - data.train_images)
    relabelled = dataset(train_labels=data.train_labels[::-1].copy())
    assert len({each.checksum("train") for each in (data, inverted, relabelled)}) == 3
    assert len({each.checksum("test") for each in (data, inverted, relabelled)}) == 1


def test_dataset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset().name = "other"


def test_training_images_are_found_by_number():
    data = dataset(count=20, num_classes=20)
    first, second = data.train_batches(np.array([[3, 1], [19, 3]]))
    assert (first["labels"].tolist(), second["labels"].tolist()) == ([3, 1], [19, 3])
    np.testing.assert_array_equal(second["images"], data.train_images[[19, 3]])
    assert data.train_count == 20


def test_to_float_is_exact_at_the_ends():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = to_float(pixels)
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0, 1)
    np.testing.assert_array_equal(scaled, (pixels.astype(np.float64) / 255).astype(np.float32))


def test_to_float_refuses_what_may_be_scaled_already():
    with pytest.raises(ValueError, match="images must be uint8, got float32"):
        to_float(np.ones(3, np.float32))
