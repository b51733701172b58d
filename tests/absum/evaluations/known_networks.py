"""Networks whose logits can be computed by hand, as trained runs, with their float64 references in NumPy."""

import itertools
from types import SimpleNamespace

import flax.linen as nn
import numpy as np

from experiments.absum.task import predict_fn
from experiments.data.source_files import checksum


class Linear(nn.Module):
    """Logits as one product, or as two with a rectifier between them."""

    hidden: int = 0

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        x = (images - 0.5).reshape(len(images), -1)
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(10)(x)


def logits_of(trained, images):
    """Logits [N, classes] in float64, of images in [0, 1]."""
    x = np.asarray(images, np.float64).reshape(len(images), -1) - 0.5
    *hidden, last = [trained.params[name] for name in sorted(trained.params)]
    for layer in hidden:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    return x @ last["kernel"] + last["bias"]


def classes_of(trained, images):
    return logits_of(trained, images).argmax(axis=-1)


def known_network(images, *, hidden=0, seed=0, name="none"):
    """A trained run; of its labels nine in ten are what it predicts.

    Args:
        images: uint8 [N, H, W, C]: those of the test and, backwards, of validation.
        hidden: width of the hidden layer; 0 for none.
        seed: of the weights.
        name: of the regulariser.
    """
    rng = np.random.default_rng(seed)
    widths = [images[0].size, *([hidden] if hidden else []), 10]
    params = {
        f"Dense_{i}": {
            "kernel": rng.normal(0, 1 / np.sqrt(rows), (rows, columns)).astype(np.float32),
            "bias": rng.normal(0, 0.1, columns).astype(np.float32),
        }
        for i, (rows, columns) in enumerate(itertools.pairwise(widths))
    }
    state = SimpleNamespace(evaluated_params=params, model_state={"statistics": {}})
    trained = SimpleNamespace(
        params=params, evaluated_params={"train": params}, phases={"train": SimpleNamespace(state=state)},
        final_phase="train", lines=[],
    )  # fmt: skip
    labels = classes_of(trained, images / 255).astype(np.int32)
    labels[::10] = (labels[::10] + 1) % 10
    sets = {"test": (images, labels), "validation": (images[::-1], labels[::-1])}
    dataset = SimpleNamespace(
        image_shape=images.shape[1:], num_classes=10, checksum=lambda split: checksum(*sets[split])
    )
    trained.subject = SimpleNamespace(
        predict_fn=predict_fn(Linear(hidden)), variables=lambda trained: {"params": params},
        images=sets.__getitem__, dataset=dataset, label=f"{name}, seed {seed}", group=name,
        facts={"regularizer": name, "strength": 0.0, "seed": seed}, experiment="absum",
    )  # fmt: skip
    return trained
