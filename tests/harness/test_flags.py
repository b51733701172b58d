"""Flags as they were written: those without a value, and those that nothing would look at."""

import dataclasses

import pytest

from experiments.harness.flags import given_flags, require_made, require_values
from experiments.harness.settings import check_all


@dataclasses.dataclass(frozen=True)
class Inner:
    epsilons: tuple[float, ...] | None = None
    count: int = 3


@dataclasses.dataclass(frozen=True)
class Command:
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    other: Inner = Inner()


def test_flags_are_known_by_their_names_alone():
    words = ["train", "--a_b=3", "--fourier.batch-size", "-1", "--no-augment"]
    assert given_flags(words) == {"--a-b", "--fourier.batch-size", "--no-augment"}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (Command(), []),
        (Command(), ["--inner.count", "--2"]),
        (Command(inner=Inner(epsilons=(-1.0,))), ["--inner.epsilons", "-1"]),
    ],
)
def test_a_default_without_values_is_none_that_was_given(command, arguments):
    require_values(command, arguments)


@pytest.mark.parametrize(
    ("command", "arguments", "named"),
    [
        (Command(), ["--inner.count", "1", "--names"], "--names"),
        (Command(), ["--names", "--inner.count", "1"], "--names"),
        (
            Command(inner=Inner(epsilons=()), other=Inner(epsilons=(1.0,))),
            ["--other.epsilons", "1", "--inner.epsilons", "--names", "a"],
            "--inner.epsilons",
        ),
    ],
)
def test_a_flag_without_its_values_is_named(command, arguments, named):
    with pytest.raises(ValueError, match=f"^{named} must be followed by at least one value, got none$"):
        require_values(command, arguments)


def test_flags_of_evaluations_that_are_not_made_are_refused():
    table, made = ("fourier", "fourier_l2", "pgd"), ("fourier", "pgd")
    require_made(frozenset({"--fourier.images", "--pgd.steps", "--recipe.width", "--out"}), table, made)
    message = "--fourier-l2.images needs the evaluation fourier_l2, got fourier, pgd"
    with pytest.raises(ValueError, match=message):
        require_made(frozenset({"--fourier-l2.images"}), table, made)


def test_all_that_is_wrong_is_one_line():
    def wrong(message):
        raise ValueError(message)

    check_all([lambda: None])
    with pytest.raises(ValueError, match=r"^a; b$"):
        check_all([lambda: wrong("a"), lambda: None, lambda: wrong("b"), lambda: wrong("a")])
