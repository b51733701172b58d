import hashlib
import struct

import numpy as np
import pytest

from experiments.data.embedded.make_fashion_mnist_mini import make
from experiments.data.image_sets import EMBEDDED_FILE
from experiments.data.images import load_images
from experiments.data.source_files import EMBEDDED

SHA256 = "afc2030e562f800960ead4ef65029b57020aed027d4b9967bcb785bc2f26a5d3"


def test_file_is_the_one_that_the_readme_names():
    content = (EMBEDDED / EMBEDDED_FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    readme = (EMBEDDED / "README.md").read_text()
    assert SHA256 in readme
    assert f"{len(content):,}" in readme


def test_licence_travels_with_the_images():
    text = (EMBEDDED / "FASHION_MNIST_LICENSE").read_text()
    assert "Copyright 2017 Zalando SE" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_embedded_set_is_the_published_one():
    data = load_images("embedded")
    assert data.train_images.shape == (5_000, 28, 28, 1)
    assert data.test_images.shape == (1_000, 28, 28, 1)
    assert data.num_classes == 10
    train, test = np.bincount(data.train_labels), np.bincount(data.test_labels)
    assert (train.min(), train.max()) == (457, 556)
    assert (test.min(), test.max()) == (87, 115)
    # Fashion-MNIST as a whole has 0.2860 and 0.3530; 5,000 images are within a hundredth of it.
    np.testing.assert_allclose(data.channel_mean, 0.2860, atol=0.01)
    np.testing.assert_allclose(data.channel_std, 0.3530, atol=0.01)


def write_source(directory, train_count, test_count):
    """Four idx files with images that tell one from another and are quickly compressed."""
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train_count), ("t10k", test_count)):
        images = np.tile(generator.integers(0, 256, (count, 1, 4), dtype=np.uint8), (28, 7))
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        image_header, label_header = struct.pack(">4I", 2051, count, 28, 28), struct.pack(">2I", 2049, count)
        (directory / f"{prefix}-images-idx3-ubyte").write_bytes(image_header + images.tobytes())
        (directory / f"{prefix}-labels-idx1-ubyte").write_bytes(label_header + labels.tobytes())


def test_script_keeps_the_first_images_and_writes_the_same_bytes(tmp_path):
    write_source(tmp_path, 5_002, 1_003)
    source = load_images("fashion_mnist", tmp_path)
    for name in ("first.npz", "second.npz"):
        make(tmp_path, tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    with np.load(tmp_path / "first.npz") as written:
        assert set(written) == {"train_images", "train_labels", "test_images", "test_labels"}
        np.testing.assert_array_equal(written["train_images"], source.train_images[:5_000])
        np.testing.assert_array_equal(written["train_labels"], source.train_labels[:5_000])
        np.testing.assert_array_equal(written["test_images"], source.test_images[:1_000])
        np.testing.assert_array_equal(written["test_labels"], source.test_labels[:1_000])
        assert {array.dtype for array in written.values()} == {np.dtype(np.uint8)}


def test_script_refuses_too_few_images(tmp_path):
    write_source(tmp_path, 5_000, 999)
    with pytest.raises(
        ValueError, match="must hold at least 5000 training and 1000 test images, got 5000 and 999"
    ):
        make(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
