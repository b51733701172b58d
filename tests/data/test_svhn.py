import numpy as np
import pytest
import scipy.io

from experiments.data.images import load_images

COUNTS = {"train": 12, "test": 11}


def examples(split):
    generator = np.random.default_rng(len(split))
    images = generator.integers(0, 256, (COUNTS[split], 32, 32, 3), dtype=np.uint8)
    return images, np.arange(COUNTS[split]) % 10


def write(directory, split, *, compress=False, label_type=np.uint8, **changed):
    """The official layout: images last, labels 1 to 10 in a column."""
    images, labels = examples(split)
    stored = np.where(labels == 0, 10, labels).astype(label_type)[:, None]
    variables = {"X": np.moveaxis(images, 0, -1), "y": stored, **changed}
    kept = {key: value for key, value in variables.items() if value is not None}
    path = directory / f"{split}_32x32.mat"
    scipy.io.savemat(path, kept, do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("label_type", [np.uint8, np.float64])
def test_reads_images_and_maps_ten_to_zero(tmp_path, compress, label_type):
    for split in COUNTS:
        write(tmp_path, split, compress=compress, label_type=label_type)
    dataset = load_images("svhn", tmp_path)
    np.testing.assert_array_equal(dataset.train_images, examples("train")[0])
    np.testing.assert_array_equal(dataset.train_labels, examples("train")[1])
    np.testing.assert_array_equal(dataset.test_images, examples("test")[0])
    np.testing.assert_array_equal(dataset.test_labels, examples("test")[1])
    assert dataset.num_classes == 10
    assert dataset.train_labels.dtype == np.int32


def test_all_missing_files_are_named_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"must hold train_32x32.mat, test_32x32.mat \(2 of 2"):
        load_images("svhn", tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_files_are_named(tmp_path, kept, compress):
    write(tmp_path, "test")
    path = write(tmp_path, "train", compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        ValueError, match=r"must be a MATLAB file .* got one truncated, damaged or other"
    ) as caught:
        load_images("svhn", tmp_path)
    assert str(path) in str(caught.value)


def test_a_file_of_another_kind_is_named(tmp_path):
    write(tmp_path, "test")
    (tmp_path / "train_32x32.mat").write_bytes(b"<!DOCTYPE html>" * 100)
    with pytest.raises(ValueError, match=r"train_32x32\.mat: must be a MATLAB file"):
        load_images("svhn", tmp_path)


IMAGES = np.moveaxis(examples("train")[0], 0, -1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": None}, "variables must be X and y, got no y"),
        ({"X": None, "y": None}, "variables must be X and y, got no X and no y"),
        ({"X": IMAGES.astype(float)}, "X must be uint8 .*got float64"),
        (
            {"X": np.moveaxis(IMAGES, -1, 0)},
            r"X must be uint8 of shape \(32, 32, 3, N\), got uint8 of shape \(12, 32, 32, 3\)",
        ),
        ({"X": IMAGES[..., 0]}, r"got uint8 of shape \(32, 32, 3\)"),
        ({"y": np.ones((11, 1), np.uint8)}, "must hold 12 labels, .*got 11"),
        ({"y": np.zeros((12, 1), np.uint8)}, "y must be 1 to 10, got uint8 .*0, 0"),
        ({"y": np.full((12, 1), 11, np.uint8)}, "y must be 1 to 10, got uint8 .*11, 11"),
        ({"y": np.full((12, 1), 1.5)}, "y must be 1 to 10, got float64"),
        ({"y": np.array(["a"] * 12, object)}, "y must be 1 to 10, got object"),
    ],
)
def test_wrong_contents_are_named(tmp_path, changed, message):
    write(tmp_path, "test")
    path = write(tmp_path, "train", **changed)
    with pytest.raises(ValueError, match=message) as caught:
        load_images("svhn", tmp_path)
    assert str(path) in str(caught.value)
