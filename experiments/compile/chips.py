"""The chips that programs are compiled for: memory and peak rates of one device of a topology."""

import os
from typing import NamedTuple

import jax
from jax.experimental import topologies


class Chip(NamedTuple):
    """One device: a whole chip.

    Args:
        hbm_bytes: memory.
        flops: products and sums of bfloat16 numbers a second, at most.
        bandwidth: bytes a second from memory, at most.
        cores: of a chip, how the compiler takes them: both are one device in "megacore", as on a pod.
    """

    hbm_bytes: int
    flops: float
    bandwidth: float
    cores: str = "default"


# Of Google's pages on each generation, https://cloud.google.com/tpu/docs/v5e and its neighbours.
CHIPS = {
    "v4": Chip(32 * 2**30, 275e12, 1228e9, "megacore"),
    "v5e": Chip(16 * 2**30, 197e12, 819e9),
    "v5p": Chip(95 * 2**30, 459e12, 2765e9, "megacore"),
    "v6e": Chip(32 * 2**30, 918e12, 1640e9),
}


def slice_devices(topology: str) -> list[jax.Device]:
    """The devices of a named slice, which can be compiled for, but hold nothing and run nothing.

    Args:
        topology: generation and shape, such as v5e:4x8 or v4:2x2x4.

    Raises:
        ValueError: for an unknown generation or shape, or where libtpu is missing.
    """
    generation = topology.partition(":")[0]
    if generation not in CHIPS:
        raise ValueError(f"--topology must be a slice of {', '.join(CHIPS)}, such as v5e:4x8, got {topology!r}")
    # Read when the compiler is loaded: there is no host of a TPU to ask.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    try:
        cores = {"chip_config_name": CHIPS[generation].cores}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **cores).devices)
    except Exception as error:  # no libtpu, or a shape that it does not know
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"--topology {topology} cannot be compiled for: {reason} (the compiler is in libtpu: pip install"
            " '.[tpu]')"
        ) from error
