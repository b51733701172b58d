"""Command lines: sub-commands are dataclasses with a method ``run``; mistakes are one line."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from etils import epath

from experiments.harness.directory import SAME
from experiments.harness.flags import given_flags, require_values
from experiments.harness.mistakes import one_line_errors
from experiments.harness.settings import from_json, require_at_least, to_json, without_places
from experiments.harness.tensorboard import require_tensorboard
from experiments.places import place, require_local, require_usable
from experiments.storage import read_json
from experiments.training.agreement import listening_for_failures, require_same
from experiments.training.devices import initialize, keep_compiled_programs
from experiments.training.signals import listening


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Flags of all sub-commands that write."""

    out: epath.Path | None = None
    """Directory of what is written, on a disk or in a bucket (gs://BUCKET/PATH). On several processes it must be
    shared by all."""
    distributed: str = "auto"
    """auto joins the cluster that JAX recognises, if there is one (start this command on each of its processes);
    on fails where there is none; off stays alone."""

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no command could use."""
        if self.distributed not in ("auto", "on", "off"):
            raise ValueError(f"--distributed must be auto, on or off, got {self.distributed!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOutput(Output):
    """Flags of the sub-commands that train; without --out they write to runs/NAME."""

    force: bool = False
    """Start over where the directory holds a run, of this or of another configuration."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch, besides the one after each."""
    checkpoint_every: int | None = None
    """Steps between checkpoints within an epoch, as well."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay, of each phase; --at takes any of them."""
    log_every: int = 100
    """Steps of a line of numbers within an epoch, in steps.jsonl."""
    tensorboard: bool = False
    """Write the numbers of metrics.jsonl and steps.jsonl for TensorBoard as well."""

    @property
    def of_run(self) -> dict[str, Any]:
        """When a run saves, and what it logs, as its arguments."""
        names = "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "log_every", "tensorboard"
        return {name: getattr(self, name) for name in names}

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no command could use."""
        super().check()
        require_at_least(self, 1, ("checkpoint_every", "log_every"))
        require_at_least(self, 2, ("keep_checkpoints",))  # the one before, where the newest is damaged
        if self.tensorboard:
            require_tensorboard()
        if not self.checkpoint_minutes > 0:
            raise ValueError(f"--checkpoint-minutes must be positive, got {self.checkpoint_minutes}")


def main(
    commands: Mapping[str, type], arguments: Sequence[str] | None, *, experiment: str, description: str | None
) -> None:
    """Run a sub-command; the first one when none is named.

    ``--config result.json`` takes the sub-command and its settings from a result, beneath the flags given.

    Args:
        commands: name -> dataclass whose fields are the flags, with a method ``run()``; if it writes, a field
            ``output`` of type :class:`Output`; and if some flags would be left aside beside others, a method
            ``check_flags(flags)``, which raises ``ValueError`` for those among the ones given.
        arguments: those of this process if ``None``.
        experiment: the package under ``experiments`` that is called.
        description: what it does.
    """
    prog = f"python -m experiments.{experiment}"
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["-h"], ["--help"]):
        print(_overview(commands, prog, description))
        sys.exit(0)
    with listening(), one_line_errors():
        try:
            name, command = _command(commands, list(given), experiment, prog)
        except (ValueError, OSError):
            _join_in_spite(commands, given)
            raise
        if hasattr(command, "output"):
            initialize(command.output.distributed)
        keep_compiled_programs()
        with listening_for_failures():
            require_same({"command": name, **_decisive(command)}, SAME)
            command.run()


def _command(commands: Mapping[str, type], given: list[str], experiment: str, prog: str) -> tuple[str, Any]:
    """The sub-command that the arguments name, and what they make of it, which is checked."""
    default = _from_result(commands, given, experiment)
    if given and not given[0].startswith("-"):
        name = given.pop(0)
    else:
        name = default[0] if default else next(iter(commands))
    if name not in commands:
        raise ValueError(f"the command must be one of {', '.join(commands)}, got {name!r}")
    if default and default[0] != name:
        raise ValueError(f"--config is of the command {default[0]}, not of {name}")
    command = parse(commands[name], given, prog=f"{prog} {name}", default=default and default[1])
    if hasattr(command, "check_flags"):
        command.check_flags(given_flags(given))
    if hasattr(command, "output"):
        command.output.check()
    return name, command


def _join_in_spite(commands: Mapping[str, type], given: Sequence[str]) -> None:
    """Join the other processes before a mistake ends this one: they may have made none, and would wait for it."""
    name = given[0] if given and not given[0].startswith("-") else next(iter(commands))
    if not hasattr(commands.get(name), "output"):
        return
    words = [*(word for each in given for word in each.split("=", 1)), "--distributed", "auto"]
    with contextlib.suppress(ValueError):
        initialize(words[words.index("--distributed") + 1])


def parse(command: type, arguments: Sequence[str], *, prog: str, default: Any = None) -> Any:
    """The command that the arguments stand for.

    Raises:
        ValueError: in one line, where the parser would draw a box.
    """
    import tyro  # noqa: PLC0415  # not installed where experiments are called as functions

    drawn = io.StringIO()
    defaults = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(drawn):
            found = tyro.cli(command, args=list(arguments), prog=prog, registry=_registry(), **defaults)
    except SystemExit as exit_request:
        if not exit_request.code:
            raise
        words = re.sub(r"[^\x20-\x7e]+|(?<=\s)[-+|]+(?=\s)", " ", drawn.getvalue()).split()
        # The heading of the box once, which its text begins with as well.
        raise ValueError(re.sub(r"^(\w+ \w+) \1\b", r"\1", " ".join(words))) from exit_request
    require_values(found, arguments)
    for path in _paths(found):
        (require_local if isinstance(path, Path) else require_usable)(path)
    return found


def _registry() -> Any:
    """What the parser needs to know of places."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec  # noqa: PLC0415  # as in parse

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def place_rule(kind: Any) -> Any:
        if kind.type is not epath.Path:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=lambda words: place(words[0]),
            is_instance=lambda value: isinstance(value, PurePath),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _paths(value: Any) -> Iterator[PurePath]:
    """All paths in a command."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, PurePath):
        yield value


def _decisive(command: Any) -> dict[str, Any]:
    """All that processes have to agree on, in plain values: not where each finds its files."""
    settings = to_json(command)
    output = settings.get("output", {})
    return without_places(settings) | {
        name: output[name] for name in ("force", "checkpoint_every", "keep_checkpoints") if name in output
    }


def _from_result(commands: Mapping[str, type], arguments: list[str], experiment: str) -> tuple[str, Any] | None:
    """Take ``--config FILE`` out of the arguments: the command that made this result, and its settings."""
    arguments[:] = [part for each in arguments for part in _parts_of_config(each)]
    if "--config" not in arguments:
        return None
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise ValueError("--config must be followed by the path of a result.json")
    path = place(arguments[at + 1])
    require_usable(path)
    del arguments[at : at + 2]
    result = read_json(path)
    if result.get("experiment") != experiment:
        raise ValueError(f"{path} must be a result of {experiment}, got one of {result.get('experiment')}")
    name = str(result.get("command"))
    if name not in commands:
        raise ValueError(f"{path} must hold a command, one of {', '.join(commands)}, got {name!r}")
    import tyro  # noqa: PLC0415  # as in parse

    # A setting that names a place, such as --run, is not in a result: it is asked for as if there were none.
    settings: Any = from_json(commands[name], result.get("settings"), f"{path}: settings", absent=tyro.MISSING)
    return name, settings


def _parts_of_config(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _overview(commands: Mapping[str, type], prog: str, description: str | None) -> str:
    width = max(map(len, commands))
    first = next(iter(commands))
    lines = [f"  {name:<{width}}  {(kind.__doc__ or '').splitlines()[0]}" for name, kind in commands.items()]
    return "\n".join(
        [
            f"usage: {prog} [COMMAND] [FLAGS]",
            "",
            *(description or "").strip().splitlines(),
            "",
            f"commands ({first} when none is named; COMMAND --help lists its flags):",
            *lines,
        ]
    )
