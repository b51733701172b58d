"""What the commands have in common: flags, the directories of results, and what is said of the images."""

from typing import Annotated, Any

from etils import epath
from tyro.conf import arg

from experiments.absum.config import Training
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.regularizers import REGULARIZERS
from experiments.data.streamed import Images
from experiments.harness.settings import choices, evaluation_settings

Evaluations: Any = evaluation_settings(EVALUATIONS)
Names = Annotated[
    tuple[str, ...],
    arg(
        help=f"Which to make, of {', '.join(EVALUATIONS)}; when none is named,"
        f" {', '.join(name for name, each in EVALUATIONS.items() if each.by_default)}."
    ),
]
Models = Annotated[tuple[str, ...], arg(help="Several networks in place of --model, each with every regulariser.")]
Regularizers = Annotated[tuple[str, ...], arg(help=f"Which to compare, of {choices(REGULARIZERS, own=True)}.")]

At = Annotated[
    str | None,
    arg(
        help="A checkpoint that is kept, also of a run that is not finished: train for the newest, or a number of"
        " epochs."
    ),
]


def default_directory(name: str, *trainings: Training) -> epath.Path:
    """Where results go when no --out is given."""
    first = trainings[0]
    adversary = [] if first.adversarial == "none" else [first.adversarial]
    parts = [name, slug(first.data), *(slug(each.model) for each in trainings), *adversary]
    return epath.Path("runs") / "-".join(parts)


def described(dataset: Images) -> dict[str, Any]:
    """The images, for result.json."""
    return {
        "name": dataset.name,
        "train_images": dataset.train_count,
        "test_images": len(dataset.test_labels),
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
    }


def table_title(dataset: Images) -> str:
    """What stands above the table of all networks."""
    return (
        f"{dataset.name}; test: accuracy on all {len(dataset.test_labels)} test images; worst: the most harmful"
        " frequency of the attack, with its (l,m) and [95 % interval at it]"
    )


def slug(name: str) -> str:
    """A name as part of a path."""
    return name.replace(":", "-").replace("/", "-")
