"""Settings: to plain values and back, checked, and looked up."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.harness.settings import (
    choices,
    evaluation_settings,
    find,
    from_json,
    require_at_least,
    require_different,
    require_seeds,
    require_strength,
    to_json,
    without_places,
)
from tests.harness.subject import Norm, make_evaluation


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    data_dir: Path | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    names: tuple[str, ...] = ()
    count: int = 1
    flag: bool = False


def test_settings_come_back_from_json():
    outer = Outer(Inner(0.5, Path("x/y")), ("a", "b"), 3, True)
    assert from_json(Outer, json.loads(json.dumps(to_json(outer)))) == outer
    assert from_json(Outer, {"inner": {"rate": 1}}) == Outer(Inner(1))
    assert without_places(to_json(outer)) == {
        "inner": {"rate": 0.5},
        "names": ["a", "b"],
        "count": 3,
        "flag": True,
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "settings must be an object"),
        ({}, "settings lacks settings: inner"),
        ({"inner": {"rate": 1.0}, "size": 2}, "settings has unknown settings: size"),
        ({"inner": {"rate": "fast"}}, "settings.inner.rate must be of type float, got 'fast'"),
        ({"inner": {"rate": None}}, "settings.inner.rate must be of type float, got None"),
        ({"inner": {"rate": 1.0}, "count": 2.5}, "settings.count must be of type int, got 2.5"),
        ({"inner": {"rate": 1.0}, "count": True}, "settings.count must be of type int, got True"),
        ({"inner": {"rate": 1.0}, "names": "ab"}, "settings.names must be of type tuple, got 'ab'"),
        ({"inner": {"rate": 1.0}, "names": [1]}, "settings.names must be of type str, got 1"),
        ({"inner": {"rate": 1.0}, "flag": 1}, "settings.flag must be of type bool, got 1"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_json(Outer, values)


def test_an_entry_is_found_or_a_users_own_is_imported():
    table = {"a": 1, "b": 2}
    assert find("b", table, "letter") == 2
    assert find("tests.harness.subject:Norm", table, "letter", own=True) is Norm
    with pytest.raises(ValueError, match="letter must be one of a, b, got 'c'"):
        find("c", table, "letter")
    with pytest.raises(ValueError, match=r"letter must be one of a, b, or package\.module:name, got 'c'"):
        find("c", table, "letter", own=True)
    for name in ("nowhere:x", "tests.harness.subject:nothing", ":x"):
        with pytest.raises(ValueError, match=f"letter {name!r} cannot be imported"):
            find(name, table, "letter", own=True)
    assert choices(table, own=True) == "a, b, or package.module:name"


def test_numbers_are_checked():
    @dataclasses.dataclass
    class Counts:
        batch_size: int = 1
        epochs: int | None = None

    require_at_least(Counts(), 1, ("batch_size", "epochs"))
    for value in (0, 2**31, 10**20):
        with pytest.raises(ValueError, match=rf"--part\.batch-size must be at least 1 and .*, got {value}"):
            require_at_least(Counts(value), 1, ("batch_size",), prefix="part.")
    require_seeds(2**31 - 2, 2)
    for seed, count in ((-1, 1), (9999999999, 1), (2**31 - 1, 2)):
        with pytest.raises(ValueError, match="--seed must not be negative, and below"):
            require_seeds(seed, count)
    with pytest.raises(ValueError, match="--seeds must be at least 1, got 0"):
        require_seeds(0, 0)
    for value in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="strength must be finite and not negative"):
            require_strength("strength", value)
    for names in ((), ("a", "a")):
        with pytest.raises(ValueError, match="names must be different names, at least one"):
            require_different("names", names)


def test_every_evaluation_has_its_flags():
    kind = evaluation_settings({"norm": make_evaluation()})
    assert kind().norm == Norm()
    assert [field.name for field in dataclasses.fields(kind)] == ["norm"]
