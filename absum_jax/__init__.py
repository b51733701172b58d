"""Absum regularisation and the single Fourier attack, as pure functions on parameter trees and images."""

import importlib.metadata

from absum_jax.fourier import band_limited_noise, fourier_basis, fourier_perturbation, frequency_grid
from absum_jax.kernels import conv_kernel_mask
from absum_jax.penalty import absum, absum_penalty
from absum_jax.prox import prox_absum, prox_l1, prox_squared_l2, tree_prox
from absum_jax.robustness import accuracy_interval, fooling_rate
from absum_jax.sweep import FourierSweep, fourier_heatmap, fourier_sweep, fourier_sweep_parts
from absum_jax.transform import proximal
from absum_jax.worst_frequency import (
    SearchState,
    WorstFrequency,
    WorstPerturbation,
    WorstSearch,
    find_worst_frequency,
    find_worst_perturbation,
    worst_frequency_search,
    worst_perturbation_search,
)

__all__ = [
    "FourierSweep",
    "SearchState",
    "WorstFrequency",
    "WorstPerturbation",
    "WorstSearch",
    "absum",
    "absum_penalty",
    "accuracy_interval",
    "band_limited_noise",
    "conv_kernel_mask",
    "find_worst_frequency",
    "find_worst_perturbation",
    "fooling_rate",
    "fourier_basis",
    "fourier_heatmap",
    "fourier_perturbation",
    "fourier_sweep",
    "fourier_sweep_parts",
    "frequency_grid",
    "prox_absum",
    "prox_l1",
    "prox_squared_l2",
    "proximal",
    "tree_prox",
    "worst_frequency_search",
    "worst_perturbation_search",
]

try:
    __version__ = importlib.metadata.version("absum-sigsoftmax")
except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0+unknown"
