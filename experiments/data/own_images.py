"""A user's own images: arrays in one .npz file, or PNG files in a folder for each class."""

import importlib
import importlib.util
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.source_files import ImageSplits, listing, own_path

SPLIT_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_MODES = ("L", "RGB")  # Pillow's names of grey and coloured images with 8 bits for each channel


def read_npz(path: Path) -> ImageSplits:
    """Read the arrays ``train_images``, ``train_labels``, ``test_images`` and ``test_labels`` of an .npz file.

    Args:
        path: the file; images uint8 [N, H, W] or [N, H, W, C], labels integers [N] from 0 on. Other arrays are
            left alone.

    Returns:
        Train images uint8 [N, H, W, C], train labels int32 [N], test images, test labels.

    Raises:
        ValueError: the file is missing, damaged or no .npz file, or an array is missing or of another kind.

    Example:
        >>> from experiments.data.source_files import EMBEDDED
        >>> read_npz(EMBEDDED / "fashion_mnist_mini.npz")[0].shape
        (5000, 28, 28, 1)
    """
    arrays = _read_arrays(path)
    splits = []
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                f"{path}: {split}_images must be uint8 of shape [N, H, W] or [N, H, W, C], "
                f"got {images.dtype} of shape {images.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{path}: {split}_labels must be integers of shape {images.shape[:1]}, one for each image, "
                f"got {labels.dtype} of shape {labels.shape}"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < 2**31 - 1:
            raise ValueError(
                f"{path}: {split}_labels must be 0 to {2**31 - 2}, got {labels.min()} to {labels.max()}"
            )
        splits += [images[..., None] if images.ndim == 3 else images, labels.astype(np.int32)]
    train_images, train_labels, test_images, test_labels = splits
    return train_images, train_labels, test_images, test_labels


def read_npz_set(name: str, data_dir: Path | None, download: bool) -> tuple[ImageSplits, int]:
    """Read ``npz:FILE``: the splits of :func:`read_npz`, and the largest label + 1 as the number of classes.

    Args:
        name: the file, relative to ``data_dir`` or, without one, to the working directory.
        data_dir: None, or a directory.
        download: must be False.

    Returns:
        The splits, and the number of classes.

    Raises:
        ValueError: as :func:`read_npz`, or a setting that would be ignored.
    """
    splits = read_npz(_place("npz", name, data_dir, download))
    return splits, max(int(labels.max(initial=0)) for labels in splits[1::2]) + 1


def read_folder_set(name: str, data_dir: Path | None, download: bool) -> tuple[ImageSplits, int]:
    """Read ``folder:DIRECTORY``: the images ``train/CLASS/*.png`` and ``test/CLASS/*.png``.

    Labels count the classes of ``train`` in the order of their names. The images of each split come in a fixed
    random order: an evaluation of the first few of them must not be one of the first class alone.

    Args:
        name: the directory, relative to ``data_dir`` or, without one, to the working directory.
        data_dir: None, or a directory.
        download: must be False.

    Returns:
        Train images uint8 [N, H, W, C] with 1 or 3 channels, train labels int32 [N], test images, test labels;
        and the number of classes.

    Raises:
        ValueError: Pillow is missing, a setting would be ignored, a directory is missing or without images, a
            class of ``test`` is not in ``train``, or an image is damaged, of another kind or of another size.
    """
    directory = _place("folder", name, data_dir, download)
    pillow = _import_pillow()
    train, test = (_class_files(directory / split) for split in ("train", "test"))
    if unknown := sorted(set(test) - set(train)):
        raise ValueError(f"{directory / 'test'}: classes must be among {', '.join(train)}, got {unknown[0]}")
    labels = {each: label for label, each in enumerate(train)}
    (train_images, train_labels), (test_images, test_labels) = (
        _read_split(pillow, files, labels) for files in (train, test)
    )
    return (train_images, train_labels, test_images, test_labels), len(labels)


def _place(kind: str, name: str, data_dir: Path | None, download: bool) -> Path:
    """Where the files lie."""
    path = own_path(kind, name, data_dir)
    if download:
        raise ValueError(
            f"download must be False for {kind}:{name}, only sets of a library can be downloaded, got True"
        )
    return path


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            found = list(arrays)
            if not (missing := [key for key in SPLIT_KEYS if key not in found]):
                return {key: arrays[key] for key in SPLIT_KEYS}
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: must be an .npz file with {', '.join(SPLIT_KEYS)}, got nothing there"
        ) from error
    # TypeError is of an array alone (.npy), NotImplementedError of a compression that zipfile does not know.
    except (
        ValueError, OSError, EOFError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: must be a whole .npz file of arrays, got: {error}") from error
    raise ValueError(f"{path}: must hold {', '.join(missing)}, got {', '.join(found) or 'no array'}")


def _import_pillow() -> Any:
    if importlib.util.find_spec("PIL") is None:
        raise ValueError(
            "folder: sets need Pillow, not installed; it comes with the extra 'data': pip install -e '.[data]'"
        )
    return importlib.import_module("PIL.Image")


def _class_files(directory: Path) -> dict[str, list[Path]]:
    """The PNG files of each class, both in the order of their names; hidden ones are not looked at."""
    if not directory.is_dir():
        found_instead = "a file" if directory.exists() else "nothing there"
        raise ValueError(
            f"{directory}: must be a directory with one of PNG images for each class, got {found_instead}"
        )
    files = {
        each.name: sorted(
            path for path in each.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")
        )
        for each in sorted(directory.iterdir())
        if each.is_dir() and not each.name.startswith(".")
    }
    if not files:
        raise ValueError(f"{directory}: must hold a directory for each class, got {listing(directory)}")
    if empty := [each for each, paths in files.items() if not paths]:
        raise ValueError(f"{directory / empty[0]}: must hold .png files, got {listing(directory / empty[0])}")
    return files


def _read_split(
    pillow: Any, files: Mapping[str, Sequence[Path]], labels: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    examples = [(path, labels[each]) for each, paths in files.items() for path in paths]
    examples = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]
    images = [_read_png(pillow, path) for path, _ in examples]
    for (path, _), image in zip(examples, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"{path}: must have the shape of {examples[0][0]}, {images[0].shape}, got {image.shape}"
            )
    return np.stack(images), np.array([label for _, label in examples], np.int32)


def _read_png(pillow: Any, path: Path) -> np.ndarray:
    """The pixels, uint8 [H, W, C]."""
    try:
        with pillow.open(path, formats=["PNG"]) as image:
            mode, pixels = image.mode, np.asarray(image)
    except Exception as error:  # Pillow raises OSError, SyntaxError and those of zlib and struct
        raise ValueError(f"{path}: must be a whole PNG image, got: {error}") from error
    if mode not in _MODES:
        raise ValueError(f"{path}: must be grey or RGB with 8 bits for each channel, got Pillow's mode {mode}")
    return pixels.reshape(*pixels.shape[:2], -1)
