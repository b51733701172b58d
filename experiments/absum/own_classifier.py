"""A classifier that was trained elsewhere, evaluated as one of the experiment's: a function and parameters."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import flax.traverse_util
import jax
import numpy as np

from experiments.data.batches import validation_split
from experiments.data.images import ImageDataset
from experiments.harness.settings import find
from experiments.storage import read_arrays
from experiments.training.phase import Line

VALIDATION_SIZE = 500  # or half of the training images, where those are few


@dataclasses.dataclass(frozen=True)
class OwnClassifier:
    """What is evaluated: the images, and how they are classified.

    Args:
        name: how the function is named.
        predict_fn: ``(params, images [N, H, W, C] in [0, 1]) -> logits [N, classes]``, in evaluation mode.
        params: host values.
        dataset: its images. Some of the training images stand for validation images, so that a network that was
            trained on them has seen what an attack is chosen by.
    """

    name: str
    predict_fn: Callable[[Any, jax.Array], jax.Array]
    params: Any
    dataset: ImageDataset

    experiment = "absum"

    @property
    def label(self) -> str:
        """Short name for the progress."""
        return self.name

    @property
    def group(self) -> str:
        """What it is one seed of: itself."""
        return self.name

    @property
    def facts(self) -> Mapping[str, Any]:
        """The first columns of its row."""
        return {"model": self.name}

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The images, uint8 [N, H, W, C], and labels of a split: "test" or "validation"."""
        if split == "test":
            return self.dataset.test_images, self.dataset.test_labels
        count = self.dataset.train_count
        _, rows = validation_split(count, min(VALIDATION_SIZE, count // 2), 0)
        return self.dataset.train_images[rows], self.dataset.train_labels[rows]

    def variables(self, trained: Any) -> Any:
        """What the function is applied to."""
        del trained
        return self.params

    def check(self) -> None:
        """Raise ``ValueError`` unless it gives logits of the classes of its images."""
        shape = jax.ShapeDtypeStruct((2, *self.dataset.image_shape), np.float32)
        try:
            logits = jax.eval_shape(self.predict_fn, self.params, shape)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"--predict {self.name} must take the parameters and images {shape.shape}, got"
                f" {type(error).__name__}: {reason}"
            ) from error
        wanted = (2, self.dataset.num_classes)
        if getattr(logits, "shape", None) != wanted:
            raise ValueError(f"--predict {self.name} must give logits {wanted}, got {logits}")


@dataclasses.dataclass(frozen=True)
class Given:
    """A network as evaluations see it, where nothing was trained."""

    subject: OwnClassifier
    lines: tuple[Line, ...] = ()

    @property
    def params(self) -> Any:
        """Those that were given."""
        return self.subject.params

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """What decides whether a stored evaluation is of this network: another function gives other logits."""
        return {"given": self.params, "function": np.asarray(self.subject.name), "code": _code(self.subject.name)}


def _code(name: str) -> np.ndarray:
    """The bytes of the file that ``package.module:function`` lies in; none where there is no such file."""
    path = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    return np.frombuffer(Path(path).read_bytes() if path else b"", np.uint8)


def load_params(source: str) -> Any:
    """Parameters as host values, from a file or a function.

    Args:
        source: a ``.msgpack`` of flax; an ``.npz`` with a name such as ``params/Conv_0/kernel`` for each array; a
            directory that orbax wrote; or ``package.module:function``, which returns them.

    Raises:
        ValueError: if it is none of these or cannot be read.
    """
    path = Path(source)
    if not path.exists():
        if ":" not in source:
            raise ValueError(f"--params must be a file, a directory or package.module:function, got {source!r}")
        found: Any = find(source, {}, "--params", own=True)
        if not callable(found):
            raise ValueError(f"--params {source} must name a function, got {type(found).__name__}")
        return jax.tree.map(np.asarray, found())
    try:
        return jax.tree.map(np.asarray, _read(path))
    except Exception as error:  # whatever the readers make of a file that is not theirs
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"--params {source} cannot be read: {reason}") from error


def _read(path: Path) -> Any:
    if path.is_dir():
        import orbax.checkpoint  # noqa: PLC0415  # seconds, for this one alone

        return orbax.checkpoint.StandardCheckpointer().restore(path.absolute())
    if path.suffix == ".npz":
        return flax.traverse_util.unflatten_dict(read_arrays(path), sep="/")
    return flax.serialization.msgpack_restore(path.read_bytes())
