"""Command lines: a sub-command is a dataclass that runs; mistakes are one line."""

import dataclasses
import json

import pytest

from experiments.harness.command_line import Output, RunOutput, main
from experiments.harness.settings import find
from tests.command_line import error_line

RAN = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare things."""

    rates: tuple[float, ...] = (0.1, 0.2)
    """Which rates."""
    name: str = "a"
    """One of a few."""
    output: RunOutput = RunOutput()

    def run(self):
        """Remember it."""
        find(self.name, {"a": 1, "b": 2}, "--name")
        RAN.append(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe:
    """Describe one thing."""

    place: str = "here"
    """Where."""
    size: int
    """How large."""
    output: Output = Output()

    def run(self):
        """Remember it."""
        RAN.append(self)


COMMANDS = {"compare": Compare, "describe": Describe}


def call(arguments):
    RAN.clear()
    main(COMMANDS, arguments, experiment="toys", description="Toys.\n")
    return RAN


def test_the_first_command_is_the_default():
    assert call([]) == [Compare()]
    assert call(["--rates", "1", "2"]) == [Compare(rates=(1.0, 2.0))]
    assert call(["compare", "--name", "b"]) == [Compare(name="b")]
    assert call(["describe", "--size", "3"]) == [Describe(size=3)]


def test_a_result_can_be_run_again_with_other_flags_over_it(tmp_path, capsys):
    path = tmp_path / "result.json"
    path.write_text(
        json.dumps({"experiment": "toys", "command": "compare", "settings": {"rates": [3.0], "name": "b"}})
    )
    assert call(["--config", str(path)]) == [Compare(rates=(3.0,), name="b")]
    assert call([f"--config={path}"]) == [Compare(rates=(3.0,), name="b")]
    assert call(["compare", "--config", str(path), "--name", "a"]) == [Compare(rates=(3.0,))]
    described = tmp_path / "described.json"
    described.write_text(json.dumps({"experiment": "toys", "command": "describe", "settings": {"place": "there"}}))
    assert call(["--config", str(described), "--size", "3"]) == [Describe(place="there", size=3)]
    assert "--size" in error_line(call, capsys, "--config", str(described))
    fails = {
        ("describe", "--config", str(path)): "--config is of the command compare, not of describe",
        ("--config",): "--config must be followed by the path of a result.json",
        ("--config", str(tmp_path / "nothing.json")): "nothing.json does not exist",
    }
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"experiment": "trains", "command": "compare", "settings": {}}))
    fails["--config", str(other)] = "other.json must be a result of toys, got one of trains"
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps({"experiment": "toys", "command": "compare", "settings": {"rate": 3}}))
    fails["--config", str(path)] = "settings has unknown settings: rate"
    for arguments, message in fails.items():
        assert message in error_line(call, capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comparr"], "the command must be one of compare, describe, got 'comparr'"),
        (["--bogus", "1"], "bogus"),
        (["--rates", "x"], "--rates"),
        (["--name", "c"], "--name must be one of a, b, got 'c'"),
        (["--output.distributed", "yes"], "--distributed must be auto, on or off, got 'yes'"),
        (["--output.distributed", "on"], "--distributed on needs a cluster that JAX recognises"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert message in error_line(call, capsys, *arguments)
    assert RAN == []


def test_help_lists_the_commands_and_each_lists_its_flags(capsys):
    for arguments, words in (
        (
            ["--help"],
            [
                "usage: python -m experiments.toys",
                "Toys.",
                "Compare things.",
                "Describe one thing.",
                "compare when none",
            ],
        ),
        (["compare", "--help"], ["--rates", "Which rates.", "0.1 0.2", "--output.out"]),
        (["describe", "-h"], ["--size", "How large."]),
    ):
        with pytest.raises(SystemExit) as exit_info:
            call(arguments)
        assert exit_info.value.code == 0
        printed = capsys.readouterr().out
        assert "required" not in printed or arguments[0] == "describe"
        assert all(word in printed for word in words)
