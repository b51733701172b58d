"""Which rows are for validation, and which make a batch: in training, or padded for evaluation."""

from collections.abc import Iterator, Mapping

import numpy as np

Batch = dict[str, np.ndarray]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Number of whole batches in one pass over the data: floor(num_examples / batch_size).

    Args:
        num_examples: number of rows.
        batch_size: rows of a batch, over all processes.

    Returns:
        At least 1.

    Raises:
        ValueError: ``batch_size`` is not positive, or there are fewer rows than that.

    Example:
        >>> steps_per_epoch(10, 3)
        3
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if num_examples < batch_size:
        raise ValueError(f"batch_size must be at most {num_examples}, the number of examples, got {batch_size}")
    return num_examples // batch_size


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of one pass over the data.

    Args:
        seed: at least 0.
        epoch: which pass; at least 0.

    Returns:
        A generator that depends on ``seed`` and ``epoch`` alone.

    Raises:
        ValueError: one of them is negative.

    Example:
        >>> epoch_generator(seed=0, epoch=1).permutation(5).tolist()
        [4, 3, 2, 0, 1]
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must be at least 0, got {seed} and {epoch}")
    # spawn_key keeps (seed, epoch) apart: as a list, [5, 1] and [2**32 + 5, 0] seed the same stream.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))


def process_share(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of every batch that belong to a process.

    Args:
        batch_size: rows of a batch, over all processes.
        process_index: this process.
        process_count: number of processes; ``batch_size`` is a multiple of it.

    Returns:
        The ``process_index``-th of ``process_count`` equal slices.

    Raises:
        ValueError: an index out of range, a batch that the processes cannot share.

    Example:
        >>> process_share(8, 1, 2)
        slice(4, 8, None)
    """
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be 0 to process_count - 1, got {process_index} of {process_count}")
    if batch_size % process_count:
        raise ValueError(f"batch_size must be a multiple of {process_count} processes, got {batch_size}")
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)


def validation_split(count: int, validation_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Take a random part of the training images away for validation.

    Args:
        count: of training images.
        validation_size: number of validation images, from 0 to one less than there are.
        seed: the same seed gives the same split.

    Returns:
        The numbers of the training and of the validation images, int [count - validation_size] and
        [validation_size].

    Raises:
        ValueError: ``validation_size`` leaves no training image or is negative.

    Example:
        >>> train, validation = validation_split(5_000, validation_size=500, seed=0)
        >>> len(train), len(validation)
        (4500, 500)
    """
    if not 0 <= validation_size < count:
        raise ValueError(f"validation_size must be 0 to {count - 1}, of {count} images, got {validation_size}")
    validation, train = np.split(np.random.default_rng(seed).permutation(count), [validation_size])
    return train, validation


def epoch_rows(
    num_examples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    shuffle: bool = True,
) -> np.ndarray:
    """Which rows are in each batch of one pass over the data; the rows left over are dropped.

    The order depends on ``seed`` and ``epoch`` alone. Process p of P gets the p-th of the P equal slices of
    every batch, so that the batches are the same for any number of processes.

    Args:
        num_examples: number of rows.
        batch_size: rows of a batch, over all processes.
        seed: of the order; at least 0.
        epoch: which pass; at least 0.
        start: how many batches to leave out, those that a resumed run has done.
        process_index: this process.
        process_count: number of processes; ``batch_size`` is a multiple of it.
        shuffle: False takes the rows as they are.

    Returns:
        int [``steps_per_epoch`` - ``start``, ``batch_size / process_count``].

    Raises:
        ValueError: fewer rows than a batch, an index out of range, a batch that the processes cannot share.

    Example:
        >>> epoch_rows(7, 3, seed=0, epoch=0, shuffle=False).tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    steps = steps_per_epoch(num_examples, batch_size)
    if not 0 <= start <= steps:
        raise ValueError(f"start must be 0 to {steps}, the batches of an epoch, got {start}")
    generator = epoch_generator(seed, epoch)
    share = process_share(batch_size, process_index, process_count)
    order = generator.permutation(num_examples) if shuffle else np.arange(num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size)[start:, share]


def padded_batches(
    arrays: Mapping[str, np.ndarray], batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Every row once, in order, in batches of one size, with a weight that tells rows from padding.

    The last batch is filled with copies of row 0, of weight 0; so sums of weight * value, divided by the sum
    of weight, are exact for any batch size and any number of processes.

    Args:
        arrays: rows first, all of one length.
        batch_size: rows of a batch, over all processes.
        process_index: this process, which gets its slice of every batch, as in ``epoch_rows``.
        process_count: number of processes; ``batch_size`` is a multiple of it.

    Returns:
        Iterator over ceil(rows / batch_size) batches with the keys of ``arrays`` and ``weight``, float32, 1 for
        a row and 0 for padding.

    Raises:
        ValueError: at once: arrays empty or of different lengths, one called ``weight``, a ``batch_size`` that
            is not positive or that the processes cannot share.

    Example:
        >>> [batch["weight"].tolist() for batch in padded_batches({"labels": np.arange(3)}, 2)]
        [[1.0, 1.0], [1.0, 0.0]]
    """
    if "weight" in arrays:
        raise ValueError(f"arrays must not be called 'weight', as the padding is, got {', '.join(arrays)}")
    num_examples = _num_rows(arrays)
    if batch_size < 1 or num_examples == 0:
        raise ValueError(f"batch_size and the rows must be at least 1, got {batch_size} and {num_examples}")
    share = process_share(batch_size, process_index, process_count)
    steps = -(-num_examples // batch_size)
    rows = np.arange(steps * batch_size).reshape(steps, batch_size)[:, share]
    return (_padded(arrays, selected, selected < num_examples) for selected in rows)


def _padded(arrays: Mapping[str, np.ndarray], rows: np.ndarray, real: np.ndarray) -> Batch:
    batch = {key: array[np.where(real, rows, 0)] for key, array in arrays.items()}
    return {**batch, "weight": real.astype(np.float32)}


def _num_rows(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays must have one length, got {lengths}")
    return next(iter(lengths.values()))
