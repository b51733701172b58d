"""Texts of one's own: by their directory, with a rule for which words are known; the rest is ``<unk>``."""

import gzip

import numpy as np
import pytest

from experiments.data.text import find_corpus, load_corpus, tokenize

# the 4, of 3, and <eos> 3, people 2, states 1, unions 1
TEXTS = {
    "train.txt": "the people of the states\nof the people of\nthe unions",
    "valid.txt": "the people\nof nowhere\n",
    "test.txt": "the <unk>\nstates\n",
}


@pytest.fixture
def mine(tmp_path):
    directory = tmp_path / "mine"
    directory.mkdir()
    for name, text in TEXTS.items():
        (directory / name).write_text(text)
    return directory


def words(corpus, split):
    return " ".join(corpus.vocabulary.decode(getattr(corpus, split)))


def test_a_directory_is_a_corpus(mine, tmp_path, monkeypatch):
    corpus = load_corpus("text:mine", tmp_path)
    assert corpus.name == "text:mine"
    assert corpus.vocabulary.words == ("the", "people", "of", "states", "<eos>", "unions", "<unk>")
    assert words(corpus, "train") == "the people of the states <eos> of the people of <eos> the unions <eos>"
    assert words(corpus, "valid") == "the people <eos> of <unk> <eos>"
    assert words(corpus, "test") == "the <unk> <eos> states <eos>"
    assert corpus.unknown_share == {"train": 0.0, "valid": 1 / 6, "test": 1 / 5}
    monkeypatch.chdir(tmp_path)
    for name in ("text:mine", f"text:{mine}"):
        assert load_corpus(name).checksum("train") == corpus.checksum("train")
    assert tokenize("the\n", "text:mine") == ["the", "<eos>"]
    assert find_corpus("text:anything").published is None


@pytest.mark.parametrize(
    ("rule", "known", "unknown"),
    [
        ({"minimum_count": 2}, ("the", "people", "of", "<unk>", "<eos>"), 2),
        ({"minimum_count": 3}, ("the", "<unk>", "of", "<eos>"), 4),
        ({"vocabulary_size": 4}, ("the", "<unk>", "of", "<eos>"), 4),
        # Of states and unions, seen once each, the first.
        ({"vocabulary_size": 6}, ("the", "people", "of", "states", "<eos>", "<unk>"), 1),
        ({"vocabulary_size": 99}, ("the", "people", "of", "states", "<eos>", "unions", "<unk>"), 0),
        ({"vocabulary_size": 6, "minimum_count": 3}, ("the", "<unk>", "of", "<eos>"), 4),
    ],
)
def test_the_rule_counts_words_of_the_training_text(mine, rule, known, unknown):
    corpus = load_corpus(f"text:{mine}", **rule)
    assert corpus.vocabulary.words == known
    assert corpus.unknown_share["train"] == pytest.approx(unknown / 14)
    # Text by text the words that are known stand where they stood.
    for split, text in TEXTS.items():
        given = tokenize(f"{text}\n" if split == "train.txt" else text, "text:mine")
        expected = [word if word in known else "<unk>" for word in given]
        assert words(corpus, split.removesuffix(".txt")).split() == expected


def test_a_rule_changes_what_the_checksum_is_of(mine):
    found = {load_corpus(f"text:{mine}", minimum_count=count).checksum("train") for count in (1, 2, 3)}
    assert len(found) == 3


def test_a_rule_that_leaves_no_word_is_refused(mine):
    with pytest.raises(ValueError, match=r"train\.txt: must have a word besides <unk> 5"):
        load_corpus(f"text:{mine}", minimum_count=5)


def test_a_rule_takes_the_place_of_that_of_a_named_corpus():
    corpus = load_corpus("embedded", vocabulary_size=1000)
    assert len(corpus.vocabulary) == 1000
    whole = load_corpus("embedded")
    counts = np.bincount(whole.train)
    # The least frequent word that is known is seen as often as the most frequent that is not, or more often.
    kept = [word in set(corpus.vocabulary.words) for word in whole.vocabulary.words]
    assert counts[kept].min() >= counts[~np.array(kept)].max()
    assert len(load_corpus("embedded", minimum_count=3).vocabulary) == len(whole.vocabulary)


def test_files_may_be_compressed(mine):
    expected = load_corpus(f"text:{mine}").checksum("train")
    (mine / "train.txt").write_bytes(gzip.compress(TEXTS["train.txt"].encode()))
    assert load_corpus(f"text:{mine}").checksum("train") == expected


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("text", None, "corpus must be one of embedded, ptb, wikitext2, text:DIRECTORY, got 'text'"),
        ("text:", None, "data set must be text: with the path of it behind the colon, got 'text:'"),
        ("ptb:mine", None, "text:DIRECTORY, got 'ptb:mine'"),
        ("text:/mine", "data", "data_dir must not be given for text:/mine, an absolute path, got data"),
        ("text:nowhere", None, "nowhere: must be a directory with train.txt, valid.txt, test.txt, got nothing"),
        ("text:mine", None, r"mine: must hold test.txt \(1 of 3 files are missing\), got train.txt, valid.txt"),
    ],
)
def test_mistakes_are_named(mine, tmp_path, monkeypatch, name, data_dir, message):
    monkeypatch.chdir(tmp_path)
    (mine / "test.txt").unlink()
    with pytest.raises(ValueError, match=message) as caught:
        load_corpus(name, data_dir)
    assert len(str(caught.value).splitlines()) == 1
