"""The table of benchmarks: whoever adds an entry can run it, by ``python -m benchmarks`` and on an accelerator."""

import importlib
from collections.abc import Callable, Iterator

from benchmarks.measure import Row

# From whether sizes are tiny, which tries the code out and measures nothing, to what was measured. Those named in
# TAKE_DATA_DIR take the directory of Fashion-MNIST's files as well, or None.
Benchmark = Callable[..., Iterator[Row]]

# name -> module:function. Imported only when run, so that one benchmark's needs do not stop another.
BENCHMARKS: dict[str, str] = {
    "absum_step": "benchmarks.training_step:absum_step",
    "adversarial_step": "benchmarks.training_step:adversarial_step",
    "sweep_throughput": "benchmarks.fourier_sweep:throughput",
    "sweep_loop": "benchmarks.fourier_sweep:loop",
    "sweep_memory": "benchmarks.fourier_sweep:memory",
    "sweep_compiles": "benchmarks.fourier_sweep:compiles",
    "conv_norms": "benchmarks.spectrum:conv_norms",
    "worst_frequency": "benchmarks.worst_frequency:worst_frequency",
    "gradient_attacks": "benchmarks.gradient_attacks:gradient_attacks",
    "gradient_attacks_foolbox": "benchmarks.gradient_attacks:gradient_attacks_foolbox",
    "lm_step": "benchmarks.language_model_step:lm_step",
    "lm_torch": "benchmarks.language_model_step:lm_torch",
    "log_sigsoftmax": "benchmarks.sigsoftmax:log_sigsoftmax_time",
    "cross_entropy": "benchmarks.sigsoftmax:cross_entropy_time",
    "linear_time": "benchmarks.sigsoftmax:linear_time",
    "linear_products": "benchmarks.sigsoftmax:linear_products",
    "mixture_products": "benchmarks.sigsoftmax:mixture_products",
    "linear_memory": "benchmarks.sigsoftmax:linear_memory",
    "linear_blocks": "benchmarks.sigsoftmax:linear_blocks",
    "mixture_time": "benchmarks.sigsoftmax:mixture_time",
    "mixture_memory": "benchmarks.sigsoftmax:mixture_memory",
    "mixture_tpu_memory": "benchmarks.sigsoftmax_tpu:mixture_tpu_memory",
    "rank_memory": "benchmarks.streamed_rank:rank_memory",
    "first_step": "benchmarks.startup:first_step",
}
TAKE_DATA_DIR = ("worst_frequency",)


class NotAvailableError(RuntimeError):
    """What a benchmark raises where something that it needs is not installed."""


def load(name: str) -> Benchmark:
    """Import the function behind a benchmark's name."""
    module, function = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), function)
