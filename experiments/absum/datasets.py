"""The images that the settings name: whole in memory, or streamed, once all processes have looked at them."""

import functools
import sys

import jax
import numpy as np

from experiments.absum.config import Training
from experiments.data.images import load_images
from experiments.data.kept_summary import from_text, keep, read_kept, to_text
from experiments.data.records import ImageRecords
from experiments.data.streamed import Images, StreamedImages, describe_few, look_at, open_records
from experiments.data.summary import ImageSummary
from experiments.training.agreement import from_all, has_others, require_same
from experiments.training.progress import ProgressReport
from experiments.training.requests import stop_if_asked


def load_dataset(training: Training) -> Images:
    """The images that the settings name.

    Raises:
        ValueError: if they are not there, or damaged, or cannot be streamed where that is asked for.
    """
    if not training.stream:
        return load_images(training.data, training.data_dir, download=training.download)
    records = open_records(training.data, training.data_dir, download=training.download)
    return StreamedImages(records, _summary_of(records))


def _summary_of(records: ImageRecords) -> ImageSummary:
    """What is known of all training images: as it was kept, or each process looks at its part of them."""
    if has_others():
        advice = "each process must find the same records in --data-dir"
        require_same({f"training images of {records.name}": describe_few(records)}, advice)
    kept = read_kept(records)
    if all(from_text(each) for each in from_all(to_text(kept))) and kept is not None:
        return kept
    found = [each for text in from_all(to_text(_look_at_part(records))) if (each := from_text(text)) is not None]
    summary = functools.reduce(ImageSummary.followed_by, found)
    try:
        keep(records, summary)
    except OSError as error:
        if read_kept(records) is None:  # nor was another process of this machine first
            print(f"{records.name}: the next command looks at all images again: {error}", file=sys.stderr)
    return summary


def _look_at_part(records: ImageRecords) -> ImageSummary | None:
    """Read this process's part of the training images once; None if there are fewer images than processes.

    Raises:
        Interrupted: if a signal has asked to stop; on several processes once all have looked at their parts.
    """
    first, end = (records.count * (jax.process_index() + each) // jax.process_count() for each in (0, 1))
    found, lost = None, f"looking at the images of {records.name} begins anew"
    with ProgressReport(f"looking at {records.name}", end - first, "images") as progress:
        for piece in look_at(records, np.arange(first, end)):
            found = piece if found is None else found.followed_by(piece)
            progress.advance(piece.count)
            stop_if_asked(lost, together=False)
    stop_if_asked(lost)
    return found
