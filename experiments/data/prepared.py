"""Sets of images written as tensorflow-datasets prepares them, without TensorFlow and without a download."""

import importlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.images import ImageDataset
from experiments.data.tfds import import_tfds

# Sets that tensorflow-datasets has as well, by its names; written under these, they are read as its own.
NAMES = {"mnist": "mnist", "fashion_mnist": "fashion_mnist", "cifar10": "cifar10", "svhn": "svhn_cropped"}
VERSION = "1.0.0"  # of sets that it does not have
FEATURES = {"id", "image", "label"}  # that can be given a value


def write_prepared(dataset: ImageDataset, directory: Path, name: str | None = None) -> Path:
    """Write a set as array_record, so that ``tfds.data_source(name, data_dir=directory)`` reads it.

    A set that tensorflow-datasets has is written with its version and its features, so that it is read as that
    set. Images are PNG files, hence the same pixels; their order is kept.

    Args:
        dataset: the images.
        directory: of prepared sets; made if missing.
        name: under which it is written; by default that of tensorflow-datasets for the set.

    Returns:
        The folder of the set and its version.

    Raises:
        ValueError: before anything is written: a package is missing, there is no name, the name is that of a set
            of other images, or the folder is there already.
    """
    name = NAMES.get(dataset.name) if name is None else name
    if name is None:
        raise ValueError(f"--name must be given for {dataset.name!r}, which tensorflow-datasets does not have")
    tfds = import_tfds()
    version, features = _description(tfds, name, dataset)
    folder = directory / name / version
    if folder.exists():
        raise ValueError(f"{folder} is there already; remove it, or choose another --out or --name")
    directory.mkdir(parents=True, exist_ok=True)
    builder = _builder(tfds, dataset, (name, version), features)
    builder(data_dir=directory, file_format="array_record").download_and_prepare()  # beside it, then renamed
    return folder


def _description(tfds: Any, name: str, dataset: ImageDataset) -> tuple[str, Any]:
    """Version and features: those of the built-in set of this name, if there is one, which has to fit."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=dataset.image_shape),
            "label": tfds.features.ClassLabel(num_classes=dataset.num_classes),
        }
    )
    if name not in tfds.list_builders(with_community_datasets=False):
        return VERSION, features
    with tempfile.TemporaryDirectory() as empty:  # so that nothing that was prepared is looked at
        built_in = tfds.builder(name, data_dir=empty)
        there = dict(built_in.info.features)
    if missing := sorted(set(there) - FEATURES):
        raise ValueError(f"--name must not be {name!r}, a set with {', '.join(missing)}, got images and labels")
    found = dataset.image_shape, dataset.num_classes
    wanted = tuple(there["image"].shape), there["label"].num_classes
    if found != wanted:
        raise ValueError(
            f"images of {name!r} must be of shape {wanted[0]} in {wanted[1]} classes, got {found[0]} in {found[1]}"
        )
    return str(built_in.version), built_in.info.features


def _builder(tfds: Any, dataset: ImageDataset, name_and_version: tuple[str, str], features: Any) -> Any:
    """The class that tensorflow-datasets makes a set by; none of its own is registered, so names are free."""
    base: Any = tfds.core.GeneratorBasedBuilder

    class Builder(base, skip_registration=True):  # type: ignore[call-arg]
        """Images that are in memory, as a set."""

        name = name_and_version[0]
        VERSION = tfds.core.Version(name_and_version[1])

        def _info(self) -> Any:
            # Without shuffling the order is that of the source.
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
            del dl_manager
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            images, labels = (getattr(dataset, f"{split}_{part}") for part in ("images", "labels"))
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                example = {"id": f"{split}_{index:05d}", "image": _png(image), "label": int(label)}
                yield index, {feature: example[feature] for feature in features}

    return Builder


def _png(image: np.ndarray) -> io.BytesIO:
    """A file in memory, as tensorflow-datasets takes it; arrays it would encode with TensorFlow."""
    file = io.BytesIO()
    pixels = image.squeeze(-1) if image.shape[-1] == 1 else image
    importlib.import_module("PIL.Image").fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file
