"""The two files of SVHN's cropped digits (http://ufldl.stanford.edu/housenumbers), in MATLAB's format.

Each holds ``X``, uint8 [32, 32, 3, N], and ``y``, [N, 1], where label 10 stands for the digit 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.data.source_files import ImageSplits, WantedFiles, check_counts

FILES: WantedFiles = {name: (name,) for name in ("train_32x32.mat", "test_32x32.mat")}
DIGIT_ZERO = 10


def read_svhn(paths: Sequence[Path]) -> ImageSplits:
    """Read ``train_32x32.mat`` and ``test_32x32.mat``.

    Args:
        paths: of the two files.

    Returns:
        Train images uint8 [N, 32, 32, 3], train labels int32 [N] in 0-9, test images, test labels.

    Raises:
        ValueError: a file truncated or wrong; the message names the path.
    """
    train, test = paths
    return *_read_split(train), *_read_split(test)


def _read_split(path: Path) -> tuple[np.ndarray, np.ndarray]:
    variables = _load(path)
    images, labels = variables["X"], variables["y"].ravel()
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise ValueError(
            f"{path}: X must be uint8 of shape (32, 32, 3, N), got {images.dtype} of shape {images.shape}"
        )
    images = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    check_counts(path, images, path, labels)
    if not np.isin(labels, np.arange(1, DIGIT_ZERO + 1)).all():
        raise ValueError(
            f"{path}: y must be 1 to {DIGIT_ZERO}, got {labels.dtype} with values like {labels[:8].tolist()}"
        )
    return images, (labels % DIGIT_ZERO).astype(np.int32)


def _load(path: Path) -> dict[str, np.ndarray]:
    import scipy.io  # noqa: PLC0415  (only this format needs scipy)

    try:
        variables = scipy.io.loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # scipy raises whatever damaged bytes lead to: OSError, IndexError, zlib.error
        raise ValueError(
            f"{path}: must be a MATLAB file of version 4 to 7.2, got one truncated, damaged or other: {error}"
        ) from error
    if missing := [name for name in ("X", "y") if name not in variables]:
        raise ValueError(f"{path}: variables must be X and y, got no {' and no '.join(missing)}")
    return {name: np.asarray(variables[name]) for name in ("X", "y")}
