"""A text in three splits, as word ids, with the vocabulary of its training split."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.data.source_files import checksum
from experiments.data.vocabulary import UNKNOWN, Vocabulary

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class CorpusSize:
    """How large a corpus is.

    Args:
        vocabulary: number of different words.
        tokens: number of tokens of ``train``, ``valid`` and ``test``.
    """

    vocabulary: int
    tokens: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in three splits, as word ids.

    Args:
        name: the name it was loaded by.
        vocabulary: the words of the training split.
        train: int32 [n], in [0, number of words).
        valid: int32 [n], the same.
        test: int32 [n], the same.

    Raises:
        ValueError: a split of another dtype or rank, an empty one, or ids outside the vocabulary.

    Example:
        >>> ids = np.array([0, 1, 0], np.int32)
        >>> Corpus("tiny", Vocabulary(("we", "the")), train=ids, valid=ids, test=ids[:2]).size.tokens
        {'train': 3, 'valid': 3, 'test': 2}
    """

    name: str
    vocabulary: Vocabulary
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        """Check everything that can be checked."""
        for split in SPLITS:
            tokens = getattr(self, split)
            if tokens.dtype != np.int32 or tokens.ndim != 1 or tokens.size == 0:
                raise ValueError(
                    f"{self.name}: {split} must be int32 of shape [n], not empty, "
                    f"got {tokens.dtype} of shape {tokens.shape}"
                )
            if tokens.min() < 0 or tokens.max() >= len(self.vocabulary):
                raise ValueError(
                    f"{self.name}: ids of {split} must be in [0, {len(self.vocabulary) - 1}], "
                    f"got [{tokens.min()}, {tokens.max()}]"
                )

    @property
    def size(self) -> CorpusSize:
        """The numbers of words and of tokens."""
        return CorpusSize(len(self.vocabulary), {split: len(getattr(self, split)) for split in SPLITS})

    @property
    def unknown_share(self) -> dict[str, float]:
        """How much of each split is ``<unk>``, from 0 to 1."""
        unknown = self.vocabulary.id_of(UNKNOWN)
        return {split: float(np.mean(getattr(self, split) == unknown)) for split in SPLITS}

    def checksum(self, split: str) -> str:
        """Eight hexadecimal digits that tell the text of a split from others, words and order.

        Args:
            split: ``train``, ``valid`` or ``test``.

        Returns:
            ``checksum`` of the vocabulary and the tokens.
        """
        return checksum(self.vocabulary, getattr(self, split))
