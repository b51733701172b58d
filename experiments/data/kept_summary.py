"""The summary of a streamed set, kept in the user's cache folder for as long as its files stay as they are."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments.data.records import ImageRecords
from experiments.data.summary import ImageSummary
from experiments.storage import user_cache, write_json


def read_kept(records: ImageRecords) -> ImageSummary | None:
    """The summary that was kept of these very files; None where there is none, or it cannot be read."""
    path = _place(records)
    try:
        return None if path is None else from_text(path.read_text())
    except (OSError, ValueError):
        return None


def keep(records: ImageRecords, summary: ImageSummary) -> None:
    """Keep a summary of all training images.

    Raises:
        OSError: it cannot be written.
    """
    if (path := _place(records)) is not None:
        write_json(path, dataclasses.asdict(summary))


def to_text(summary: ImageSummary | None) -> str:
    """A summary, or that there is none, as one line."""
    return json.dumps(summary and dataclasses.asdict(summary))


def from_text(text: str) -> ImageSummary | None:
    """The inverse of :func:`to_text`.

    Raises:
        ValueError: it is of something else.
    """
    values: Any = json.loads(text)
    if values is None:
        return None
    names = [field.name for field in dataclasses.fields(ImageSummary)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"a summary must have {', '.join(names)}, got {text[:80]}")
    found: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in values.items()
    }
    return ImageSummary(**found)


def _place(records: ImageRecords) -> Path | None:
    found = records.fingerprint()
    return None if found is None else user_cache() / "images" / f"{found}.json"
