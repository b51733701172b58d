"""Word-level corpora by name: three splits of word ids and the vocabulary of the training split.

Penn Treebank (Mikolov's preparation) and WikiText-2 are split at white space, and every line, a blank one
too, ends in ``<eos>``: 10,000 and 33,278 words. The embedded corpus is running text, split by a regular
expression, without ``<eos>``.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.source_files import find_files, read_bytes
from experiments.data.vocabulary import UNKNOWN, Vocabulary

EMBEDDED = Path(__file__).parent / "embedded"
EOS = "<eos>"
SPLITS = ("train", "valid", "test")
WORD_OR_MARK = re.compile(r"[a-z]+(?:['\u2019][a-z]+)?|\d[\d,.]*\d|\d|[^\w\s]")


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
                    f"{self.name}: {split} is {tokens.dtype} of shape {tokens.shape}, "
                    "expected int32 of shape [n], not empty"
                )
            if tokens.min() < 0 or tokens.max() >= len(self.vocabulary):
                raise ValueError(
                    f"{self.name}: ids of {split} are in [{tokens.min()}, {tokens.max()}], "
                    f"expected [0, {len(self.vocabulary) - 1}]"
                )


def checksum(vocabulary: Vocabulary, tokens: np.ndarray) -> str:
    """Eight hexadecimal digits that tell one text from another, words and order (CRC-32).

    Example:
        >>> checksum(Vocabulary(("we", "the")), np.array([0, 1, 0], np.int32))
        'd07717cc'
    """
    words = "\n".join(vocabulary.words).encode()
    return f"{zlib.crc32(tokens.tobytes(), zlib.crc32(words)):08x}"


def _words_and_eos(text: str) -> list[str]:
    return text.replace("\n", f" {EOS} ").split()


def _words_and_marks(text: str) -> list[str]:
    return WORD_OR_MARK.findall(text.lower())


@dataclass(frozen=True)
class TextFormat:
    """How a corpus is read from a directory.

    Args:
        files: the accepted paths of every split, in the order of ``SPLITS``, as ``find_files`` takes them.
        tokenize: from a text to its words.
        minimum_count: words seen fewer times in the training split are read as ``<unk>``, in all splits; 1 takes
            every word, and one of another split that is not in the training split is an error.
    """

    files: Mapping[str, Sequence[str]]
    tokenize: Callable[[str], list[str]]
    minimum_count: int = 1


def _files(pattern: str, *folders: str) -> dict[str, tuple[str, ...]]:
    names = [pattern.format(split) for split in SPLITS]
    return {name: (name, *(f"{folder}/{name}" for folder in folders)) for name in names}


FORMATS: dict[str, TextFormat] = {
    "embedded": TextFormat(_files("state_of_the_union.{}.txt.xz"), _words_and_marks, minimum_count=3),
    "ptb": TextFormat(_files("ptb.{}.txt"), _words_and_eos),
    # The official archive unpacks to this folder.
    "wikitext2": TextFormat(_files("wiki.{}.tokens", "wikitext-2"), _words_and_eos),
}


def tokenize(text: str, name: str) -> list[str]:
    r"""Split a text, such as a prompt, into words by the rule of a corpus.

    Args:
        text: any text. ``<eos>`` stands for a newline, so that a prompt that does not end in one goes on.
        name: of the corpus.

    Returns:
        The words, whether they are in the vocabulary or not.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> tokenize("The Union's 1,050 laws.", "embedded")
        ['the', "union's", '1,050', 'laws', '.']
        >>> tokenize("no one\n\nthe", "ptb")
        ['no', 'one', '<eos>', '<eos>', 'the']
    """
    return _format(name).tokenize(text)


def load_corpus(name: str, data_dir: str | Path | None = None) -> Corpus:
    """Load a corpus by name, whole and checked.

    Args:
        name: one of ``FORMATS``: ``embedded`` (State of the Union 1945-1974, no directory needed), ``ptb``
            (``ptb.train.txt``, ``ptb.valid.txt``, ``ptb.test.txt``) or ``wikitext2`` (``wiki.train.tokens``, ...).
        data_dir: the directory of the files, which may be gzipped or xz-compressed whatever their name.

    Returns:
        The corpus; ids are in the order of first appearance in the training split.

    Raises:
        ValueError: an unknown name, a directory missing or not wanted, a split missing, empty, damaged or not
            UTF-8, or a word that the training split does not have; the message names the file.

    Example:
        >>> corpus = load_corpus("embedded")
        >>> len(corpus.vocabulary), len(corpus.train), len(corpus.valid), len(corpus.test)
        (4403, 198377, 14732, 95670)
    """
    text_format = _format(name)
    paths = find_files(_directory(name, data_dir), text_format.files)
    splits = [_read_words(path, text_format.tokenize) for path in paths]
    vocabulary = Vocabulary.of(splits[0], text_format.minimum_count)
    unknown = UNKNOWN if text_format.minimum_count > 1 else None
    ids = [_encode(*split, vocabulary, unknown) for split in zip(paths, splits, strict=True)]
    return Corpus(name, vocabulary, *ids)


def _format(name: str) -> TextFormat:
    if name not in FORMATS:
        raise ValueError(f"unknown corpus {name!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _directory(name: str, data_dir: str | Path | None) -> Path:
    if name == "embedded":
        if data_dir is not None:
            raise ValueError(f"embedded takes no data directory, got {data_dir}; name the corpus in it instead")
        return EMBEDDED
    if data_dir is None:
        raise ValueError(f"{name} needs a data directory (--data-dir) with {', '.join(FORMATS[name].files)}")
    return Path(data_dir).expanduser()


def _read_words(path: Path, split_text: Callable[[str], list[str]]) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    # A last line without a newline is a line all the same.
    words = split_text(text if not text or text.endswith("\n") else f"{text}\n")
    if not words:
        raise ValueError(f"{path}: {len(text)} characters without a word, expected text")
    return words


def _encode(path: Path, words: Sequence[str], vocabulary: Vocabulary, unknown: str | None) -> np.ndarray:
    try:
        return vocabulary.encode(words, unknown=unknown)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, which is not in the training split") from error
