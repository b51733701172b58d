"""Devices and processes: set-up, the layout of the state, splitting a batch."""

import resource
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def initialize(distributed: bool) -> None:
    """Join the other processes of a pod, if asked to; call it before anything else touches JAX.

    Raises:
        ValueError: if this process is not part of a cluster that JAX can find.
    """
    if distributed:
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"--distributed needs a cluster that JAX recognises: {error}") from error


def wait_for_all(what: str) -> None:
    """Go on once every process has got here; ``what`` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


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
