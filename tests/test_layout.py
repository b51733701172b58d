"""Who may import whom, tests included, and what every public name has."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What the files below a path may import besides the standard library and themselves; the longest path counts.
LIBRARY = {"jax", "numpy", "jaxtyping"}
STORAGE = {"experiments.places", "experiments.storage"}
TRAINING = {"jax", "numpy", "flax", "optax", "orbax", "rich", "etils", "tensorstore", *STORAGE}
DATA = {"numpy", "experiments.storage"}
HARNESS = TRAINING | {"matplotlib", "tyro", "experiments.locks", "experiments.training", "experiments.data"}
EXPERIMENT = HARNESS | {"typing_extensions", "experiments.harness"}
ALLOWED = {
    "absum_jax": LIBRARY,
    "absum_jax/transform.py": LIBRARY | {"optax"},
    "sigsoftmax_jax": LIBRARY,
    "experiments/__init__.py": set(),
    "experiments/places.py": {"etils", "fsspec"},
    "experiments/storage.py": {"numpy", "experiments.places"},
    "experiments/locks.py": STORAGE,
    "experiments/training": TRAINING,
    "experiments/data": DATA,
    "experiments/data/own_images.py": DATA | {"PIL"},
    "experiments/data/prepared.py": DATA | {"PIL"},
    "experiments/data/records.py": DATA | {"grain"},
    "experiments/data/svhn.py": DATA | {"scipy"},
    "experiments/data/tfds.py": DATA | {"tensorflow_datasets", "importlib_resources", "PIL"},
    "experiments/harness": HARNESS,
    "experiments/harness/paired.py": HARNESS | {"absum_jax", "experiments.harness"},
    "experiments/harness/tensorboard.py": HARNESS | {"tensorboardX"},
    "experiments/compile": EXPERIMENT | {"absum_jax", "experiments.absum", "experiments.sigsoftmax"},
    "experiments/absum": EXPERIMENT | {"absum_jax"},
    "experiments/sigsoftmax": EXPERIMENT | {"sigsoftmax_jax"},
    "benchmarks/accelerator/packed_images.py": {"numpy", "PIL", "experiments", "benchmarks"},
    "benchmarks": EXPERIMENT | LIBRARY | {"absum_jax", "sigsoftmax_jax", "experiments"},
}
# What of this project the tests of a folder may import besides that folder and what it may import itself.
TESTED = {
    "tests/absum_jax": "absum_jax",
    "tests/sigsoftmax_jax": "sigsoftmax_jax",
    "tests/training": "experiments/training",
    "tests/data": "experiments/data",
    "tests/harness": "experiments/harness",
    "tests/absum": "experiments/absum",
    "tests/sigsoftmax": "experiments/sigsoftmax",
    "tests/compile": "experiments/compile",
    "tests/benchmarks": "benchmarks",
}
SHARED_BY_TESTS = {"tests.bucket", "tests.command_line", "tests.same_files"}
OURS = {"absum_jax", "sigsoftmax_jax", "experiments", "benchmarks", "tests", "examples"}

SOURCES = ("absum_jax", "sigsoftmax_jax", "experiments", "benchmarks")
FILES = sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py"))
TEST_FILES = sorted(path for name in TESTED for path in (ROOT / name).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from experiments import storage` imports a module; `from jax import Array` a name.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name, packages):
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def rule_of(place, rules):
    return next(str(each) for each in (place, *Path(place).parents) if str(each) in rules)


def dotted(place):
    return place.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")


def may_import(place, name):
    rule = rule_of(place, ALLOWED)
    own = rule.split("/")[0] if rule.startswith(("absum_jax", "sigsoftmax_jax")) else dotted(rule)
    own = "experiments.data" if rule.startswith("experiments/data/") else own
    return name.split(".")[0] in sys.stdlib_module_names or is_below(name, {*ALLOWED[rule], own})


def may_import_in_tests(place, name):
    folder = rule_of(place, TESTED)
    if name.split(".")[0] not in OURS:
        return True
    tested = TESTED[folder]
    allowed = {dotted(tested), dotted(folder), *ALLOWED[tested], *SHARED_BY_TESTS}
    # Tests of what stands higher use the helpers of the tests of what it imports.
    allowed |= {dotted(test) for test, package in TESTED.items() if dotted(package) in ALLOWED[tested]}
    return is_below(name, allowed)


def place_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=place_of)
def test_imports_stay_within_the_layout(path):
    assert [name for name in imported(path) if not may_import(place_of(path), name)] == []


@pytest.mark.parametrize("path", TEST_FILES, ids=place_of)
def test_imports_of_tests_stay_within_the_layout(path):
    assert [name for name in imported(path) if not may_import_in_tests(place_of(path), name)] == []


def test_the_rules_can_fail():
    assert not may_import("absum_jax/prox.py", "optax")
    assert not may_import("absum_jax/prox.py", "flax.linen")
    assert not may_import("sigsoftmax_jax/linear.py", "absum_jax.prox")
    assert not may_import("experiments/storage.py", "jax")
    assert not may_import("experiments/training/loop.py", "absum_jax.prox_absum")
    assert not may_import("experiments/training/loop.py", "experiments.data.batches")
    assert not may_import("experiments/training/loop.py", "experiments.harness.run")
    assert not may_import("experiments/data/images.py", "experiments.training.step")
    assert not may_import("experiments/data/svhn.py", "tensorflow_datasets")
    assert not may_import("experiments/harness/run.py", "experiments.absum.run")
    assert not may_import("experiments/absum/task.py", "sigsoftmax_jax.linear")
    assert not may_import("experiments/absum/task.py", "benchmarks.measure")
    assert not may_import_in_tests("tests/training/test_loop.py", "experiments.absum.task")
    assert not may_import_in_tests("tests/training/test_loop.py", "tests.harness.subject")
    assert not may_import_in_tests("tests/data/test_images.py", "experiments.training.step")
    assert not may_import_in_tests("tests/sigsoftmax_jax/test_linear.py", "absum_jax")
    assert may_import_in_tests("tests/harness/test_run.py", "tests.training.toy")


def test_pmap_is_called_in_the_step_alone():
    calls = [
        place_of(path)
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


@pytest.mark.parametrize("experiment", ["absum", "sigsoftmax"])
def test_settings_are_imported_without_checkpoints_and_figures(experiment):
    late = {"orbax", "matplotlib", "grain"}
    code = f"import sys, experiments.{experiment}.config as _; print({late} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "set()\n"
