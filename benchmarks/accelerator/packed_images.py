"""CIFAR-10 from its binary files, or from one file of JPEG images that have their header in common."""

import dataclasses
import functools
import importlib.util
import io
import itertools
from pathlib import Path

import numpy as np

from benchmarks.accelerator.work import LeftOutError
from experiments.data.images import ImageDataset, load_images
from experiments.storage import read_arrays


def check_readable(path: Path) -> None:
    """See that :func:`read_images` could begin.

    Raises:
        LeftOutError: if Pillow is needed and not installed.
        ValueError: if there is no such file or directory.
    """
    if not path.exists():
        raise ValueError(f"--cifar must be a file or a directory, got {path}, which does not exist")
    if path.is_file() and importlib.util.find_spec("PIL") is None:
        raise LeftOutError(f"{path.name} holds JPEG images: install Pillow, or give the binary files by --cifar")


@functools.cache
def read_images(path: Path) -> ImageDataset:
    """The images, under the name of the file or the directory: JPEG changes them, and results should say so.

    Args:
        path: a directory with the standard binary files; or an npz with ``header`` and ``data``, bytes, and
            ``offsets`` [N + 1]: image i is the JPEG file header + data[offsets[i]:offsets[i + 1]], of the images
            first those for training, whose labels are ``y_train``, then those of ``y_test``. It needs Pillow.

    Raises:
        ValueError: if files are missing or damaged.
    """
    if path.is_dir():
        return dataclasses.replace(load_images("cifar10", path), name=path.absolute().name)
    packed = read_arrays(path)
    if missing := {"header", "data", "offsets", "y_train", "y_test"} - packed.keys():
        raise ValueError(f"{path} must have {', '.join(sorted(missing))}, got {', '.join(packed)}")
    images, count = _decoded(packed), len(packed["y_train"])
    train, test = (packed[name].astype(np.int32) for name in ("y_train", "y_test"))
    return ImageDataset(path.stem, images[:count], train, images[count:], test, num_classes=10)


def _decoded(packed: dict[str, np.ndarray]) -> np.ndarray:
    """All images, uint8 [N, H, W, 3]."""
    from PIL import Image  # noqa: PLC0415  # not installed where the binary files are read

    header, data, offsets = packed["header"].tobytes(), packed["data"].tobytes(), packed["offsets"].tolist()
    files = (io.BytesIO(header + data[start:end]) for start, end in itertools.pairwise(offsets))
    return np.stack([np.asarray(Image.open(file).convert("RGB"), np.uint8) for file in files])
