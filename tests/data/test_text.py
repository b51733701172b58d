import gzip
import lzma

import numpy as np
import pytest

from experiments.data.corpus import Corpus, CorpusSize
from experiments.data.source_files import checksum
from experiments.data.text import CORPORA, TextFiles, find_corpus, load_corpus, tokenize
from experiments.data.vocabulary import Vocabulary

FILES = {"ptb": "ptb.{}.txt", "wikitext2": "wiki.{}.tokens"}
# WikiText-2 has lines " word word \n" and blank lines " \n"; "\u2028" ends a line for str.splitlines alone.
TRAIN = " \n = the <unk> = \n \n no one\u2028the \n"
VALID = " the one \n\n"
TEST = "no = \n"


def write(directory, name, train=TRAIN, valid=VALID, test=TEST):
    directory.mkdir(exist_ok=True)
    for split, text in (("train", train), ("valid", valid), ("test", test)):
        content = text if isinstance(text, bytes) else text.encode()
        (directory / FILES[name].format(split)).write_bytes(content)


def words(corpus, split):
    return " ".join(corpus.vocabulary.decode(getattr(corpus, split)))


@pytest.mark.parametrize("name", FILES)
def test_every_line_ends_in_eos_and_train_alone_makes_the_vocabulary(tmp_path, name):
    write(tmp_path, name)
    corpus = load_corpus(name, tmp_path)
    assert corpus.name == name
    assert words(corpus, "train") == "<eos> = the <unk> = <eos> <eos> no one the <eos>"
    assert words(corpus, "valid") == "the one <eos> <eos>"
    assert words(corpus, "test") == "no = <eos>"
    assert corpus.vocabulary.words == ("<eos>", "=", "the", "<unk>", "no", "one")
    assert corpus.train.tolist() == [0, 1, 2, 3, 1, 0, 0, 4, 5, 2, 0]
    assert {getattr(corpus, split).dtype for split in ("train", "valid", "test")} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no = \r\nthe\r\n", "no = <eos> the <eos>"),
        ("no = \nthe", "no = <eos> the <eos>"),  # no newline at the end of the file
        ("\n\n", "<eos> <eos>"),
    ],
)
def test_line_ends(tmp_path, text, expected):
    write(tmp_path, "ptb", test=text)
    assert words(load_corpus("ptb", str(tmp_path)), "test") == expected


def test_folder_of_the_archive_and_compressed_files_are_found(tmp_path):
    folder = tmp_path / "wikitext-2"
    write(folder, "wikitext2", train=gzip.compress(TRAIN.encode()), valid=lzma.compress(VALID.encode()))
    corpus = load_corpus("wikitext2", tmp_path)
    assert len(corpus.train) == 11
    assert words(corpus, "valid") == "the one <eos> <eos>"


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_missing_split_is_named(tmp_path, split):
    write(tmp_path, "ptb")
    (tmp_path / f"ptb.{split}.txt").unlink()
    with pytest.raises(ValueError, match=rf"must hold ptb\.{split}\.txt \(1 of 3 files are missing\), got ptb\."):
        load_corpus("ptb", tmp_path)


@pytest.mark.parametrize(
    ("split", "text", "message"),
    [
        ("valid", "the zebra\n", "vocabulary of 6 words, got 'zebra', which is not in the training split"),
        ("test", "The\n", "words must be in the vocabulary of 6 words, got 'The'"),
        ("train", "", "must have at least one word, got 0 characters"),
        ("valid", b"", "must have at least one word, got 0 characters"),
        ("test", b"the \xff one\n", "must be UTF-8 text, got invalid start byte at byte 4"),
        ("train", lzma.compress(TRAIN.encode())[:-9], "must be a whole xz file, got"),
        ("train", gzip.compress(TRAIN.encode(), mtime=0)[:-9], "must be a whole gzip file, got"),
    ],
)
def test_bad_files_are_named(tmp_path, split, text, message):
    write(tmp_path, "ptb", **{split: text})
    with pytest.raises(ValueError, match=message) as caught:
        load_corpus("ptb", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / f'ptb.{split}.txt'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("wikitext103", None, "corpus must be one of embedded, ptb, wikitext2, text:DIRECTORY, got 'wikitext103'"),
        (
            "ptb",
            None,
            r"\(--data-dir\) must be .* ptb.train.txt, ptb.valid.txt, ptb.test.txt for ptb, got none",
        ),
        ("wikitext2", None, "must be a directory with .* for wikitext2, got none"),
        ("ptb", "/does/not/exist", r"/does/not/exist: must be a directory with ptb\.train\.txt"),
        ("embedded", ".", r"data_dir must not be given for embedded, .*got \."),
    ],
)
def test_bad_arguments(name, data_dir, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(name, data_dir)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "embedded",
            "The Nation's 1,050.5 laws-- don\u2019t\n\nstop!",
            "the nation's 1,050.5 laws - - don\u2019t stop !",
        ),
        ("embedded", "'tis $5, 1950. café_½", "' tis $ 5 , 1950 . caf"),
        ("ptb", "The Nation's 1,050", "The Nation's 1,050"),
        ("wikitext2", "= a =\n\nthe ", "= a = <eos> <eos> the"),
    ],
)
def test_prompts_are_split_by_the_rule_of_the_corpus(name, text, expected):
    assert tokenize(text, name) == expected.split()


def test_unknown_word_of_a_prompt():
    vocabulary = Vocabulary(("the", "<unk>", "of", "state"))
    prompt = tokenize("The state of the Xylophone", "embedded")
    with pytest.raises(ValueError, match="words must be in the vocabulary of 4 words, got 'xylophone'"):
        vocabulary.encode(prompt)
    ids = vocabulary.encode(prompt, unknown="<unk>")
    assert vocabulary.decode(ids) == ["the", "state", "of", "the", "<unk>"]
    with pytest.raises(ValueError, match="embedded, ptb, wikitext2, text:DIRECTORY, got 'text8'"):
        tokenize("the", "text8")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros(3, np.int64), "valid must be int32 .*got int64"),
        (np.zeros((3, 1), np.int32), r"valid must be .*got int32 of shape \(3, 1\)"),
        (np.zeros(0, np.int32), r"valid must be int32 of shape \[n\], not empty, got int32 of shape \(0,\)"),
        (np.array([0, 2], np.int32), r"ids of valid must be in \[0, 1\], got \[0, 2\]"),
        (np.array([-1, 0], np.int32), r"ids of valid must be in \[0, 1\], got \[-1, 0\]"),
    ],
)
def test_corpus_checks_its_splits(tokens, message):
    good = np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match=message):
        Corpus("mine", Vocabulary(("a", "b")), good, tokens, good)


def test_somebody_else_adds_a_corpus_as_one_entry(monkeypatch, tmp_path):
    files = {f"{split}.csv": (f"{split}.csv",) for split in ("train", "valid", "test")}
    entry = TextFiles(files, lambda text: text.strip().split(","), minimum_count=2)
    monkeypatch.setitem(CORPORA, "mine", entry)
    for split, text in (("train", "a,b,a,c,b"), ("valid", "b,a"), ("test", "c,d,a")):
        (tmp_path / f"{split}.csv").write_text(text)
    corpus = load_corpus("mine", tmp_path)
    assert corpus.vocabulary.words == ("a", "b", "<unk>")
    assert [words(corpus, split) for split in ("train", "valid")] == ["a b a <unk> b", "b a"]
    assert tokenize("a,b", "mine") == ["a", "b"]
    assert find_corpus("mine").published is None
    with pytest.raises(ValueError, match=r"must be a directory with train\.csv, .* for mine, got none"):
        load_corpus("mine")
    (tmp_path / "train.csv").write_text("a,b,a,b")  # no rare word, so that none stands for those of other splits
    with pytest.raises(ValueError, match=r"test\.csv: words .* got 'c', which is not in the training split"):
        load_corpus("mine", tmp_path)


def test_published_sizes_are_those_of_the_usual_preparations(tmp_path):
    assert find_corpus("embedded").published is None
    # Mikolov's Penn Treebank: 887,521, 70,390 and 78,669 words in 42,068, 3,370 and 3,761 lines.
    tokens = {"train": 887_521 + 42_068, "valid": 70_390 + 3_370, "test": 78_669 + 3_761}
    assert find_corpus("ptb").published == CorpusSize(10_000, tokens)
    # WikiText-2: 2,051,910, 213,886 and 241,211 words in 36,718, 3,760 and 4,358 lines.
    tokens = {"train": 2_051_910 + 36_718, "valid": 213_886 + 3_760, "test": 241_211 + 4_358}
    assert find_corpus("wikitext2").published == CorpusSize(33_278, tokens)
    write(tmp_path, "ptb")
    assert load_corpus("ptb", tmp_path).size == CorpusSize(6, {"train": 11, "valid": 4, "test": 3})


def test_checksum_tells_words_and_order():
    vocabulary, tokens = Vocabulary(("a", "b")), np.array([0, 1, 1], np.int32)

    def corpus(vocabulary=vocabulary, train=tokens):
        return Corpus("mine", vocabulary, train, tokens, tokens)

    others = [corpus(Vocabulary(("a", "c"))), corpus(train=tokens[::-1].copy()), corpus(train=tokens[:2])]
    assert len({each.checksum("train") for each in (corpus(), *others)}) == 4
    assert corpus(Vocabulary(("a", "b")), tokens.copy()).checksum("train") == corpus().checksum("train")
    assert others[1].checksum("valid") == corpus().checksum("test") == checksum(vocabulary, tokens)
