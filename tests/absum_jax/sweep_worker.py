"""One process of ``test_sweep_processes.py``: sweeps with the others, in one call and in parts."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from absum_jax import FourierSweep, fourier_sweep, fourier_sweep_parts
from tests.absum_jax.sweep_problem import EPSILONS, linear, problem

PHASES = (0.0, 1.0)


def main(rank, world, port, directory):
    if world > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=world, process_id=rank)
    arguments, options = (linear, *problem(), EPSILONS), {"devices": jax.devices(), "attacks_per_step": 3}
    whole = fourier_sweep(*arguments, **options)
    parts = list(fourier_sweep_parts(*arguments, **options))
    joined = FourierSweep.concatenate(parts)
    signed = fourier_sweep(*arguments, norm="l2", phase=PHASES, signs=jax.random.key(3), **options)
    found = {"whole": whole.correct, "joined": joined.correct, "clean": joined.clean_correct, "parts": len(parts)}
    found |= {"signed": signed.correct}
    found = {name: np.asarray(values).tolist() for name, values in found.items()}
    (directory / f"found{rank}.json").write_text(json.dumps(found))
    if world > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
