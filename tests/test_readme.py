"""The pages for readers: their snippets run, their tables are those of the results, what they name is there."""

import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

import absum_jax
import sigsoftmax_jax
from absum_jax import paired_t_test
from experiments.absum import __main__ as absum
from experiments.compile.__main__ import Compile
from experiments.data.__main__ import make_parser
from experiments.harness.command_line import parse
from experiments.harness.settings import from_json, to_json, without_places
from experiments.harness.tables import COMMITTED, with_tables
from experiments.sigsoftmax import __main__ as sigsoftmax
from experiments.storage import read_json

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name
    for name in (
        "README.md", "CONTRIBUTING.md", "docs/adding.md", "docs/departures.md", "docs/runs.md",
        "experiments/absum/README.md", "experiments/sigsoftmax/README.md",
    )
]  # fmt: skip
RESULTS = [page for page in PAGES if "<!-- table " in page.read_text()]
README = (ROOT / "README.md").read_text()
COMMANDS = {"absum": absum.COMMANDS, "sigsoftmax": sigsoftmax.COMMANDS, "compile": {"compile": Compile}}
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
FOLDERS = ("absum_jax", "benchmarks", "docs", "examples", "experiments", "sigsoftmax_jax", "tests")
BESIDES = {"--help", "--config"}  # flags of every command, or of all of them together


def page_name(page):
    return str(page.relative_to(ROOT))


def flags_of(command):
    """Those that begin a line of its --help; such as a sentence mentions stand further to the right."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        parse(command, ["--help"], prog="command")
    return set(re.findall(r"^\W? ?(?:-h, )?(--[a-z][\w.-]*)", printed.getvalue(), re.MULTILINE)) | BESIDES


FLAGS = {kind: {name: flags_of(each) for name, each in commands.items()} for kind, commands in COMMANDS.items()}


def test_snippets_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
        assert capsys.readouterr().out


@pytest.mark.parametrize("page", RESULTS, ids=page_name)
def test_tables_are_those_of_the_results(page):
    assert with_tables(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", RESULTS, ids=page_name)
def test_the_command_above_a_table_has_the_settings_of_its_result(page):
    above, tables = "", 0
    for part in re.findall(
        r"^```bash\n.*?^```$|<!-- table \S+?(?=:| -->)", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        if part.startswith("```"):
            above = part
            continue
        tables += 1
        table = part.removeprefix("<!-- table ")
        ((kind, name, arguments),) = commands_in(above)
        command, result = COMMANDS[kind][name], read_json(COMMITTED / f"{table}.json")
        given, made = parse(command, arguments, prog=name), from_json(command, result["settings"], absent=Path())
        assert result["command"] == name
        assert without_places(to_json(given)) == without_places(to_json(made))
    assert tables == page.read_text().count("<!-- table ")


def worst_frequency_gains(name):
    """Of Absum over each of the others: the columns of the paired table."""
    others = read_json(COMMITTED / f"{name}.json")["comparisons"]["worst_frequency"]["others"]
    return {each["name"]: each["columns"] for each in others}


def test_the_sentences_below_the_pictures_are_those_of_the_results():
    words = " ".join(README.split())
    gains = worst_frequency_gains("absum_fashion_mnist")
    assert list(gains) == ["none", "weight_decay", "spectral_norm", "spectral_clip"]
    of_all = {name: columns["worst of all at 0.3"] for name, columns in gains.items()}
    none, decay, norm, clip = (f"{each['difference']:.3f}" for each in of_all.values())
    assert (
        f"{none} higher with Absum than with nothing, {decay} than with weight decay, {norm} than with"
        f" spectral norm and {clip} than with spectral clipping" in words
    )
    low, high = min(each["low"] for each in of_all.values()), max(each["high"] for each in of_all.values())
    assert low > 0
    assert f"95 % intervals from {low:.3f} to {high:.3f}" in words
    shown = [name for name, columns in gains.items() if columns["worst of all without binary at 0.3"]["low"] > 0]
    assert shown == ["none"]
    assert "without them it is shown over nothing alone, of these four" in words
    clipped = worst_frequency_gains("absum_embedded")["spectral_clip"]["worst of all at 0.3"]
    assert clipped["low"] < 0 < clipped["high"]
    assert "With 4,500 training images spectral clipping is not told apart" in words
    colour = worst_frequency_gains("absum_cifar10")["none"]["worst of all at 16/255"]
    assert colour["low"] > 0
    assert f"it is {colour['difference']:.3f} higher than with nothing at 16/255" in words
    swept = read_json(COMMITTED / "absum_cifar10.json")["comparisons"]["fourier"]["others"]
    assert all(each["columns"]["worst"]["low"] < 0 for each in swept)
    clean = {each["name"]: each["columns"]["clean"] for each in swept}["weight_decay"]
    assert clean["high"] < 0
    assert f"clean accuracy is {-clean['difference']:.3f} lower than with weight decay" in words


def of_networks(name, column):
    """By network, a number of every seed."""
    found = {}
    for row in read_json(COMMITTED / f"{name}.json")["rows"]:
        found.setdefault(row["facts"]["network"], []).append(row["cells"][column][0])
    return found


def test_what_is_said_of_language_models_is_that_of_the_results():
    words = " ".join(README.split())
    ranks = of_networks("sigsoftmax_converged", "rank of 2048 x 4403")
    assert ranks["softmax"] == [98] * 5
    assert f"{np.mean(ranks['sigsoftmax']):.0f} ± {np.std(ranks['sigsoftmax'], ddof=1):.0f}" in words
    short, whole = (of_networks(f"sigsoftmax_{name}", "fine-tuned, test") for name in ("embedded", "converged"))
    dynamic = of_networks("sigsoftmax_converged", "dynamic, test")
    for higher, lower, said in (
        (short["softmax"], short["sigsoftmax"], "lower"),
        (whole["sigsoftmax"], whole["softmax"], "higher"),
        (dynamic["softmax"], dynamic["sigsoftmax"], "lower"),
    ):
        test = paired_t_test(higher, lower)
        assert test.low > 0
        assert f"{test.difference:.1f} {said} ({test.low:.1f} to {test.high:.1f})" in words
    mixture = paired_t_test(whole["softmax"], whole["mos"])
    assert mixture.low < 0 < mixture.high  # not told apart
    for column in ("fine-tuned, valid", "fine-tuned, test", "dynamic, valid", "dynamic, test"):
        means = {name: np.mean(found) for name, found in of_networks("sigsoftmax_converged", column).items()}
        assert min(means, key=means.get) == "mos"


def test_the_verdicts_are_those_of_the_results():
    """The cells of the table of the paper's claims, from the paired differences of the results."""
    lines = (ROOT / "experiments/absum/README.md").read_text().splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}

    def pairs(name, evaluation, column):
        others = read_json(COMMITTED / f"{name}.json")["comparisons"][evaluation]["others"]
        return {each["name"]: each["columns"][column] for each in others}

    def span(found):
        ends = min(each["difference"] for each in found), max(each["difference"] for each in found)
        bounds = min(each["low"] for each in found), max(each["high"] for each in found)
        return "{:+.3f} to {:+.3f}".format(*ends), "[{:+.3f}, {:+.3f}]".format(*bounds)

    def one(found):
        return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"

    small, full = (
        pairs(f"absum_{name}", "worst_frequency", "worst of all at 0.3") for name in ("embedded", "fashion_mnist")
    )
    worst = rows["the single Fourier attack: the worst of all waves at L-infinity 0.3"]
    assert f"spectral clipping is not told apart, {one(small.pop('spectral_clip'))}" in worst
    for found, words in ((small, "seven"), (full, "all four")):
        assert all(each["low"] > 0 for each in found.values())
        ends, bounds = span(found.values())
        assert f"against {words}, {ends} {bounds.replace(', ', ' to ')}" in worst
    transferred = rows["transferred attacks"]
    waves = pairs("absum_fashion_mnist", "transfer", "worst frequency of validation images")
    assert min(each["low"] for each in waves.values()) > 0
    ends, bounds = span(waves.values())
    assert f"**confirmed** against all four, {ends} {bounds.replace(', ', ' to ')}" in transferred
    clipped = pairs("absum_fashion_mnist", "transfer", "PGD")["spectral_clip"]
    assert f"below spectral clipping, {one(clipped)}" in transferred
    noise = pairs("absum_fashion_mnist", "noise", "high-frequency noise")
    assert f"**confirmed** against none, {one(noise['none'])}" in rows["high-frequency noise"]
    assert f"one test of twelve, {one(noise['weight_decay'])}" in rows["high-frequency noise"]
    colour = pairs("absum_cifar10", "worst_frequency", "worst of all at 16/255")
    assert [name for name, each in colour.items() if each["low"] > 0] == ["none", "spectral_norm"]
    assert f"at 16/255: **confirmed** against spectral norm, {one(colour['spectral_norm'])}" in worst
    assert f"above `none` by one test of three, {one(colour['none'])}" in worst
    assert f"**open** against weight decay, {one(colour['weight_decay'])}" in worst
    waves = pairs("absum_cifar10", "transfer", "worst frequency of validation images")
    assert f"by one test of nine, {one(waves['weight_decay'])}" in transferred
    noise = pairs("absum_cifar10", "noise", "high-frequency noise")
    assert (
        f"above spectral norm by one test of nine, {one(noise['spectral_norm'])}" in rows["high-frequency noise"]
    )
    phases = pairs("absum_four_phases", "worst_frequency", "worst of all at 0.3")["none"]
    assert f"where the gain stays, {one(phases)}, 5 seeds" in " ".join(lines)


def test_what_bfloat16_is_said_to_change_is_that_of_the_results():
    accuracy = {}
    for name in ("absum_bfloat16", "absum_embedded"):
        rows = read_json(COMMITTED / f"{name}.json")["rows"]
        accuracy[name] = {
            tuple(row["facts"][fact] for fact in ("regularizer", "seed")): row["cells"]["test"][0] for row in rows
        }
    words = " ".join((ROOT / "docs/runs.md").read_text().split())
    for name in ("none", "absum"):
        pairs = [[accuracy[each][name, seed] for seed in range(5)] for each in accuracy]
        test = paired_t_test(*pairs)
        assert f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}] with" in words


def test_pages_have_tables_and_the_readme_pictures():
    assert [page.parent.name for page in RESULTS] == ["docs", "absum", "sigsoftmax"]
    assert len(re.findall(r"^!\[.*\]\(experiments/results/\S+\.png\)$", README, re.MULTILINE)) == 2


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_it_names_exist(page):
    text = page.read_text()
    linked = [name.partition("#")[0] for name in re.findall(r"\]\((?!http)([^)]+)\)", text)]
    assert [name for name in linked if not (page.parent / name).exists()] == []
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_linked_sections_exist():
    for page in PAGES:
        for name, section in re.findall(r"\]\((?!http)([^)#]+)#([^)]+)\)", page.read_text()):
            titles = re.findall(r"^#+ (.*)$", (page.parent / name).read_text(), re.MULTILINE)
            assert section in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_there_is_one_command_for_the_job_and_one_for_the_tests():
    commands = re.findall(r"^python3 -m pip install .*&& python3 -m (\S+).*$", README, re.MULTILINE)
    assert commands == ["experiments.absum", "pytest"]


def commands_in(text):
    """The experiments' commands of the fenced lines: experiment, sub-command, arguments."""
    command = re.compile(r"python3 -m experiments\.(absum|sigsoftmax|compile)(.*)$", re.MULTILINE)
    for block in FENCED.findall(text):
        for kind, rest in command.findall(block):
            arguments = shlex.split(rest, comments=True)
            is_named = arguments and not arguments[0].startswith("-")
            yield kind, arguments.pop(0) if is_named else next(iter(COMMANDS[kind])), arguments


def test_commands_are_found():
    found = [(kind, name) for page in PAGES for kind, name, _ in commands_in(page.read_text())]
    assert {("absum", "compare"), ("absum", "select"), ("sigsoftmax", "train")} < set(found)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_are_parsed(page):
    for kind, name, arguments in commands_in(page.read_text()):
        if "--config" in arguments:  # of a result that is not there
            at = arguments.index("--config")
            del arguments[at : at + 2]
        assert isinstance(parse(COMMANDS[kind][name], arguments, prog=name), COMMANDS[kind][name])


def test_commands_of_the_data_are_parsed():
    lines = re.findall(r"python3 -m experiments\.data (.*)$", (ROOT / "docs/adding.md").read_text(), re.MULTILINE)
    (given,) = [make_parser().parse_args(shlex.split(line)) for line in lines]
    assert (given.command, given.data) == ("prepare", "fashion_mnist")


def stale_flags(text, kinds):
    """Flags in running text that the commands named beside them do not have: of a row of a table its command, of a
    point of a list those in brackets at its beginning, elsewhere any."""
    own = {name: flags for kind in kinds for name, flags in FLAGS[kind].items()}
    known = {flag for kind in kinds for flags in FLAGS[kind].values() for flag in flags}
    for part in re.split(r"\n(?=[-|]|\n)", FENCED.sub("", text)):
        row = re.match(r"\| `([\w-]+)", part)
        point = re.match(r"- \*\*\w+\*\* \(([^)]*)\)", part)
        names = [row[1]] if row else re.findall(r"`([\w-]+)`", point[1]) if point else []
        for flag in FLAG.findall(part):
            allowed = [own[name] for name in names if name in own] or [known]
            if not all(flag in flags for flags in allowed):
                yield flag


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_flags_exist(page):
    kinds = [page.parent.name] if page.parent.name in FLAGS else list(FLAGS)
    others = {
        "adding.md": {"--grain.scale", "--name"},  # one that the page itself adds, and one of another command
        "runs.md": {
            "--bucket",
            "--commands",
            "--kills",
            "--out-root",
            "--processes",
            "--xla_gpu_exclude_nondeterministic_ops",
        },
    }
    assert set(stale_flags(page.read_text(), kinds)) <= others.get(page.name, set())


def test_stale_flags_are_found():
    assert {"--out", "--seed", "--fourier.images", "--data-dir"} < FLAGS["absum"]["compare"]
    assert list(stale_flags("`--attack-images` and `--seed`", ["absum"])) == ["--attack-images"]
    assert list(stale_flags("| `train` | `--seeds` |", ["absum"])) == ["--seeds"]
    assert list(stale_flags("- **Any** (`compare`, `train`): `--seeds`,\n  `--seed`", ["absum"])) == ["--seeds"]
    assert list(stale_flags("- **Output** (`train`): `--out`\n- any: `--seeds`", ["absum"])) == []


def test_the_version_is_said_once():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for library in (absum_jax, sigsoftmax_jax):
        assert library.__version__ == version
