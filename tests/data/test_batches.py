import itertools

import numpy as np
import pytest

from experiments.data.batches import epoch_rows, padded_batches, steps_per_epoch, validation_split


def rows(count):
    """Two arrays that name their row."""
    return {"images": np.arange(count)[:, None] * np.ones(3, int), "labels": np.arange(count)}


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (12, 4), (13, 4), (15, 4), (4, 4)])
def test_every_row_at_most_once_and_only_the_tail_is_dropped(count, batch_size):
    batches = epoch_rows(count, batch_size, seed=0, epoch=0)
    assert batches.shape == (steps_per_epoch(count, batch_size), batch_size) == (count // batch_size, batch_size)
    seen = batches.ravel().tolist()
    assert len(seen) == len(set(seen)) == count - count % batch_size
    assert set(seen) <= set(range(count))


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, **options):
        return epoch_rows(40, 4, seed=seed, epoch=epoch, **options).tolist()

    assert order(3, 1) == order(3, 1)
    # The last pair is the same stream if seed and epoch are merely put in a list.
    different = [order(*pair) for pair in [(0, 0), (0, 1), (1, 0), (1, 1), (2**32 + 5, 0), (5, 1)]]
    assert all(a != b for a, b in itertools.combinations(different, 2))
    assert order(0, 0) != order(0, 0, shuffle=False)


def test_without_shuffling_rows_come_as_they_are():
    assert epoch_rows(7, 3, seed=0, epoch=5, shuffle=False).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_resumed_equals_uninterrupted(start):
    whole = epoch_rows(21, 4, seed=1, epoch=2).tolist()
    assert len(whole) == 5
    assert epoch_rows(21, 4, seed=1, epoch=2, start=start).tolist() == whole[start:]


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("start", [0, 2])
def test_processes_share_every_batch_in_order(process_count, start):
    options = {"seed": 7, "epoch": 1, "start": start}
    whole = epoch_rows(19, 4, **options).tolist()
    parts = [
        epoch_rows(19, 4, **options, process_index=index, process_count=process_count).tolist()
        for index in range(process_count)
    ]
    joined = [list(itertools.chain.from_iterable(step)) for step in zip(*parts, strict=True)]
    assert joined == whole
    assert {len(slice_) for part in parts for slice_ in part} == {4 // process_count}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -4}, "batch_size must be at least 1, got -4"),
        ({"batch_size": 13}, "batch_size must be at most 12, the number of examples, got 13"),
        ({"batch_size": 5, "process_count": 2}, "batch_size must be a multiple of 2 processes, got 5"),
        ({"process_index": 2, "process_count": 2}, "process_index must be 0 to process_count - 1, got 2 of 2"),
        ({"process_index": -1}, "process_index must be .*, got -1 of 1"),
        ({"process_count": 0}, "process_index must be .*, got 0 of 0"),
        ({"start": 4}, "start must be 0 to 3, the batches of an epoch, got 4"),
        ({"start": -1}, "start must be 0 to 3, .*got -1"),
        ({"seed": -1}, "seed and epoch must be at least 0, got -1 and 0"),
        ({"epoch": -1}, "seed and epoch must be at least 0, got 0 and -1"),
        ({"num_examples": 0}, "batch_size must be at most 0"),
    ],
)
def test_bad_settings_fail_before_the_first_batch(changed, message):
    settings = {"num_examples": 12, "batch_size": 4, "seed": 0, "epoch": 0, **changed}
    with pytest.raises(ValueError, match=message):
        epoch_rows(**settings)


def test_validation_split_has_every_image_once():
    train, validation = validation_split(20, 6, seed=0)
    assert (len(train), len(validation)) == (14, 6)
    assert sorted([*train, *validation]) == list(range(20))


def test_validation_split_depends_on_the_seed_alone():
    found = [validation_split(20, 6, seed)[1].tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_validation_split_of_no_images_keeps_all():
    assert [len(part) for part in validation_split(20, 0, seed=0)] == [20, 0]


@pytest.mark.parametrize("size", [-1, 20, 21])
def test_validation_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"validation_size must be 0 to 19, of 20 images, got {size}"):
        validation_split(20, size, seed=0)


def test_steps_per_epoch():
    assert [steps_per_epoch(count, 4) for count in (4, 7, 8, 9)] == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="batch_size must be at most 4, the number of examples, got 5"):
        steps_per_epoch(4, 5)


@pytest.mark.parametrize(("count", "batch_size"), [(7, 4), (8, 4), (9, 4), (3, 8), (1, 1)])
def test_padding_repeats_row_zero_with_weight_zero(count, batch_size):
    arrays = {"labels": np.arange(10, 10 + count), "images": np.arange(count * 2).reshape(count, 2)}
    batches = list(padded_batches(arrays, batch_size))
    assert len(batches) == -(-count // batch_size)
    assert all(len(array) == batch_size for batch in batches for array in batch.values())
    weight = np.concatenate([batch["weight"] for batch in batches])
    seen = np.concatenate([batch["labels"] for batch in batches])
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, np.arange(len(weight)) < count)
    np.testing.assert_array_equal(seen[:count], arrays["labels"])
    np.testing.assert_array_equal(seen[count:], 10)
    np.testing.assert_array_equal(
        np.concatenate([batch["images"] for batch in batches])[count:], 0 * weight[count:, None] + [0, 1]
    )


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_weighted_sums_do_not_depend_on_the_processes(process_count):
    parts = [
        padded_batches(rows(13), 4, process_index=i, process_count=process_count) for i in range(process_count)
    ]
    batches = list(itertools.chain.from_iterable(parts))
    assert len(batches) == 4 * process_count
    assert sum(batch["weight"].sum() for batch in batches) == 13
    assert sum((batch["weight"] * batch["labels"]).sum() for batch in batches) == sum(range(13))


@pytest.mark.parametrize(
    ("arrays", "batch_size", "message"),
    [
        (
            {"labels": np.arange(3), "weight": np.ones(3)},
            2,
            "arrays must not be called 'weight', .* got labels, weight",
        ),
        (
            {"labels": np.arange(3), "images": np.ones(2)},
            2,
            "arrays must have one length, got {'labels': 3, 'images': 2}",
        ),
        ({}, 2, "arrays must have one length, got {}"),
        ({"labels": np.arange(0)}, 2, "batch_size and the rows must be at least 1, got 2 and 0"),
        ({"labels": np.arange(3)}, 0, "batch_size and the rows must be at least 1, got 0 and 3"),
    ],
)
def test_bad_padding_settings_fail_before_the_first_batch(arrays, batch_size, message):
    with pytest.raises(ValueError, match=message):
        padded_batches(arrays, batch_size)


def test_padded_batches_must_be_shared_evenly():
    with pytest.raises(ValueError, match="batch_size must be a multiple of 2 processes, got 3"):
        padded_batches(rows(5), 3, process_count=2)
