"""Words and their numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Vocabulary:
    """A list of different words; the id of a word is its place.

    Args:
        words: the word of every id.

    Raises:
        ValueError: no word, or a word twice.

    Example:
        >>> len(Vocabulary(("the", "state", "<unk>")))
        3
    """

    words: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Check that ids and words belong to each other one to one."""
        if not self.words or len(self._ids) != len(self.words):
            raise ValueError(
                "words must be all different and at least one, "
                f"got {len(self.words)} of which {len(self._ids)} are different"
            )

    def __len__(self) -> int:
        return len(self.words)

    def __bytes__(self) -> bytes:
        """All words, one a line, as a checksum takes them."""
        return "\n".join(self.words).encode()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @classmethod
    def of(
        cls, words: Sequence[str], minimum_count: int = 1, size: int | None = None, *, with_unknown: bool = False
    ) -> Self:
        """The vocabulary of a text, in the order of first appearance.

        Args:
            words: the text.
            minimum_count: words seen fewer times than this are left out, with ``UNKNOWN`` in their place.
            size: at most so many words, ``UNKNOWN`` among them: those seen most often, the first among equals.
                None for any number.
            with_unknown: have ``UNKNOWN`` even where it stands for no word of the text.

        Returns:
            The vocabulary.

        Raises:
            ValueError: no word, or a size that has no place for one and ``UNKNOWN``.

        Example:
            >>> Vocabulary.of(["we", "the", "people", "the", "we"], minimum_count=2).words
            ('we', 'the', '<unk>')
            >>> Vocabulary.of(["we", "the", "people", "the", "people"], size=2).words
            ('<unk>', 'the')
        """
        if size is not None and size < 2:
            raise ValueError(f"size must be at least 2, a word and {UNKNOWN}, got {size}")
        counts = Counter(words)
        often = [word for word, count in counts.most_common() if count >= minimum_count and word != UNKNOWN]
        known = set(often if size is None else often[: size - 1])
        added = [UNKNOWN] if with_unknown else []
        return cls(tuple(dict.fromkeys([*(word if word in known else UNKNOWN for word in counts), *added])))

    def id_of(self, word: str) -> int:
        """The id of a word, -1 if it is not in the vocabulary."""
        return self._ids.get(word, -1)

    def encode(self, words: Sequence[str], *, unknown: str | None = None) -> np.ndarray:
        """The ids of words.

        Args:
            words: [n].
            unknown: the word of the vocabulary that stands for all others; None makes others an error.

        Returns:
            int32 [n].

        Raises:
            ValueError: ``words``, or ``unknown`` itself, has a word that is not in the vocabulary.

        Example:
            >>> Vocabulary(("the", "state", "<unk>")).encode(["the", "estate"], unknown="<unk>")
            array([0, 2], dtype=int32)
        """
        needed = words if unknown is None else [unknown]
        missing = next((word for word in needed if word not in self._ids), None)
        if missing is not None:
            raise ValueError(f"words must be in the vocabulary of {len(self)} words, got {missing!r}")
        other = -1 if unknown is None else self._ids[unknown]
        return np.fromiter((self._ids.get(word, other) for word in words), np.int32, len(words))

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The words of ids.

        Args:
            ids: [n], each in [0, number of words).

        Returns:
            n words.

        Raises:
            ValueError: an id outside the vocabulary.

        Example:
            >>> Vocabulary(("the", "state")).decode([1, 0, 1])
            ['state', 'the', 'state']
        """
        wrong = next((index for index in ids if not 0 <= index < len(self)), None)
        if wrong is not None:
            raise ValueError(f"ids must be in [0, {len(self) - 1}], got {wrong}")
        return [self.words[index] for index in ids]
