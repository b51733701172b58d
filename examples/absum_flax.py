"""Train a small Flax CNN with and without Absum, attack it at every Fourier frequency, and draw both heat maps.

``python3 -m examples.absum_flax heatmaps.png``, from the root of the repository, takes about 15 CPU seconds. The
model has batch normalisation; the proximal step is the one line with ``tree_prox``. It shows how this is done; how
much Absum helps is measured by ``python3 -m experiments.absum --seeds 3``, not by one seed and 100 images.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax

from absum_jax import FourierSweep, fourier_heatmap, fourier_sweep, prox_absum, tree_prox
from experiments.data.images import ImageDataset, load_images, to_float

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of what draws it

STRENGTHS = {"without Absum": 0.0, "with Absum": 0.03}
EPSILON = 0.2
BATCH = 50


class CNN(nn.Module):
    """Two convolutions with batch normalisation, and a linear layer."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits [N, 10] of images [N, H, W, C] in [0, 1]."""
        x = images - 0.5
        for features in (16, 32):
            x = nn.Conv(features, (5, 5), strides=(2, 2), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


def make_step(schedule: optax.Schedule, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """A compiled training step; ``strength`` is traced, so that both networks are trained by one program."""

    @jax.jit
    def step(variables: Any, state: Any, strength: float, count: int, batch: Any) -> tuple[Any, Any]:
        images, labels = batch

        def loss(params: Any) -> tuple[jax.Array, Any]:
            inputs = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, updated = CNN().apply(inputs, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(variables["params"], updates)
        # The proximal step, with this step's learning rate; the filters' sums become exactly 0.
        params = tree_prox(prox_absum, params, strength, schedule(count))
        return {"params": params, **updated}, state

    return step


def train(dataset: ImageDataset, step: Callable[..., Any], optimizer: Any, strength: float, steps: int) -> Any:
    """The variables of a network after so many steps; the same initialisation and batches for any strength."""
    variables = CNN().init(jax.random.key(0), to_float(dataset.train_images[:1]))
    state = optimizer.init(variables["params"])
    rng = np.random.default_rng(0)
    for count in range(steps):
        rows = rng.choice(len(dataset.train_labels), BATCH, replace=False)
        batch = to_float(dataset.train_images[rows]), dataset.train_labels[rows]
        variables, state = step(variables, state, strength, count, batch)
    return variables


def draw(sweeps: dict[str, FourierSweep], image_size: tuple[int, int], path: Path) -> None:
    """Write a picture of the error at every frequency: one panel a network, zero frequency in the centre."""
    errors = {name: 1 - sweep.accuracy[0] for name, sweep in sweeps.items()}
    top = max(float(error.max()) for error in errors.values())
    height, width = image_size
    extent = (-(width // 2) - 0.5, (width + 1) // 2 - 0.5, (height + 1) // 2 - 0.5, -(height // 2) - 0.5)
    figure, all_axes = plt.subplots(1, len(sweeps), figsize=(7.5, 3.2), squeeze=False, sharey=True)
    for axes, (name, sweep) in zip(all_axes[0], sweeps.items(), strict=True):
        heatmap = fourier_heatmap(errors[name], sweep.frequencies, image_size)
        image = axes.imshow(heatmap, vmin=0, vmax=top, cmap="magma", extent=extent)
        axes.set(title=name, xlabel="horizontal cycles per image")
    all_axes[0, 0].set_ylabel("vertical cycles per image")
    figure.colorbar(image, ax=all_axes[0], label=f"error at epsilon {EPSILON:g}")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def main(path: Path, *, dataset: ImageDataset | None = None, steps: int = 300, num_attacked: int = 100) -> Any:
    """Train both networks, attack them and draw the picture.

    Args:
        path: of the picture.
        dataset: the images; by default the embedded part of Fashion-MNIST.
        steps: of training, with a learning rate that falls to 0 over them.
        num_attacked: the first so many test images are attacked.

    Returns:
        The sweep of each network by name.
    """
    dataset = load_images("embedded") if dataset is None else dataset
    images, labels = to_float(dataset.test_images[:num_attacked]), jnp.asarray(dataset.test_labels[:num_attacked])
    schedule = optax.cosine_decay_schedule(0.05, steps)
    optimizer = optax.sgd(schedule, momentum=0.9)
    step = make_step(schedule, optimizer)
    predict_fn = CNN().apply  # (variables, images) -> logits, with the running statistics
    sweeps = {}
    for name, strength in STRENGTHS.items():
        variables = train(dataset, step, optimizer, strength, steps)
        sweep = sweeps[name] = fourier_sweep(predict_fn, variables, images, labels, [EPSILON])
        frequency = tuple(sweep.worst_frequency[0].tolist())
        print(
            f"{name:<14} clean {sweep.clean_accuracy:.2f}, mean over frequencies {sweep.mean_accuracy[0]:.2f},"
            f" worst {sweep.worst_accuracy[0]:.2f} at {frequency}"
        )
    draw(sweeps, images.shape[1:3], path)
    print(f"wrote {path}")
    return sweeps


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m examples.absum_flax PICTURE")
    main(Path(sys.argv[1]))
