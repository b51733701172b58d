"""A user's own images: what is read is what was written, and each mistake is said in one line."""

import importlib.util
import re

import numpy as np
import pytest
from PIL import Image

from experiments.data.images import load_images
from experiments.data.own_images import SPLIT_KEYS


def examples(count, *shape):
    images = np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.arange(count) % 3


def arrays(*shape):
    return dict(zip(SPLIT_KEYS, (*examples(6, *shape), *examples(4, *shape)), strict=True))


def one_line(name, *arguments, **options):
    with pytest.raises(ValueError, match=r".") as caught:
        load_images(name, *arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_the_arrays_of_a_file(tmp_path, monkeypatch, shape, dtype):
    given = arrays(*shape)
    given |= {key: given[key].astype(dtype) for key in SPLIT_KEYS[1::2]}
    np.savez_compressed(tmp_path / "own.npz", **given, names=np.array(["a", None]))  # objects, which are not read
    data = load_images("npz:own.npz", tmp_path)
    for key in SPLIT_KEYS:
        found = getattr(data, key)
        np.testing.assert_array_equal(found.reshape(given[key].shape), given[key])
    assert data.image_shape == (5, 4, shape[2] if len(shape) == 3 else 1)
    assert (data.name, data.num_classes) == ("npz:own.npz", 3)
    monkeypatch.chdir(tmp_path)
    for name in ("npz:own.npz", f"npz:{tmp_path}/own.npz"):
        assert load_images(name).checksum("test") == data.checksum("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((6, 5, 4))}, "train_images must be uint8 .*, got float64 of shape .6, 5, 4."),
        ({"test_images": np.zeros((4, 20), np.uint8)}, r"test_images must be .* \[N, H, W\] or .* shape .4, 20."),
        ({"train_labels": np.zeros(6)}, "train_labels must be integers of shape .6,., .*, got float64"),
        ({"train_labels": np.zeros((6, 1), int)}, "train_labels must be integers .*, got int64 of shape .6, 1."),
        (
            {"test_labels": np.zeros(5, int)},
            "test_labels must be integers of shape .4,., .*, got int64 of shape .5,",
        ),
        ({"test_labels": np.full(4, -1)}, "test_labels must be 0 to .*, got -1 to -1"),
        ({"test_labels": np.full(4, 2**32)}, "test_labels must be 0 to .*, got 4294967296 to"),
        (
            {"train_images": np.zeros((6, 5, 5), np.uint8)},
            "must have one shape .*, got .5, 5, 1. and .5, 4, 1.",
        ),
        (
            {"test_images": np.zeros((0, 5, 4), np.uint8), "test_labels": np.zeros(0, int)},
            "test_images .* not empty",
        ),
        ({"train_images": np.full((6, 5, 4), 7, np.uint8)}, "train_images must have more than one value"),
        ({"train_images": np.full(6, None)}, "must be a whole .npz file of arrays, got: Object arrays"),
        (
            {"test_images": None, "test_labels": None},
            "must hold test_images, test_labels, got train_images",
        ),
    ],
    ids=str,
)
def test_arrays_of_another_kind(tmp_path, change, message):
    given = {key: value for key, value in (arrays(5, 4) | change).items() if value is not None}
    np.savez(tmp_path / "own.npz", **given)
    found = one_line("npz:own.npz", tmp_path)
    assert re.search(message, found), found
    assert "own.npz" in found


def test_files_that_are_no_arrays(tmp_path):
    path = tmp_path / "own.npz"
    assert "own.npz: must be an .npz file with train_images, train_labels" in one_line("npz:own.npz", tmp_path)
    np.savez_compressed(path, **arrays(5, 4))
    whole = path.read_bytes()
    start = 30 + int.from_bytes(whole[26:28], "little") + int.from_bytes(whole[28:30], "little")
    no_block = whole[:start] + b"\x07" + whole[start + 1 :]  # which zlib cannot read
    other_bytes = whole[: start + 20] + bytes(20) + whole[start + 40 :]
    for content in (whole[:-30], no_block, other_bytes, b"", b"text\n"):
        path.write_bytes(content)
        assert f"{path}: must be a whole .npz file of arrays, got: " in one_line("npz:own.npz", tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(path)
    assert "must be a whole .npz file" in one_line("npz:own.npz", tmp_path)
    assert "must be a whole .npz file" in one_line("npz:.", tmp_path)


def write_folder(directory, counts, *shape):
    """Images of their own colours; returns split -> set of (class, bytes)."""
    written = {}
    for split, of_classes in counts.items():
        for each, count in of_classes.items():
            (directory / split / each).mkdir(parents=True)
            for i in range(count):
                image = np.random.default_rng([len(written), i]).integers(0, 256, shape, np.uint8)
                Image.fromarray(image).save(directory / split / each / f"{i}.png")
                written[split, each, image.tobytes()] = image
    return written


COUNTS = {"train": {"zebra": 20, "ant": 30, "cow": 10}, "test": {"cow": 2, "ant": 5}}


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)], ids=str)
def test_the_images_of_a_folder(tmp_path, shape):
    written = write_folder(tmp_path / "own", COUNTS, *shape)
    (tmp_path / "own" / "train" / ".cache").mkdir()
    (tmp_path / "own" / "train" / "ant" / "notes.txt").write_text("")
    (tmp_path / "own" / "train" / "ant" / "._1.png").write_text("")
    (tmp_path / "own" / "train" / "ant" / "0.png").rename(tmp_path / "own" / "train" / "ant" / "0.PNG")
    data = load_images("folder:own", tmp_path)
    assert data.image_shape == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert (data.name, data.num_classes) == ("folder:own", 3)
    classes = ["ant", "cow", "zebra"]
    found = [
        (split, classes[label], image.tobytes())
        for split in ("train", "test")
        for image, label in zip(getattr(data, f"{split}_images"), getattr(data, f"{split}_labels"), strict=True)
    ]
    assert sorted(found) == sorted(written)
    # The first images are of all classes, and are the same ones every time.
    assert set(data.train_labels[:12].tolist()) == {0, 1, 2}
    assert load_images(f"folder:{tmp_path}/own").checksum("train") == data.checksum("train")


def test_folders_that_are_not_whole(tmp_path):
    own = tmp_path / "own"
    message = one_line("folder:own", tmp_path)
    assert f"{own / 'train'}: must be a directory with one of PNG images for each class, got" in message
    write_folder(own, {"train": {"a": 2, "b": 2}}, 5, 4)
    assert f"{own / 'test'}: must be a directory" in one_line("folder:own", tmp_path)
    (own / "test").mkdir()
    assert f"{own / 'test'}: must hold a directory for each class, got an empty" in one_line(
        "folder:own", tmp_path
    )
    (own / "test" / "c").mkdir()
    (own / "test" / "c" / "1.jpg").write_text("")
    assert f"{own / 'test' / 'c'}: must hold .png files, got 1.jpg" in one_line("folder:own", tmp_path)
    (own / "test" / "c" / "1.jpg").rename(own / "test" / "c" / "1.png")
    assert f"{own / 'test'}: classes must be among a, b, got c" in one_line("folder:own", tmp_path)
    (own / "test" / "c").rename(own / "test" / "b")
    assert f"{own / 'test' / 'b' / '1.png'}: must be a whole PNG image, got" in one_line("folder:own", tmp_path)


def test_images_of_another_kind(tmp_path):
    write_folder(tmp_path, {"train": {"a": 3}, "test": {"a": 1}}, 5, 4)
    path = tmp_path / "train" / "a" / "2.png"
    whole = path.read_bytes()
    for image, message in [
        (
            np.zeros((5, 4, 4), np.uint8),
            "must be grey or RGB with 8 bits for each channel, got Pillow's mode RGBA",
        ),
        (np.zeros((5, 4), np.uint16), "must be grey or RGB with 8 bits for each channel, got Pillow's mode I;16"),
        (np.zeros((6, 4), np.uint8), "must have the shape of "),
        (np.zeros((5, 4, 3), np.uint8), "must have the shape of "),
    ]:
        Image.fromarray(image).save(path)
        assert message in one_line(f"folder:{tmp_path}")
    for content in (whole[:-30], whole[:40] + bytes(10) + whole[50:], b"text"):
        path.write_bytes(content)
        assert f"{path}: must be a whole PNG image, got: " in one_line(f"folder:{tmp_path}")
    write_folder(tmp_path / "sizes", {"train": {"a": 2}}, 5, 4)
    write_folder(tmp_path / "sizes", {"test": {"a": 2}}, 4, 4)
    assert "must have one shape [H, W, C]" in one_line("folder:sizes", tmp_path)


def test_settings_that_would_be_ignored(tmp_path):
    for kind in ("npz", "folder"):
        assert f"data set must be {kind}: with the path" in one_line(f"{kind}:")
        assert "download must be False" in one_line(f"{kind}:own", tmp_path, download=True)
        assert "data_dir must not be given for" in one_line(f"{kind}:{tmp_path}/own", tmp_path)


def test_without_pillow_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "need Pillow, not installed; it comes with the extra 'data': pip" in one_line("folder:own", tmp_path)
