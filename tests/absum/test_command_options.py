"""Where results go when no directory is given."""

from pathlib import Path

from experiments.absum.command_options import default_directory
from experiments.absum.config import Training


def test_what_cannot_share_a_directory_has_one_of_its_own():
    trainings = [Training(), Training(model="resnet8"), Training(data="npz:a/b.npz"), Training(adversarial="pgd")]
    assert [default_directory("compare", each) for each in trainings] == [
        Path("runs") / name
        for name in (
            "compare-embedded-lenet", "compare-embedded-resnet8", "compare-npz-a-b.npz-lenet",
            "compare-embedded-lenet-pgd",
        )
    ]  # fmt: skip


def test_several_models_are_all_named():
    both = Training(), Training(model="resnet8")
    assert default_directory("compare", *both) == Path("runs/compare-embedded-lenet-resnet8")
