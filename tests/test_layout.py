"""Who may import whom, and what every public name has."""

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("absum_jax", "sigsoftmax_jax", "experiments", "benchmarks")

# What the files below a path may import besides the standard library; the longest path counts.
LIBRARY = {"jax", "numpy", "jaxtyping"}
TRAINER = {"jax", "numpy", "flax", "optax", "orbax", "rich", "tyro", "experiments.training"}
DATA = {"numpy", "experiments.data"}
EXPERIMENT = TRAINER | DATA | {"matplotlib", "experiments.results"}
ALLOWED = {
    "absum_jax": LIBRARY,
    "absum_jax/transform.py": LIBRARY | {"optax"},
    "sigsoftmax_jax": LIBRARY,
    "experiments/training": TRAINER,
    "experiments/data": DATA,
    "experiments/data/svhn.py": DATA | {"scipy"},
    "experiments/data/tfds.py": DATA | {"tensorflow_datasets", "importlib_resources", "PIL"},
    "experiments/results.py": {"jax", "matplotlib", "rich", "experiments.training"},
    "experiments/absum": EXPERIMENT | {"absum_jax"},
    "experiments/sigsoftmax": EXPERIMENT | {"sigsoftmax_jax"},
    "benchmarks": None,
}
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from experiments import results` imports a module; `from jax import Array` a name.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(place, name):
    parents = [place, *Path(place).parents]
    rule = next(str(parent) for parent in parents if str(parent) in ALLOWED)
    allowed = ALLOWED[rule]
    own = rule.removesuffix(".py").replace("/", ".")
    package = rule.split("/")[0] if rule.startswith(("absum_jax", "sigsoftmax_jax")) else own
    if allowed is None or name.split(".")[0] in sys.stdlib_module_names:
        return True
    return any(name == each or name.startswith(f"{each}.") for each in {*allowed, package, own})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_within_the_layout(path):
    place = str(path.relative_to(ROOT))
    if place == "experiments/__init__.py":
        assert not list(imported(path))
        return
    assert [name for name in imported(path) if not may_import(place, name)] == []


def test_the_rule_can_fail():
    assert not may_import("absum_jax/prox.py", "optax")
    assert not may_import("absum_jax/prox.py", "flax.linen")
    assert not may_import("sigsoftmax_jax/linear.py", "absum_jax.prox")
    assert not may_import("experiments/training/loop.py", "absum_jax.prox_absum")
    assert not may_import("experiments/training/loop.py", "experiments.data.batches")
    assert not may_import("experiments/data/images.py", "experiments.training.step")
    assert not may_import("experiments/absum/task.py", "sigsoftmax_jax.linear")
    assert not may_import("experiments/results.py", "experiments.absum.config")


def test_pmap_is_called_in_the_step_alone():
    calls = [
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "pmap"
    ]
    assert set(calls) == {"experiments/training/step.py"}


@pytest.mark.parametrize("package", ["absum_jax", "sigsoftmax_jax"])
def test_public_names_are_documented_and_annotated(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        public = getattr(module, name)
        assert inspect.getdoc(public), name
        if inspect.isfunction(public):
            parameters = inspect.signature(public).parameters.values()
            assert all(p.annotation is not inspect.Parameter.empty for p in parameters), name
            assert inspect.signature(public).return_annotation is not inspect.Signature.empty, name
