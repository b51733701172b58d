"""Devices and processes: set-up, the layout of the state, splitting a batch."""

import resource
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.storage import user_cache
from experiments.training.task import AxisName


def initialize(distributed: str) -> None:
    """Join the other processes of a cluster; call it before anything else touches JAX.

    Args:
        distributed: "auto" joins a cluster if JAX recognises one (Cloud TPU, Slurm, Open MPI, Kubernetes), and
            prints how many processes there are; "on" fails where it does not; "off" stays alone.

    Raises:
        ValueError: for another word, or if this process is not part of a cluster that JAX can find.
    """
    if distributed not in ("auto", "on", "off"):
        raise ValueError(f"--distributed must be auto, on or off, got {distributed!r}")
    if distributed == "off" or jax.distributed.is_initialized():
        return
    # Else JAX takes SIGTERM for itself, and none is heard of.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        # What JAX says without a cluster, and where it is in use already, as in a notebook.
        nothing_to_join = "coordinator_address should be defined", "must be called before any JAX"
        if distributed == "auto" and any(text in str(error) for text in nothing_to_join):
            return
        raise ValueError(f"--distributed {distributed} needs a cluster that JAX recognises: {error}") from error
    if is_main_process():
        print(f"joined a cluster of {jax.process_count()} processes", file=sys.stderr)


def keep_compiled_programs() -> None:
    """Keep what takes over a second to compile in the user's cache folder, unless JAX was told where to."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    jax.config.update("jax_compilation_cache_dir", str(user_cache() / "compiled"))


def devices_for(rows: int) -> list[jax.Device]:
    """The devices that share the rows of a batch equally: all, or the most of one process that divide them.

    Raises:
        ValueError: if several processes cannot share the rows over all of their devices.
    """
    devices = jax.devices()
    if rows % len(devices) == 0:
        return devices
    if not is_alone():
        raise ValueError(f"--batch-size must be a multiple of the {len(devices)} devices, got {rows}")
    return devices[: max(count for count in range(1, len(devices) + 1) if rows % count == 0)]


def say_how_many(what: str, rows: int | None, devices: Sequence[jax.Device]) -> None:
    """Print a line where not all devices take part, as they do not share the rows of a batch equally."""
    taken, there = len(devices), jax.device_count()
    if rows is not None and taken < there:
        print(
            f"{what}: {taken} of {there} devices, which share the {rows} rows of a batch equally", file=sys.stderr
        )


def wait_for_all(what: str) -> None:
    """Go on once every process has got here; ``what`` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def largest_of_all(number: int) -> int:
    """The largest of the numbers of all processes; below 2**31."""
    return number if is_alone() else int(np.max(multihost_utils.process_allgather(np.int32(number))))


def is_alone() -> bool:
    """Whether this is the only process."""
    return jax.process_count() == 1


def is_main_process() -> bool:
    """Whether this process writes and prints; every process computes."""
    return jax.process_index() == 0


def peak_memory_bytes() -> int:
    """Most memory so far: of the first local device where it counts that, else resident memory of this process."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    # Linux counts the resident set in KiB.
    return statistics.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """The layout of an array of which every device has a copy."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec())


def split(batch: dict[str, np.ndarray], devices: Sequence[jax.Device]) -> dict[str, np.ndarray]:
    """Reshape this process's rows [n, ...] to [local devices, n / local devices, ...].

    Raises:
        ValueError: if n is not a multiple of the number of local devices.
    """
    local = sum(device.process_index == jax.process_index() for device in devices)
    rows = len(next(iter(batch.values())))
    if rows % local:
        raise ValueError(f"a batch of {rows} rows cannot be split over {local} devices equally")
    return {name: values.reshape(local, rows // local, *values.shape[1:]) for name, values in batch.items()}


def local_rows(carried: Any, count: int, axis_name: AxisName) -> Any:
    """This device's ``count`` rows of arrays [rows of the whole batch, ...], such as a carried hidden state."""
    if not axis_name:
        return carried
    first = jax.lax.axis_index(axis_name) * count
    return jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, first, count), carried)


def all_rows(carried: Any, axis_name: AxisName) -> Any:
    """The rows of all devices, joined again on each of them."""
    if not axis_name:
        return carried
    return jax.lax.all_gather(carried, axis_name, tiled=True)
