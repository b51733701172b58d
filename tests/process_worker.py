"""One process of ``test_processes.py``: trains and sweeps with the others, and writes what it got."""

import functools
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from absum_jax import fourier_sweep
from experiments.data.batches import epoch_rows, padded_batches
from experiments.harness.directory import RunDirectory
from experiments.storage import write_json_lines
from experiments.training.averaging import Averaging
from experiments.training.checkpoint import Checkpoints
from experiments.training.devices import all_rows, local_rows
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase, TrainingData
from experiments.training.position import Position
from experiments.training.task import Mean, Task


def predict_fn(params, images):
    return images.reshape(len(images), -1) @ params["w"]


def loss(params, model_state, batch, keys, axis_name):
    carry = local_rows(model_state, len(batch["labels"]), axis_name)
    images = batch["images"] + 0.01 * jax.vmap(lambda key: jax.random.normal(key, (4, 4, 1)))(keys.per_example)
    logits = predict_fn(params, images) + carry
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    model_state = all_rows(jax.lax.stop_gradient(0.1 * logits), axis_name)
    return losses.mean(), (model_state, {"loss": Mean(losses.sum(), losses.size)})


def evaluate(params, model_state, batch, axis_name):
    logits, count = predict_fn(params, batch["images"]), jnp.sum(batch["weight"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    is_right = logits.argmax(axis=-1) == batch["labels"]
    sums = {"loss": losses, "accuracy": is_right}
    return model_state, {name: Mean(jnp.sum(values * batch["weight"]), count) for name, values in sums.items()}


def init(key, numbers):
    return {"w": jax.random.normal(key, (16, 3))}, jnp.zeros((8, 3))


def outputs(directory):
    log = functools.partial(write_json_lines, directory / "metrics.jsonl")
    return Outputs(directory / "checkpoints", directory / "best", log)


def save_two_at_once(state, directory, rank):
    best, newest = Checkpoints(directory / "best"), Checkpoints(directory / "checkpoints")
    for _ in range(20):
        time.sleep(0.05 * rank)  # a process that is late lets the order of its threads differ from the other's
        best.save(state, Position())
        newest.save(state, Position())
        state = state.replace(step=state.step + 1)
    best.close()
    newest.close()


def main(rank, world, port, directory):
    if world > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=world, process_id=rank)
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.uniform(size=(50, 4, 4, 1)).astype(np.float32),
        "labels": rng.integers(0, 3, 50, dtype=np.int32),
    }
    share = {"process_index": rank, "process_count": world}
    data = TrainingData(
        epoch=lambda epoch, start: (
            {name: values[rows] for name, values in arrays.items()}
            for rows in epoch_rows(50, 8, seed=0, epoch=epoch, start=start, **share)
        ),
        validation=lambda: padded_batches(arrays, 8, **share),
        units_per_epoch=48,
        count=lambda batch: 8,
    )
    schedule = optax.constant_schedule(0.1)
    task = Task(init=init, loss=loss, evaluate=evaluate, optimizer=optax.sgd(schedule), schedule=schedule)
    train(Phase(task, data, 1, 0), outputs(directory))
    state, _ = train(Phase(task, data, 2, 0), outputs(directory))  # goes on from its checkpoint
    options = {"averaging": Averaging(1, from_start=True), "keep_best": True}
    options["initial_params"] = jax.tree.map(np.asarray, state.params)
    tuned, _ = train(Phase(task, data, 2, 0, **options), outputs(directory / "tuned"))
    save_two_at_once(state, directory / "two", rank)
    sweep = fourier_sweep(
        predict_fn, state.params, arrays["images"], arrays["labels"], [0.1, 0.3], devices=jax.devices()
    )
    # The same path on every process, shared or on a disk of its own.
    RunDirectory(directory / "shared" / "run", "toy", {}, ()).prepare({})
    try:
        RunDirectory(directory / f"disk{rank}" / "run", "toy", {}, ()).prepare({})
        refused = ""
    except ValueError as error:
        refused = str(error)
    found = {"w": state.params["w"], "average": tuned.evaluated_params["w"], "correct": sweep.correct}
    found = {name: np.asarray(values).tolist() for name, values in found.items()}
    found["refused"] = refused
    (directory / f"found{rank}.json").write_text(json.dumps(found))
    if world > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
