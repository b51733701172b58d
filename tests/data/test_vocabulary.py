import numpy as np
import pytest

from experiments.data.vocabulary import Vocabulary


def test_vocabulary_keeps_words_seen_often_enough_in_order():
    text = ["b", "a", "c", "b", "a", "d", "b"]
    assert Vocabulary.of(text).words == ("b", "a", "c", "d")
    assert Vocabulary.of(text, 2).words == ("b", "a", "<unk>")
    assert Vocabulary.of(text, 3).words == ("b", "<unk>")
    assert Vocabulary.of(text, size=3).words == ("b", "a", "<unk>")
    assert Vocabulary.of(text, with_unknown=True).words == ("b", "a", "c", "d", "<unk>")
    assert Vocabulary.of([*text, "<unk>", "<unk>", "<unk>"], size=3).words == ("b", "a", "<unk>")
    with pytest.raises(ValueError, match="size must be at least 2, a word and <unk>, got 1"):
        Vocabulary.of(text, size=1)


def test_words_and_ids_belong_to_each_other():
    vocabulary = Vocabulary(("b", "a", "<unk>"))
    ids = vocabulary.encode(["a", "b", "zebra"], unknown="<unk>")
    assert (ids.tolist(), ids.dtype) == ([1, 0, 2], np.int32)
    assert vocabulary.decode(ids) == ["a", "b", "<unk>"]
    assert len(vocabulary) == 3


def test_vocabulary_refuses_what_it_does_not_have():
    vocabulary = Vocabulary(("a", "b"))
    with pytest.raises(ValueError, match="words must be in the vocabulary of 2 words, got '<unk>'"):
        vocabulary.encode(["a"], unknown="<unk>")
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=rf"ids must be in \[0, 1\], got {wrong}"):
            vocabulary.decode([0, wrong])
    with pytest.raises(ValueError, match="all different and at least one, got 3 of which 2 are different"):
        Vocabulary(("a", "b", "a"))
    with pytest.raises(ValueError, match="at least one, got 0 of"):
        Vocabulary(())
    assert vocabulary.encode([]).shape == (0,)
