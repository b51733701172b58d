import numpy as np
import pytest

from experiments.data.streams import evaluation_batches, window_batches
from experiments.data.window_lengths import WindowLengths

SHORT = WindowLengths(base=6, half_probability=0.3, spread=2.0, smallest=2, largest=8)
KEYS = {"tokens": np.int32, "labels": np.int32, "where": np.bool_, "length": np.int32, "reset": np.bool_}


def check_form(batch, rows, size):
    """Types, shapes, and that the real positions are the first ``length`` of every row, the others 0."""
    assert {key: array.dtype for key, array in batch.items()} == KEYS
    for key, array in batch.items():
        assert array.shape == ((rows,) if key in ("length", "reset") else (rows, size))
    np.testing.assert_array_equal(batch["where"], np.arange(size) < batch["length"][:, None])
    for key in ("tokens", "labels"):
        assert not batch[key][~batch["where"]].any()


def join(batches, key, row):
    """The real positions of one row of all windows."""
    return np.concatenate([batch[key][row][batch["where"][row]] for batch in batches])


@pytest.mark.parametrize(("count", "batch_size"), [(200, 4), (203, 4), (57, 1), (14, 2)])
def test_rows_are_streams_and_every_label_is_scored_once(count, batch_size):
    text = np.arange(100, 100 + count)
    batches = list(window_batches(text, batch_size, SHORT, seed=0, epoch=0))
    length = count // batch_size
    for batch in batches:
        check_form(batch, batch_size, SHORT.largest)
        assert len(set(batch["length"].tolist())) == 1
    for row in range(batch_size):
        stream = text[row * length : (row + 1) * length]
        np.testing.assert_array_equal(join(batches, "tokens", row), stream[:-1])
        np.testing.assert_array_equal(join(batches, "labels", row), stream[1:])
    assert len(batches) == len(SHORT.lengths(length - 1, seed=0, epoch=0))


def test_number_of_windows_is_that_of_the_labels_of_a_stream():
    fixed = WindowLengths(base=6, half_probability=0.0, spread=0.0, smallest=6, largest=6)
    # Streams of 12, 13 and 14 tokens have 11, 12 and 13 labels.
    for count, windows in ((24, 2), (26, 2), (28, 3)):
        assert len(list(window_batches(np.arange(count), 2, fixed, seed=0, epoch=0))) == windows


def test_windows_have_the_lengths_that_were_drawn():
    drawn = SHORT.lengths(49, seed=3, epoch=2)
    batches = window_batches(np.arange(200), 4, SHORT, seed=3, epoch=2)
    assert [batch["length"][0] for batch in batches] == drawn.tolist()
    assert len(set(drawn.tolist())) > 1


def test_windows_are_padded_to_the_smallest_size_that_holds_them():
    padded = window_batches(np.arange(200), 4, SHORT, sizes=(2, 4, 8), seed=3, epoch=2)
    whole = window_batches(np.arange(200), 4, SHORT, seed=3, epoch=2)
    seen = set()
    for batch, largest in zip(padded, whole, strict=True):
        length = batch["length"][0]
        size = next(size for size in (2, 4, 8) if size >= length)
        check_form(batch, 4, size)
        for key in KEYS:
            np.testing.assert_array_equal(
                batch[key], largest[key][:, :size] if batch[key].ndim == 2 else largest[key]
            )
        seen.add(size)
    assert seen == {2, 4, 8}


def test_state_is_reset_at_the_first_window_alone():
    resets = [batch["reset"].tolist() for batch in window_batches(np.arange(99), 3, SHORT, seed=0, epoch=4)]
    assert resets == [[True] * 3] + [[False] * 3] * (len(resets) - 1)
    assert len(resets) > 2


def equal(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        for key in KEYS:
            np.testing.assert_array_equal(batch[key], other[key])
    return True


@pytest.mark.parametrize("sizes", [None, SHORT.padded_sizes(2)])
def test_resumed_equals_uninterrupted(sizes):
    options = {"sizes": sizes, "seed": 1, "epoch": 2}
    whole = list(window_batches(np.arange(99), 3, SHORT, **options))
    for start in range(len(whole) + 1):
        assert equal(window_batches(np.arange(99), 3, SHORT, **options, start=start), whole[start:])


def joined(parts):
    """The batches of all processes put together."""
    return [
        {key: np.concatenate([part[key] for part in step]) for key in KEYS} for step in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_processes_share_the_rows_in_order(process_count):
    def train(**process):
        return window_batches(
            np.arange(99), 4, SHORT, sizes=SHORT.padded_sizes(3), seed=1, epoch=2, start=1, **process
        )

    def evaluate(**process):
        return evaluation_batches(np.arange(99), 4, 7, **process)

    for batches in (train, evaluate):
        parts = [batches(process_index=index, process_count=process_count) for index in range(process_count)]
        assert equal(joined(parts), batches())


@pytest.mark.parametrize("count", [2, 9, 50, 51, 52])
@pytest.mark.parametrize(("batch_size", "window"), [(1, 1), (1, 7), (3, 7), (4, 100), (10, 5), (64, 3)])
def test_evaluation_counts_every_label_once_whatever_the_batch(count, batch_size, window):
    text = np.arange(100, 100 + count)
    batches = list(evaluation_batches(text, batch_size, window))
    for batch in batches:
        check_form(batch, batch_size, window)
    # Row after row the labels are the whole text but its first token; each follows its own token.
    for key, expected in (("tokens", text[:-1]), ("labels", text[1:])):
        np.testing.assert_array_equal(
            np.concatenate([join(batches, key, row) for row in range(batch_size)]), expected
        )
    sizes = sum(batch["length"] for batch in batches)
    assert sizes.max() - sizes.min() <= 1
    assert [batch["reset"].all() for batch in batches] == [True] + [False] * (len(batches) - 1)
    assert not any(batch["reset"].any() for batch in batches[1:])
    assert len(batches) == np.ceil(np.ceil((count - 1) / batch_size) / window)


def test_evaluation_fills_every_window_but_the_last():
    *whole, last = evaluation_batches(np.arange(52), 3, 5)
    assert len(whole) == 3
    assert all(batch["where"].all() for batch in whole)
    assert last["length"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tokens": np.arange(27)},
            "tokens must be at least 28, 4 streams .batch_size. of 6 tokens .bptt. and the one after them, got 27",
        ),
        (
            {"tokens": np.zeros((3, 40), int)},
            r"tokens must be integers of shape \[n\], got int64 of shape \(3, 40\)",
        ),
        ({"tokens": np.zeros(99)}, "tokens must be integers .*got float64"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -4}, "batch_size must be at least 1, got -4"),
        ({"process_count": 3}, "batch_size must be a multiple of 3 processes, got 4"),
        ({"process_index": 2, "process_count": 2}, "process_index must be 0 to process_count - 1, got 2 of 2"),
        ({"sizes": (3, 7)}, r"sizes must have one of at least 8, the largest length, got \(3, 7\)"),
        ({"sizes": ()}, r"sizes must have one of at least 8, the largest length, got \(\)"),
        ({"start": -1}, "start must be 0 to .*, got -1"),
        ({"start": 99}, "start must be 0 to .*, the windows of epoch 1, got 99"),
        ({"seed": -1}, "seed and epoch must be at least 0, got -1 and 1"),
        ({"epoch": -1}, "seed and epoch must be at least 0, got 0 and -1"),
    ],
)
def test_bad_settings_fail_before_the_first_window(changed, message):
    settings = {"tokens": np.arange(99), "batch_size": 4, "lengths": SHORT, "seed": 0, "epoch": 1, **changed}
    with pytest.raises(ValueError, match=message):
        window_batches(**settings)


def test_short_texts():
    with pytest.raises(ValueError, match=r"tokens must be at least 28, .*got 27"):
        window_batches(np.arange(27), 4, SHORT, seed=0, epoch=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokens": np.arange(1)}, "tokens must be at least 2, .*got 1"),
        ({"tokens": np.zeros(9)}, "tokens must be integers .*got float64"),
        ({"batch_size": 0}, "batch_size and window must be at least 1, got 0 and 5"),
        ({"window": 0}, "batch_size and window must be at least 1, got 4 and 0"),
        ({"process_count": 3}, "batch_size must be a multiple of 3 processes, got 4"),
    ],
)
def test_bad_evaluation_settings_fail_before_the_first_window(changed, message):
    settings = {"tokens": np.arange(99), "batch_size": 4, "window": 5, **changed}
    with pytest.raises(ValueError, match=message):
        evaluation_batches(**settings)
