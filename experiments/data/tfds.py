"""Any image classification set of tensorflow-datasets, read by random access without TensorFlow.

Nothing is downloaded unless asked for, and then it is said what and where to. Sets prepared as array_record are
read, also those that were written by a builder of one's own under the name and version of a built-in set.
"""

import importlib
import importlib.util
import socket
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.records import ImageRecords
from experiments.data.source_files import ImageSplits

# tensorflow-datasets decodes images with Pillow and finds its own sets with importlib_resources, and
# declares neither.
REQUIRED = ("tensorflow_datasets", "PIL", "importlib_resources")
FEATURES = ("image", "label")
TIMEOUT = 10.0  # seconds for a server to answer


def read_tfds(name: str, data_dir: Path | None, download: bool) -> tuple[ImageSplits, int]:
    """Read the splits ``train`` and ``test`` of a set of tensorflow-datasets.

    Args:
        name: as ``tfds.data_source`` takes it, ``cifar10`` or ``svhn_cropped:3.1.0``.
        data_dir: where sets are prepared; None is tensorflow-datasets' own default.
        download: whether a set that is not there is downloaded and prepared.

    Returns:
        Train images uint8 [N, H, W, C], train labels int32 [N], test images, test labels; and the number of
        classes.

    Raises:
        ValueError: a package is missing, the set is unknown, not prepared, damaged, or has no images with
            class labels in both splits.
    """
    train, test, num_classes = _open(name, data_dir, download)
    return (*_read_split(name, "train", train), *_read_split(name, "test", test)), num_classes


def open_tfds(name: str, data_dir: Path | None, download: bool) -> ImageRecords:
    """Open the split ``train`` of a set of tensorflow-datasets, whose images stay where they are; read ``test``.

    Args:
        name: as for :func:`read_tfds`.
        data_dir: as for :func:`read_tfds`.
        download: as for :func:`read_tfds`.

    Returns:
        Its records.

    Raises:
        ValueError: as :func:`read_tfds`; for a training image that is damaged once it is read.
    """
    train, test, num_classes = _open(name, data_dir, download)

    def read(row: int) -> tuple[np.ndarray, int]:
        try:
            example = train[row]
            return example["image"], int(example["label"])
        except Exception as error:  # as in _read_split
            raise ValueError(
                f"tfds:{name}: split 'train' is damaged in record {row}: {_first_line(error)}"
            ) from error

    if not len(train):
        raise ValueError(f"tfds:{name}: split 'train' must not be empty, got no record")
    height, width, channels = read(0)[0].shape
    return ImageRecords(
        f"tfds:{name}", len(train), read, (height, width, channels), num_classes, *_read_split(name, "test", test),
        files=tuple(map(Path, train.dataset_info.splits["train"].filepaths)),
    )  # fmt: skip


def _open(name: str, data_dir: Path | None, download: bool) -> tuple[Any, Any, int]:
    """Sources of the splits ``train`` and ``test``, and the number of classes."""
    tfds = import_tfds()
    if download:
        _announce_download(tfds, name, data_dir)
    train, test = (_open_split(tfds, name, split, data_dir, download) for split in ("train", "test"))
    return train, test, _num_classes(name, train.dataset_info.features)


def import_tfds() -> Any:
    """The package, once all that it needs is there.

    Raises:
        ValueError: naming what is missing.
    """
    if missing := [module for module in REQUIRED if importlib.util.find_spec(module) is None]:
        raise ValueError(
            f"tfds: sets need {', '.join(missing)}, not installed; they come with the extra 'data': "
            "pip install -e '.[data]'"
        )
    return importlib.import_module("tensorflow_datasets")


def _announce_download(tfds: Any, name: str, data_dir: Path | None) -> None:
    """Say what will be fetched and to where, once its servers answer: else the download would hang for minutes.

    Raises:
        ValueError: a server does not answer, or the set is unknown.
    """
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if builder.is_prepared():
            return
        urls = {urllib.parse.urlsplit(url): info.size for url, info in (builder.url_infos or {}).items()}
    except Exception as error:  # an unknown name, a bad version
        raise ValueError(f"tfds:{name}: {_first_line(error)}") from error
    hosts = sorted({(url.hostname, url.port or (80 if url.scheme == "http" else 443)) for url in urls})
    size = sum(map(int, urls.values())) / 2**20
    print(
        f"tfds:{name}: downloads {len(urls)} files ({size:,.0f} MiB)"
        f" from {', '.join(host for host, _ in hosts) or 'nowhere'} and prepares them in {builder.data_dir}",
        file=sys.stderr,
    )
    if urllib.request.getproxies():  # which reach what a plain connection does not
        return
    for host, port in hosts:
        try:
            socket.create_connection((host, port), timeout=TIMEOUT).close()
        except OSError as error:
            raise ValueError(f"tfds:{name}: {host} must answer for a download, got: {error}") from error


def _open_split(tfds: Any, name: str, split: str, data_dir: Path | None, download: bool) -> Any:
    """The random-access source of one split; every way of not getting it is a ValueError."""
    where = data_dir or "tensorflow-datasets' default directory"
    # Without a format named, a set would be prepared as tfrecord, which has no random access.
    builder_kwargs = {"file_format": "array_record"} if download else {}
    try:
        return tfds.data_source(
            name, split=split, data_dir=data_dir, download=download, builder_kwargs=builder_kwargs
        )
    except ImportError as error:
        raise ValueError(
            f"tfds:{name}: preparing this set needs another package, as a rule TensorFlow "
            f"(pip install tensorflow): {_first_line(error)}"
        ) from error
    except NotImplementedError as error:  # what an unprepared set raises with download=False
        raise ValueError(
            f"tfds:{name}: must be prepared as array_record, got nothing like it in {where}; ask for it with "
            "--download (preparing may need TensorFlow: pip install tensorflow), or name another --data-dir"
        ) from error
    except Exception as error:  # unknown name or split, bad version, damaged directory, no network
        raise ValueError(f"tfds:{name}: split {split!r} in {where}: {_first_line(error)}") from error


def _num_classes(name: str, features: Any) -> int:
    if any(feature not in features for feature in FEATURES):
        raise ValueError(f"tfds:{name}: features must be an image and a label, got {sorted(features)}")
    if not isinstance(num_classes := getattr(features["label"], "num_classes", None), int):
        raise ValueError(f"tfds:{name}: label must be a ClassLabel, got {features['label']}")
    return num_classes


def _read_split(name: str, split: str, source: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        examples = [(example["image"], example["label"]) for example in source]
    except Exception as error:  # array_record raises RuntimeError, Pillow OSError, the parser its own kinds
        raise ValueError(f"tfds:{name}: split {split!r} is damaged: {_first_line(error)}") from error
    shapes = {image.shape for image, _ in examples}
    if len(shapes) != 1:
        raise ValueError(
            f"tfds:{name}: {split} images must have one shape, got {len(examples)} in {len(shapes)} shapes"
        )
    return np.stack([image for image, _ in examples]), np.array([label for _, label in examples], np.int32)


def _first_line(error: Exception) -> str:
    """The first line: tensorflow-datasets lists hundreds of names in the others."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
