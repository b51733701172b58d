"""Directories of runs that are damaged, or not ours: one line each, with a way out."""

import functools
import gc
import json
import shutil

import pytest

from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.run import open_run
from tests.command_line import error_line, read
from tests.sigsoftmax.small import COMPARE, EVALUATE, GENERATE, TRAIN, assert_same_training, contents

fails = functools.partial(error_line, main)
# The event loop of orbax's readers, which a failed read leaves open.
DAMAGED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = pytest.mark.usefixtures("corpus")


@pytest.mark.parametrize("part", ["", "finetune"])
@pytest.mark.parametrize("damage", [None, "", "{\n", '[1]\n{"step": "x"}\n'])
def test_a_log_that_is_lost_or_damaged_is_written_again(network, part, damage):
    """The checkpoint says what was done."""
    path = network / part / "metrics.jsonl"
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    main(TRAIN)
    assert path.read_bytes() == before


def newest(directory):
    return max((path for path in directory.iterdir() if path.is_dir()), key=lambda path: int(path.name))


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_data(directory):
    for path in (newest(directory) / "state").rglob("*"):
        if path.is_file() and "d" in path.parts[path.parts.index("state") :]:
            cut_short(path)


@pytest.fixture
def unread():
    """What the reader of checkpoints leaves behind when a read fails is collected within the test.

    All that was there before, the programs and networks of many tests, is not looked at: that takes seconds.
    """
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


@DAMAGED
@pytest.mark.parametrize(("command", "phase"), [(TRAIN, ""), (EVALUATE, ""), (GENERATE, "finetune")])
@pytest.mark.parametrize(
    "damage",
    [
        cut_data,
        lambda directory: shutil.rmtree(newest(directory) / "state"),
        lambda directory: (newest(directory) / "state" / "_METADATA").unlink(),
        lambda directory: cut_short(newest(directory) / "state" / "_METADATA"),
        lambda directory: shutil.rmtree(newest(directory)),
    ],
    ids=["data cut short", "no state", "no metadata", "metadata cut short", "no checkpoint"],
)
def test_a_damaged_checkpoint_is_one_line_with_a_way_out(unread, capsys, network, command, phase, damage):
    shutil.rmtree(network / "evaluations")
    damage(network / phase / "best")
    message = fails(capsys, *command)
    assert str(network / phase / "best").removeprefix(str(network)) in message
    assert "start over with --force" in message


@DAMAGED
@pytest.mark.parametrize(
    "damage", [cut_data, lambda d: cut_short(next((newest(d) / "position").rglob("metadata")))]
)
def test_a_damaged_newest_checkpoint_is_one_line_too(unread, capsys, network, damage):
    """Where the one before it is damaged as well."""
    before = contents(network / "best")
    for step in [path for path in (network / "checkpoints").iterdir() if path != newest(network / "checkpoints")]:
        shutil.rmtree(step)
    damage(network / "checkpoints")
    message = fails(capsys, *TRAIN)
    assert "net/checkpoints is damaged" in message
    assert "start over with --force" in message
    assert contents(network / "best") == before
    main([*TRAIN, "--force"])


@DAMAGED
def test_the_checkpoint_before_a_damaged_one_is_taken(unread, capsys, network, quick):
    cut_data(network / "checkpoints")
    main(TRAIN)
    lines = capsys.readouterr().err.splitlines()
    (line,) = (line for line in lines if "damaged" in line)
    assert line.startswith("the checkpoint of step ")
    assert "; the one before it, of step " in line
    assert_same_training(open_run(network, network.parent / "corpus").load(), quick)


def test_checkpoints_without_a_config_are_not_adopted(capsys, network):
    (network / "config.json").unlink()
    before = contents(network)
    for command in (TRAIN, [*TRAIN, "--force"]):
        message = fails(capsys, *command)
        assert (
            "net has checkpoints but no config.json, so that nothing says what it is of; choose another" in message
        )
    assert "net holds no run of sigsoftmax: it has no config.json" in fails(capsys, *EVALUATE)
    assert contents(network) == before


@pytest.mark.parametrize(
    "config", ["{}", '{"experiment": "absum", "identity": {}, "settings": {}}', '{"name": "mine"}']
)
def test_a_config_of_somebody_else_is_refused(tmp_path, capsys, config):
    (tmp_path / "net" / "checkpoints").mkdir(parents=True)
    (tmp_path / "net" / "config.json").write_text(config)
    (tmp_path / "net" / "checkpoints" / "mine").write_text("mine")
    before = contents(tmp_path)
    for command in (TRAIN, [*TRAIN, "--force"], EVALUATE, GENERATE):
        message = fails(capsys, *command)
        assert "config.json is not the config of a run of sigsoftmax; choose another" in message
    assert "net holds a single run; choose another --out" in fails(capsys, *COMPARE, "--out", "net", "--force")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "max"}, "--score must be one of"),
        ({"seed": -1}, "--seed must not be negative"),
        ({"seed": 7}, "is of another configuration (seed is 0 there, 7 here)"),
        ({"recipe": {}}, "settings.recipe lacks settings: batch_size, bptt_excess, data"),
        ({"recipe": None}, "settings.recipe must be an object, got None"),
        ({"hidden_size": "6"}, "settings.recipe.hidden_size must be of type int, got '6'"),
        ({"epochs": 2.5}, "settings.recipe.epochs must be of type int, got 2.5"),
        ({"alpha": None}, "settings.recipe.alpha must be of type float, got None"),
        ({"dropouts": {"input": "x"}}, "settings.recipe.dropouts.input must be of type float, got 'x'"),
        ({"dropout": 0.5}, "settings.recipe has unknown settings: dropout"),
    ],
)
def test_settings_edited_by_hand_are_refused(capsys, network, change, message):
    path = network / "config.json"
    config = read(path)
    ((name, value),) = change.items()
    settings = config["settings"] if name in config["settings"] else config["settings"]["recipe"]
    settings[name] = value
    path.write_text(json.dumps(config))
    assert message in fails(capsys, *EVALUATE)
