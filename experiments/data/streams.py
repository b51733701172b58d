"""Windows over continuous streams of tokens, for truncated back-propagation through time with carried state.

The text is cut into as many contiguous streams as a batch has rows. Window after window goes along them: row r
of a window goes on where row r of the window before ended, so that the state of a recurrent network can be
carried over. Training windows are padded to one of a few sizes: a compilation for each.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.data.batches import Batch, process_share
from experiments.data.window_lengths import WindowLengths


def window_batches(
    tokens: np.ndarray,
    batch_size: int,
    lengths: WindowLengths,
    *,
    sizes: Sequence[int] | None = None,
    seed: int,
    epoch: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """One pass over a text in windows of random length, for training.

    Row r of a batch is stream r, the tokens from r L to (r + 1) L, where L = floor(n / batch_size); what is left
    over is dropped. Every token of a stream except its first is the label of exactly one position.

    Args:
        tokens: integers [n].
        batch_size: number of streams, over all processes.
        lengths: of the windows.
        sizes: what windows are padded to, each to the smallest that holds it, such as
            ``lengths.padded_sizes(4)``; by default all to ``lengths.largest``.
        seed: of the lengths; at least 0.
        epoch: which pass; at least 0.
        start: how many windows to leave out, those that a resumed run has done. They cost nothing.
        process_index: this process, which gets its slice of the rows, as in ``epoch_rows``.
        process_count: number of processes; ``batch_size`` is a multiple of it.

    Returns:
        Iterator over a dict for each window but the first ``start``; with b = batch_size / process_count and T
        the window's size, the same on all processes:
        ``tokens`` and ``labels`` (the next tokens), int32 [b, T], 0 where padded; ``where`` bool [b, T], False
        where padded, at the end; ``length`` int32 [b], the number of positions that are not, the same in all rows;
        ``reset`` bool [b], True in the first window of the pass, before which the state is to be cleared.

    Raises:
        ValueError: at once, not at the first window: tokens that are not [n] integers, streams shorter than
            lengths.base + 1, an index out of range, rows that the processes cannot share, or no size that holds
            the largest window.

    Example:
        >>> lengths = WindowLengths(base=3, half_probability=0, spread=0, smallest=1, largest=4)
        >>> for batch in window_batches(np.arange(13), 2, lengths, seed=0, epoch=0):
        ...     print(batch["tokens"].tolist(), batch["labels"][0].tolist(), batch["length"].tolist())
        [[0, 1, 2, 0], [6, 7, 8, 0]] [1, 2, 3, 0] [3, 3]
        [[3, 4, 0, 0], [9, 10, 0, 0]] [4, 5, 0, 0] [2, 2]
    """
    _check_tokens(tokens)
    length = _stream_length(len(tokens), batch_size, lengths)
    padded = np.sort(np.asarray((lengths.largest,) if sizes is None else sizes))
    if not len(padded) or padded[-1] < lengths.largest:
        raise ValueError(f"sizes must have one of at least {lengths.largest}, the largest length, got {sizes}")
    drawn = lengths.lengths(length - 1, seed=seed, epoch=epoch)
    ends, padded = np.cumsum(drawn), padded[np.searchsorted(padded, drawn)]
    if not 0 <= start <= len(drawn):
        raise ValueError(f"start must be 0 to {len(drawn)}, the windows of epoch {epoch}, got {start}")
    share = process_share(batch_size, process_index, process_count)
    offsets = np.arange(batch_size)[share, None] * length
    return (
        _window(tokens, offsets + ends[i] - drawn[i], offsets + ends[i], padded[i], first=i == 0)
        for i in range(start, len(drawn))
    )


def evaluation_batches(
    tokens: np.ndarray, batch_size: int, window: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """One pass over a text in windows of one length, in which all n - 1 labels are counted exactly once.

    Row r is a stream of the r-th of ``batch_size`` parts of the labels, equal to within one; a row that has ended
    is padding.

    Args:
        tokens: integers [n].
        batch_size: number of streams, over all processes.
        window: positions of a window.
        process_index: this process, which gets its slice of the rows, as in ``epoch_rows``.
        process_count: number of processes; ``batch_size`` is a multiple of it.

    Returns:
        Iterator over ceil(ceil((n - 1) / batch_size) / window) dicts as those of ``window_batches``, with
        T = window; ``length`` may differ between rows, and be 0.

    Raises:
        ValueError: at once: tokens that are not [n] integers, fewer than two, a size that is not positive, rows
            that the processes cannot share.

    Example:
        >>> for batch in evaluation_batches(np.arange(6), 2, 2):
        ...     print(batch["labels"].tolist(), batch["length"].tolist())
        [[1, 2], [3, 4]] [2, 2]
        [[0, 0], [5, 0]] [0, 1]
    """
    _check_tokens(tokens)
    if batch_size < 1 or window < 1:
        raise ValueError(f"batch_size and window must be at least 1, got {batch_size} and {window}")
    if len(tokens) < 2:
        raise ValueError(f"tokens must be at least 2, one and the next one, its label, got {len(tokens)}")
    bounds = np.arange(batch_size + 1)[:, None] * (len(tokens) - 1) // batch_size
    share = process_share(batch_size, process_index, process_count)
    begin, end = bounds[:-1][share], bounds[1:][share]
    # Of all processes, so that each has the same number of windows.
    longest = int(np.diff(bounds, axis=0).max())
    return (
        _window(tokens, begin + offset, np.minimum(begin + offset + window, end), window, first=offset == 0)
        for offset in range(0, longest, window)
    )


def _check_tokens(tokens: np.ndarray) -> None:
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"tokens must be integers of shape [n], got {tokens.dtype} of shape {tokens.shape}")


def _stream_length(num_tokens: int, batch_size: int, lengths: WindowLengths) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    needed = batch_size * (lengths.base + 1)
    if num_tokens < needed:
        raise ValueError(
            f"tokens must be at least {needed}, {batch_size} streams (batch_size) of {lengths.base} tokens (bptt) "
            f"and the one after them, got {num_tokens}"
        )
    return num_tokens // batch_size


def _window(tokens: np.ndarray, begin: np.ndarray, end: np.ndarray, size: int, *, first: bool) -> Batch:
    """The positions from ``begin`` to ``end``, both [b, 1], padded to ``size``."""
    positions = begin + np.arange(size)
    where = positions < end
    inside = np.where(where, positions, 0)
    return {
        "tokens": np.where(where, tokens[inside], 0).astype(np.int32),
        "labels": np.where(where, tokens[inside + 1], 0).astype(np.int32),
        "where": where,
        "length": where.sum(axis=1, dtype=np.int32),
        "reset": np.full(len(where), first),
    }
