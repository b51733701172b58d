"""``python -m experiments.data prepare``: local files of images as a set of tensorflow-datasets."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.data.image_sets import image_set_names
from experiments.data.images import load_images
from experiments.data.prepared import write_prepared

DESCRIPTION = "Write images as array_record, as tensorflow-datasets prepares its sets."


def make_parser() -> argparse.ArgumentParser:
    """The command and its flags."""
    parser = argparse.ArgumentParser(prog="python -m experiments.data", description=DESCRIPTION)
    prepare = parser.add_subparsers(dest="command", required=True).add_parser("prepare", help=DESCRIPTION)
    prepare.add_argument("--data", required=True, help=f"the images, one of {', '.join(image_set_names())}")
    prepare.add_argument("--data-dir", type=Path, help="directory of their files in their standard format")
    prepare.add_argument("--out", type=Path, required=True, help="directory of prepared sets")
    prepare.add_argument("--name", help="under which it is written; by default tensorflow-datasets' own")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare a set; mistakes are one line and exit status 2."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        folder = write_prepared(load_images(given.data, given.data_dir), given.out, given.name)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")
    print(f"wrote {folder}; use it by --data tfds:{folder.parent.name} --data-dir {given.out}")


if __name__ == "__main__":
    main()
