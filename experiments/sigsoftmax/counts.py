"""Vocabulary and token counts of the standard corpora, ``<eos>`` included."""

from typing import Any

# The usual preparations: Mikolov's of Penn Treebank; WikiText-2, word level, counted from its files.
PUBLISHED: dict[str, dict[str, Any]] = {
    "ptb": {
        "counted": False,
        "vocabulary": 10_000,
        "tokens": {"train": 929_589, "valid": 73_760, "test": 82_430},
    },
    "wikitext2": {
        "counted": False,
        "vocabulary": 33_278,
        "tokens": {"train": 2_088_628, "valid": 217_646, "test": 245_569},
    },
}
