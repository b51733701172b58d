"""Temporary memory of the mixture loss compiled ahead of time for a TPU, with no TPU present.

``python -m benchmarks.sigsoftmax_tpu CASE [tiny]`` prints the compiler's figure as JSON; it needs libtpu.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.measure import Row, in_fresh_process, planned_extra_bytes
from benchmarks.sigsoftmax_cases import cases
from benchmarks.table import NotAvailableError


def mixture_tpu_memory(tiny: bool = False) -> Iterator[Row]:
    """Mixture loss (1,050 x 15 x 300 x 33,278) compiled for a TPU v5e: temporary memory; needs libtpu."""
    if importlib.util.find_spec("libtpu") is None:
        raise NotAvailableError("it compiles for a TPU: python -m pip install libtpu")
    for score in ("softmax", "sigsoftmax"):
        ours, plain = (_temporary_gib(f"mixture_{score}_wikitext2_{form}", tiny) for form in ("blocked", "plain"))
        details = f"{ours:.3f} GiB against {plain:.3f} GiB"
        yield Row(f"mixture {score}, TPU v5e temporary memory", ours / plain, 0.1, details=details)


def _temporary_gib(name: str, tiny: bool) -> float:
    sizes = ["tiny"] if tiny else []
    return in_fresh_process("benchmarks.sigsoftmax_tpu", name, *sizes)["bytes"] / 2**30


def main() -> None:
    """Compile the named case for one core of a v5e."""
    # Read when the TPU compiler is loaded: there is no TPU host to ask.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    jax.config.update("jax_platforms", "cpu")
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    sharding = SingleDeviceSharding(topology.devices[0])
    name, *sizes = sys.argv[1:]
    case = cases("tiny" in sizes)[name]
    arguments = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x in case.structs()]
    compiled = jax.jit(case.step).lower(*arguments).compile()
    print(json.dumps({"bytes": planned_extra_bytes(compiled)}))


if __name__ == "__main__":
    main()
