import importlib.util
import io
import socket
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

from experiments.data.images import load_images

tfds = pytest.importorskip("tensorflow_datasets")

COUNTS = {"train": 7, "test": 3}
# The version of the built-in fashion_mnist, so that what is written here is read as that set.
VERSION = "3.0.1"


def examples(split, shape=(28, 28, 1)):
    generator = np.random.default_rng(len(split))
    images = generator.integers(0, 256, (COUNTS[split], *shape), dtype=np.uint8)
    return images, generator.integers(0, 10, COUNTS[split])


def as_png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def make_builder(
    set_name, *, features=None, encode=as_png, splits=tuple(COUNTS), shape=(28, 28, 1), register=False
):
    """A builder that needs neither the network nor, with PNG bytes, TensorFlow; under any name."""
    label = tfds.features.ClassLabel(num_classes=10)
    features = features or {"image": tfds.features.Image(shape=shape), "label": label}

    class Local(tfds.core.GeneratorBasedBuilder, skip_registration=not register):
        """A small set."""

        name = set_name
        VERSION = tfds.core.Version(VERSION)

        def _info(self):
            feature_dict = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=feature_dict, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*examples(split, shape)) for split in splits}

        def _generate_examples(self, images, labels):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                values = {"image": encode(image), "label": int(label)}
                yield i, {key: values[key] for key in features}

    return Local


def prepare(directory, name, **options):
    """Write a prepared set; returns its folder."""
    make_builder(name, **options)(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory / name / VERSION


@pytest.mark.parametrize("name", ["fashion_mnist", "my_own_set"])
def test_reads_a_set_of_a_builder_of_ones_own(tmp_path, name):
    prepare(tmp_path, name)
    dataset = load_images(f"tfds:{name}", tmp_path)
    for split, images, labels in [
        ("train", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ]:
        np.testing.assert_array_equal(images, examples(split)[0])
        np.testing.assert_array_equal(labels, examples(split)[1])
    assert dataset.image_shape == (28, 28, 1)
    assert (dataset.name, dataset.num_classes) == (f"tfds:{name}", 10)


def test_download_of_a_prepared_set_reads_it(tmp_path):
    prepare(tmp_path, "fashion_mnist")
    dataset = load_images("tfds:fashion_mnist", tmp_path, download=True)
    np.testing.assert_array_equal(dataset.test_images, examples("test")[0])


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [
        ("mnist", (28, 28, 1), 10),
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("svhn_cropped", (32, 32, 3), 10),
    ],
)
def test_reads_the_built_in_sets(name, shape, num_classes):
    with tfds.testing.mock_data(num_examples=4):
        dataset = load_images(f"tfds:{name}")
    assert dataset.train_images.shape == dataset.test_images.shape == (4, *shape)
    assert dataset.num_classes == num_classes


def test_not_prepared_says_how(tmp_path):
    message = "tfds:fashion_mnist: must be prepared as array_record, .*--download .*TensorFlow.*--data-dir"
    with pytest.raises(ValueError, match=message) as caught:
        load_images("tfds:fashion_mnist", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_prepared_in_another_format_says_how(tmp_path):
    info = prepare(tmp_path, "fashion_mnist") / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="must be prepared as array_record, got nothing like it in"):
        load_images("tfds:fashion_mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", "tfds:no_such_set: .*not found"),
        ("cifar10:9.9.9", "cannot be loaded at version 9.9.9"),
        ("cifar10/no_config", "no_config not found"),
        ("", "tfds:: .*Parsing builder name"),
    ],
)
def test_unknown_names_are_one_line(tmp_path, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_images(f"tfds:{name}", tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_split_is_named(tmp_path):
    prepare(tmp_path, "my_own_set", splits=("train",))
    with pytest.raises(ValueError, match=r"tfds:my_own_set: split 'test' .*\['train'\]"):
        load_images("tfds:my_own_set", tmp_path)


def test_set_without_class_labels_is_refused(tmp_path):
    image = tfds.features.Image(shape=(28, 28, 1))
    prepare(tmp_path, "no_label", features={"image": image})
    with pytest.raises(ValueError, match=r"tfds:no_label: features must be an image and a label, got \['image'\]"):
        load_images("tfds:no_label", tmp_path)
    prepare(tmp_path, "number", features={"image": image, "label": tfds.features.Scalar(dtype=np.int64)})
    with pytest.raises(ValueError, match="tfds:number: label must be a ClassLabel, got"):
        load_images("tfds:number", tmp_path)


def test_images_of_several_shapes_are_refused(tmp_path):
    sides = iter(range(10, 100))
    features = {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    prepare(tmp_path, "uneven", features=features, encode=lambda image: as_png(image[: next(sides)]))
    with pytest.raises(ValueError, match="tfds:uneven: train images must have one shape, got 7 in 7 shapes"):
        load_images("tfds:uneven", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_damaged_records_are_named(tmp_path, damage):
    folder = prepare(tmp_path, "fashion_mnist")
    path = folder / "fashion_mnist-train.array_record-00000-of-00001"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        path.write_bytes(content[:200] + bytes(60) + content[260:])
    else:
        path.unlink()
    with pytest.raises(ValueError, match="tfds:fashion_mnist: split 'train'"):
        load_images("tfds:fashion_mnist", tmp_path)


def test_damaged_description_is_named(tmp_path):
    info = prepare(tmp_path, "fashion_mnist") / "dataset_info.json"
    info.write_text(info.read_text()[:100])
    with pytest.raises(ValueError, match=r"tfds:fashion_mnist: split 'train' .*Failed to load JSON"):
        load_images("tfds:fashion_mnist", tmp_path)


@pytest.mark.parametrize("module", ["tensorflow_datasets", "PIL", "importlib_resources"])
def test_a_missing_package_names_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"need {module}, not installed; they come with the extra 'data'"):
        load_images("tfds:fashion_mnist")


def test_all_missing_packages_are_named_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="need tensorflow_datasets, PIL, importlib_resources"):
        load_images("tfds:fashion_mnist")


def test_preparing_that_needs_tensorflow_says_so(monkeypatch, tmp_path):
    # tensorflow-datasets encodes images that are given as arrays with TensorFlow.
    make_builder("needs_tensorflow", encode=lambda image: image, register=True)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ValueError, match=r"tfds:needs_tensorflow: preparing .*pip install tensorflow") as caught:
        load_images("tfds:needs_tensorflow", tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_a_download_says_what_and_fails_at_once_without_a_network(monkeypatch, tmp_path, capsys):
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(
        ValueError, match=r"tfds:cifar10: www.cs.toronto.edu must answer for a download, got: Netw"
    ):
        load_images("tfds:cifar10", tmp_path, download=True)
    assert asked == [("www.cs.toronto.edu", 443)]
    said = capsys.readouterr().err
    assert "downloads 1 files (162 MiB) from www.cs.toronto.edu and prepares them in" in said
    assert str(tmp_path / "cifar10") in said


def test_preparing_writes_records_of_random_access(tmp_path):
    # Without a format named, tensorflow-datasets prepares tfrecord in a directory that is not its own.
    make_builder("prepares_itself", register=True)
    dataset = load_images("tfds:prepares_itself", tmp_path, download=True)
    np.testing.assert_array_equal(dataset.train_images, examples("train")[0])
    np.testing.assert_array_equal(dataset.test_labels, examples("test")[1])
