"""Recipes from the command line: by name or from a file, with any of their fields changed."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from tyro.conf import arg

from experiments.harness.settings import find, from_json
from experiments.sigsoftmax.recipes import RECIPES, Recipe
from experiments.storage import read_json

Settings = TypeVar("Settings")

OF_RECIPE = arg(help_behavior_hint="(default: the recipe's)")


def optional(kind: type) -> Any:
    """A dataclass with the fields of another, at any depth, all ``None``; those that are set are changes."""

    def field(name: str, hint: Any) -> tuple[str, Any, Any]:
        if dataclasses.is_dataclass(hint):
            inner = optional(hint)  # type: ignore[arg-type]
            return name, inner, dataclasses.field(default=inner())
        return name, Annotated[hint | None, OF_RECIPE], dataclasses.field(default=None)

    fields = [field(*each) for each in get_type_hints(kind).items()]
    namespace = {"__doc__": kind.__doc__}  # the help of the flags
    return dataclasses.make_dataclass(
        f"{kind.__name__}Changes", fields, frozen=True, kw_only=True, namespace=namespace
    )


RecipeChanges: Any = optional(Recipe)


def changed(settings: Settings, changes: Any) -> Settings:
    """The settings with every field that the changes set.

    Example:
        >>> changed(RECIPES["awd_ptb"], RecipeChanges(hidden_size=650)).hidden_size
        650
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(changes):
        change, value = getattr(changes, field.name), getattr(settings, field.name)
        if dataclasses.is_dataclass(change):
            found[field.name] = changed(value, change)
        elif change is not None:
            found[field.name] = change
    return dataclasses.replace(settings, **found)  # type: ignore[type-var]


def find_recipe(name: str) -> Recipe:
    """The named entry of ``RECIPES``, or the recipe in a file ``NAME.json``, as ``describe`` prints it.

    Raises:
        ValueError: if there is neither, or the file holds no recipe.
    """
    if not name.endswith(".json"):
        return find(name, RECIPES, "recipe")
    values = read_json(Path(name))
    return from_json(Recipe, values.get("settings", values), name)
