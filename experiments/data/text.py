"""Word-level corpora by name, and texts of one's own by their directory: how they are split, and what is known.

Penn Treebank (Mikolov's preparation) and WikiText-2 are split at white space, and every line, a blank one
too, ends in ``<eos>``: 10,000 and 33,278 words. So are texts of one's own, with a rule for which words are known.
The embedded corpus is running text, split by a regular expression, without ``<eos>``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.corpus import SPLITS, Corpus, CorpusSize
from experiments.data.source_files import (
    EMBEDDED,
    WantedFiles,
    choose_directory,
    find_files,
    own_path,
    read_bytes,
)
from experiments.data.vocabulary import UNKNOWN, Vocabulary

EOS = "<eos>"
WORD_OR_MARK = re.compile(r"[a-z]+(?:['\u2019][a-z]+)?|\d[\d,.]*\d|\d|[^\w\s]")


def words_and_eos(text: str) -> list[str]:
    r"""The words between white space, and ``<eos>`` for every newline, as in Penn Treebank and WikiText-2.

    Example:
        >>> words_and_eos("no one\n\nthe")
        ['no', 'one', '<eos>', '<eos>', 'the']
    """
    return text.replace("\n", f" {EOS} ").split()


def words_and_marks(text: str) -> list[str]:
    """The words, numbers and punctuation marks of running text, in lower case.

    Example:
        >>> words_and_marks("The Union's 1,050 laws.")
        ['the', "union's", '1,050', 'laws', '.']
    """
    return WORD_OR_MARK.findall(text.lower())


@dataclass(frozen=True)
class TextFiles:
    """A text in three files, and how it is split into words: an entry of ``CORPORA``.

    Args:
        files: the files of ``train``, ``valid`` and ``test``, in this order; the error messages name them.
        tokenize: from a text to its words; the text of a file ends in a newline, even if the file does not.
        minimum_count: words seen fewer times in the training split are read as ``<unk>``, in all splits; 1 takes
            every word, and one of another split that is not in the training split is an error.
        included: the directory of the files if they come with the code; None if the user names one.
        published: the size of the usual preparation, ``<eos>`` included, which is known without its files.
        is_own: texts of one's own, ``ENTRY:DIRECTORY`` each; words that only another split has are ``<unk>``.
    """

    files: WantedFiles
    tokenize: Callable[[str], list[str]]
    minimum_count: int = 1
    included: Path | None = None
    published: CorpusSize | None = None
    is_own: bool = False


def _files(pattern: str, *folders: str) -> WantedFiles:
    names = [pattern.format(split) for split in SPLITS]
    return {name: (name, *(f"{folder}/{name}" for folder in folders)) for name in names}


# Every corpus by name. Whoever adds an entry can load it, and train on it, by that name.
CORPORA: dict[str, TextFiles] = {
    "embedded": TextFiles(
        _files("state_of_the_union.{}.txt.xz"), words_and_marks, minimum_count=3, included=EMBEDDED
    ),
    # Mikolov's preparation.
    "ptb": TextFiles(
        _files("ptb.{}.txt"),
        words_and_eos,
        published=CorpusSize(10_000, {"train": 929_589, "valid": 73_760, "test": 82_430}),
    ),
    # Word level; the official archive unpacks to the folder wikitext-2.
    "wikitext2": TextFiles(
        _files("wiki.{}.tokens", "wikitext-2"),
        words_and_eos,
        published=CorpusSize(33_278, {"train": 2_088_628, "valid": 217_646, "test": 245_569}),
    ),
    "text": TextFiles(_files("{}.txt"), words_and_eos, is_own=True),
}


def corpus_names() -> list[str]:
    """All names of corpora; ``ENTRY:DIRECTORY`` stands for texts of one's own.

    Example:
        >>> corpus_names()
        ['embedded', 'ptb', 'wikitext2', 'text:DIRECTORY']
    """
    return [f"{name}:DIRECTORY" if entry.is_own else name for name, entry in CORPORA.items()]


def find_corpus(name: str) -> TextFiles:
    """The entry of a name.

    Args:
        name: one of ``corpus_names()``.

    Returns:
        The entry.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> find_corpus("ptb").published.vocabulary
        10000
    """
    key, colon, _ = name.partition(":")
    entry = CORPORA.get(key)
    if entry is None or entry.is_own != bool(colon):
        raise ValueError(f"corpus must be one of {', '.join(corpus_names())}, got {name!r}")
    return entry


def tokenize(text: str, name: str) -> list[str]:
    r"""Split a text, such as a prompt, into words by the rule of a corpus.

    Args:
        text: any text. ``<eos>`` stands for a newline, so that a prompt that does not end in one goes on.
        name: one of ``corpus_names()``.

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
    return find_corpus(name).tokenize(text)


def load_corpus(
    name: str,
    data_dir: str | Path | None = None,
    *,
    minimum_count: int | None = None,
    vocabulary_size: int | None = None,
) -> Corpus:
    """Load a corpus by name, whole and checked.

    Args:
        name: one of ``corpus_names()``: ``embedded`` (State of the Union 1945-1974, no directory needed), ``ptb``
            (``ptb.train.txt``, ``ptb.valid.txt``, ``ptb.test.txt``), ``wikitext2`` (``wiki.train.tokens``, ...),
            and ``text:DIRECTORY`` of one's own (``train.txt``, ``valid.txt``, ``test.txt``).
        data_dir: the directory of the files, which may be gzipped or xz-compressed whatever their name; for one's
            own text where DIRECTORY lies, by default the working directory.
        minimum_count: words seen fewer times in the training split are read as ``<unk>``, in all splits; None for
            the rule of the corpus, which for one's own text is 1.
        vocabulary_size: at most so many words, ``<unk>`` among them: those seen most often in the training split;
            None for any number.

    Returns:
        The corpus; ids are in the order of first appearance in the training split.

    Raises:
        ValueError: an unknown name, a directory missing or not wanted, a split missing, empty, damaged or not
            UTF-8, or a word that the training split does not have, unless a rule was given or the text is one's
            own; the message names the file.

    Example:
        >>> corpus = load_corpus("embedded")
        >>> len(corpus.vocabulary), len(corpus.train), len(corpus.valid), len(corpus.test)
        (4403, 198377, 14732, 95670)
        >>> len(load_corpus("embedded", vocabulary_size=2000).vocabulary)
        2000
    """
    entry = find_corpus(name)
    paths = find_files(_directory(name, data_dir, entry), entry.files)
    splits = [_read_words(path, entry.tokenize) for path in paths]
    has_unknown = entry.is_own or minimum_count is not None or vocabulary_size is not None
    least = entry.minimum_count if minimum_count is None else minimum_count
    vocabulary = Vocabulary.of(splits[0], least, vocabulary_size, with_unknown=has_unknown)
    if vocabulary.words == (UNKNOWN,):
        raise ValueError(f"{paths[0]}: must have a word besides {UNKNOWN} {least} times or more often, got none")
    # A training text without a rare word has none to stand for those that only another split has.
    unknown = UNKNOWN if has_unknown or (least > 1 and UNKNOWN in vocabulary.words) else None
    ids = [_encode(*split, vocabulary, unknown) for split in zip(paths, splits, strict=True)]
    return Corpus(name, vocabulary, *ids)


def _directory(name: str, data_dir: str | Path | None, entry: TextFiles) -> Path:
    if not entry.is_own:
        return choose_directory(name, data_dir, entry.files, entry.included)
    kind, _, directory = name.partition(":")
    return own_path(kind, directory, data_dir)


def _read_words(path: Path, split_text: Callable[[str], list[str]]) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8 text, got {error.reason} at byte {error.start}") from error
    # A last line without a newline is a line all the same.
    words = split_text(text if not text or text.endswith("\n") else f"{text}\n")
    if not words:
        raise ValueError(f"{path}: must have at least one word, got {len(text)} characters without one")
    return words


def _encode(path: Path, words: Sequence[str], vocabulary: Vocabulary, unknown: str | None) -> np.ndarray:
    try:
        return vocabulary.encode(words, unknown=unknown)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, which is not in the training split") from error
