"""Absum regularisation and the single Fourier attack, as pure functions on parameter trees and images."""

import importlib.metadata

from absum_jax._prediction_checks import PredictionFinding
from absum_jax.attack_losses import cross_entropy_loss, logits_ratio_loss, margin_loss
from absum_jax.fourier import band_limited_noise, fourier_basis, fourier_perturbation, frequency_grid
from absum_jax.gradient_attacks import fgsm, pgd
from absum_jax.kernels import conv_kernel_mask
from absum_jax.penalty import absum, absum_penalty
from absum_jax.prediction_checks import check_predictions
from absum_jax.prox import prox_absum, prox_l1, prox_squared_l2, tree_prox
from absum_jax.robustness import accuracy_interval, fooling_rate
from absum_jax.sweep import FourierSweep, fourier_heatmap, fourier_sweep, fourier_sweep_parts
from absum_jax.transform import proximal

__all__ = [
    "FourierSweep",
    "PredictionFinding",
    "absum",
    "absum_penalty",
    "accuracy_interval",
    "band_limited_noise",
    "check_predictions",
    "conv_kernel_mask",
    "cross_entropy_loss",
    "fgsm",
    "fooling_rate",
    "fourier_basis",
    "fourier_heatmap",
    "fourier_perturbation",
    "fourier_sweep",
    "fourier_sweep_parts",
    "frequency_grid",
    "logits_ratio_loss",
    "margin_loss",
    "pgd",
    "prox_absum",
    "prox_l1",
    "prox_squared_l2",
    "proximal",
    "tree_prox",
]

try:
    __version__ = importlib.metadata.version("absum-sigsoftmax")
except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0+unknown"
