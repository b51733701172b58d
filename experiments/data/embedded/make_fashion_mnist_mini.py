"""Make the embedded data set from the four idx files of Fashion-MNIST.

``python -m experiments.data.embedded.make_fashion_mnist_mini DIRECTORY`` takes the first 5,000 training and
1,000 test images and writes ``fashion_mnist_mini.npz`` beside this file (``--out`` to write elsewhere). Run
again it writes the same bytes, as long as NumPy and zlib compress as before.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.image_sets import EMBEDDED_FILE
from experiments.data.images import load_images
from experiments.data.own_images import SPLIT_KEYS
from experiments.data.source_files import EMBEDDED

TRAIN_SIZE, TEST_SIZE = 5_000, 1_000


def make(directory: Path, out: Path) -> None:
    """Write the first images of the full data set.

    Args:
        directory: holds the four idx files of Fashion-MNIST.
        out: the ``.npz`` file to write.

    Raises:
        ValueError: files missing or wrong, or fewer images than needed.
    """
    dataset = load_images("fashion_mnist", directory)
    train_count, test_count = len(dataset.train_images), len(dataset.test_images)
    if train_count < TRAIN_SIZE or test_count < TEST_SIZE:
        raise ValueError(
            f"{directory}: must hold at least {TRAIN_SIZE} training and {TEST_SIZE} test images, "
            f"got {train_count} and {test_count}"
        )
    sizes = (TRAIN_SIZE, TRAIN_SIZE, TEST_SIZE, TEST_SIZE)
    # Labels go back to uint8, as in the source: a quarter of the bytes.
    rows: dict[str, Any] = {
        key: getattr(dataset, key)[:size].astype(np.uint8) for key, size in zip(SPLIT_KEYS, sizes, strict=True)
    }
    np.savez_compressed(out, **rows)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where the four idx files are")
    parser.add_argument(
        "--out", type=Path, default=EMBEDDED / EMBEDDED_FILE, help="file to write (default: %(default)s)"
    )
    options = parser.parse_args()
    make(options.directory, options.out)


if __name__ == "__main__":
    main()
