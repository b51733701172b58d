"""Absum regularisation and the single Fourier attack, as pure functions on parameter trees and images."""

import importlib.metadata

from absum_jax._prediction_checks import PredictionFinding
from absum_jax.attack_losses import cross_entropy_loss, logits_ratio_loss, margin_loss
from absum_jax.comparison import McNemarTest, PairedTTest, mcnemar_test, paired_t_test
from absum_jax.fourier import binary_frequencies, fourier_basis, fourier_perturbation, frequency_grid
from absum_jax.gradient_attacks import fgsm, pgd
from absum_jax.kernels import conv_kernel_mask
from absum_jax.noise import band_limited_noise, random_perturbation
from absum_jax.penalty import absum, absum_penalty
from absum_jax.prediction_checks import check_predictions
from absum_jax.prox import prox_absum, prox_l1, prox_squared_l2, tree_prox
from absum_jax.robustness import accuracy_interval, epsilon_at_chance, fooling_rate, worst_case
from absum_jax.spectrum import (
    clip_singular_values,
    conv_power_iteration,
    conv_singular_values,
    conv_spectral_norm,
    frequency_response,
)
from absum_jax.sweep import FourierSweep, fourier_heatmap, fourier_sweep, fourier_sweep_parts
from absum_jax.transform import proximal, proximal_adam
from absum_jax.universal_perturbations import attack_predictions

__all__ = [
    "FourierSweep",
    "McNemarTest",
    "PairedTTest",
    "PredictionFinding",
    "absum",
    "absum_penalty",
    "accuracy_interval",
    "attack_predictions",
    "band_limited_noise",
    "binary_frequencies",
    "check_predictions",
    "clip_singular_values",
    "conv_kernel_mask",
    "conv_power_iteration",
    "conv_singular_values",
    "conv_spectral_norm",
    "cross_entropy_loss",
    "epsilon_at_chance",
    "fgsm",
    "fooling_rate",
    "fourier_basis",
    "fourier_heatmap",
    "fourier_perturbation",
    "fourier_sweep",
    "fourier_sweep_parts",
    "frequency_grid",
    "frequency_response",
    "logits_ratio_loss",
    "margin_loss",
    "mcnemar_test",
    "paired_t_test",
    "pgd",
    "prox_absum",
    "prox_l1",
    "prox_squared_l2",
    "proximal",
    "proximal_adam",
    "random_perturbation",
    "tree_prox",
    "worst_case",
]

try:
    __version__ = importlib.metadata.version("absum-sigsoftmax")
except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0+unknown"
