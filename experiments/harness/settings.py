"""Settings as plain values: frozen dataclasses to JSON and back, checks, and a user's own objects by name."""

import dataclasses
import importlib
import math
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from etils import epath

from experiments.places import place

Settings = TypeVar("Settings")
Value = TypeVar("Value")


def to_json(value: Any) -> Any:
    """A dataclass, possibly nested, as plain values: dicts, lists, strings, numbers, ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return str(value) if isinstance(value, PurePath) else value


def from_json(kind: type[Settings], values: Any, name: str = "settings", *, absent: Any = None) -> Settings:
    """The inverse of :func:`to_json`; fields with a default may be missing, others if ``absent`` stands for them.

    Raises:
        ValueError: naming a setting that is unknown, missing or of a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} must be an object, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"{name} has unknown settings: {', '.join(unknown)}")
    hints = get_type_hints(kind)
    found = {each: _converted(hints[each], value, f"{name}.{each}") for each, value in values.items()}
    nothing = dataclasses.MISSING
    required = {n for n, f in fields.items() if f.default is nothing and f.default_factory is nothing}
    missing = sorted(required - set(found))
    if missing and absent is None:
        raise ValueError(f"{name} lacks settings: {', '.join(missing)}")
    return kind(**found | dict.fromkeys(missing, absent))


def _converted(kind: Any, value: Any, name: str) -> Any:
    """A value of JSON as one of this type."""
    if get_origin(kind) in (Union, types.UnionType):
        options = get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, name)  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_converted(get_args(kind)[0], inner, name) for inner in value)
    if kind is epath.Path and isinstance(value, str):
        return place(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    accepted = (int, float) if kind is float else get_origin(kind) or kind
    is_wrong_bool = isinstance(value, bool) and kind is not bool
    if kind is not Any and (is_wrong_bool or not isinstance(value, accepted)):
        raise ValueError(f"{name} must be of type {getattr(kind, '__name__', kind)}, got {value!r}")
    return value


def without_places(value: Any) -> Any:
    """Plain settings without those that name places on a machine or do not bear on the result."""
    places = ("out", "output", "run_directory", "data_dir", "download")
    if isinstance(value, Mapping):
        return {name: without_places(inner) for name, inner in value.items() if name not in places}
    return value


def evaluation_settings(table: Mapping[str, Any]) -> Any:
    """A dataclass with a field for the settings of each evaluation of a table: flags are ``--NAME.FIELD``."""
    settings = {name: evaluation.settings for name, evaluation in table.items()}
    fields = [(name, type(each), dataclasses.field(default=each)) for name, each in settings.items()]
    return dataclasses.make_dataclass("EvaluationSettings", fields, frozen=True)


def flag(name: str) -> str:
    """The flag of a setting: ``batch_size`` is ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def check_all(checks: Iterable[Callable[[], None]]) -> None:
    """Make all checks; one ``ValueError``, of one line, says what they found, so that all is mended at once."""
    found = []
    for each in checks:
        try:
            each()
        except ValueError as error:
            found.append(str(error))
    if found:
        raise ValueError("; ".join(dict.fromkeys(found)))


def require_at_least(settings: Any, smallest: int, names: Iterable[str], *, prefix: str = "") -> None:
    """Raise ``ValueError`` unless these settings are numbers of things, at least ``smallest`` and below 2**31."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not smallest <= value < 2**31:
            raise ValueError(f"{flag(prefix + name)} must be at least {smallest} and below 2**31, got {value}")


def require_seeds(seed: int, count: int = 1, *, name: str = "--seed") -> None:
    """Raise ``ValueError`` unless JAX and NumPy both take the seeds ``seed``, ``seed + 1``, ... of the flag."""
    if count < 1:
        raise ValueError(f"--seeds must be at least 1, got {count}")
    if not 0 <= seed <= seed + count - 1 < 2**31:
        raise ValueError(f"{name} must not be negative, and below 2**31, got {seed} to {seed + count - 1}")


def require_strength(name: str, value: float) -> None:
    """Raise ``ValueError`` unless the number is finite and not negative."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def require_different(name: str, values: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless there is a value, and none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be different names, at least one, got {values}")


def choices(table: Mapping[str, Any], *, own: bool = False) -> str:
    """The names of a table, for a help text; with ``own`` also the form of a user's own object."""
    own_name = "or package.module:name" if table else "package.module:name"
    return ", ".join([*table, *([own_name] if own else [])])


def find(name: str, table: Mapping[str, Value], what: str, *, own: bool = False) -> Value:
    """The entry of a table or, with ``own``, whatever ``package.module:name`` names.

    Raises:
        ValueError: if there is neither.
    """
    if name in table:
        return table[name]
    if not own or ":" not in name:
        raise ValueError(f"{what} must be {'one of ' if table else ''}{choices(table, own=own)}, got {name!r}")
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {name!r} cannot be imported: {error}") from error
