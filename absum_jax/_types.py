"""The types of the public signatures, each under one name."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

# Parameters: linen dicts, nnx.State, Haiku or Equinox trees, or whatever a predict_fn takes.
PyTree = Any

# What the functions of one kernel take; a Python number has no axes to sum over.
ArrayOrNumpy = jax.Array | np.ndarray

# A tree of bools (or a prefix of one) with the structure of the parameters, or a callable from parameters to one.
Mask = PyTree | Callable[[PyTree], PyTree]

# The axes of a kernel that are not channels, counted from either end; None is all but the last two (HWIO).
SpatialAxes = Sequence[int] | None

# (leaf, strength, scaling) -> leaf; it may take spatial_axes and metric as keywords as well.
Prox = Callable[..., jax.Array]

# A number, or a schedule of the step count as in optax.
LearningRate = float | jax.Array | Callable[[jax.Array], ArrayLike]

# (params, images [N, height, width, channels]) -> logits [N, classes].
PredictFn = Callable[[PyTree, jax.Array], jax.Array]

# (height, width), and (height, width, channels).
ImageSize = tuple[int, int]
ImageShape = tuple[int, int, int]

# The spatial axes of a convolution's input: (length,), (height, width) or (depth, height, width).
SpatialSize = tuple[int, ...]

# One pair (l, m) of discrete Fourier transform indices, and a list [F, 2] of them.
Frequency = ArrayLike | Sequence[int]
Frequencies = ArrayLike | Sequence

# A phase in radians, or several [P].
Phases = ArrayLike | Sequence[float]

# Numbers or bools in an array or in (nested) lists.
Values = ArrayLike | Sequence

# Smallest and largest pixel value.
Bounds = tuple[float, float]

# The devices that share the work; None stays where the images are.
Devices = Sequence[jax.Device] | None

# (logits [N, classes], labels [N]) -> loss [N], which an attack raises.
AttackLoss = Callable[[jax.Array, jax.Array], jax.Array]

# One random key, typed or raw, or an array of them.
Key = jax.Array
