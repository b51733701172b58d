"""One page of HTML for results: settings, tables that can be sorted, pictures, warnings, the command.

The page is one file, which holds its pictures and needs nothing from elsewhere.
"""

import base64
import contextlib
import dataclasses
import html
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from etils import epath
from tyro.conf import Positional, arg

from experiments.harness.tables import Table, has_seeds, summary, table_of_runs
from experiments.places import absolute, named_below
from experiments.storage import read_bytes, read_json, write_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page of results: settings, tables, pictures, warnings, and the commands that made them."""

    directories: Annotated[Positional[tuple[epath.Path, ...]], arg(metavar="DIR...")]
    """Where to look for result.json, with all that lies below."""
    out: Annotated[epath.Path | None, arg(metavar="FILE")] = None
    """The page; by default report.html in the first directory."""

    def run(self) -> None:
        """Write the page, whole or not at all."""
        if not self.directories:
            raise ValueError("DIR must be at least one directory with a result.json, got none")
        out = self.out or self.directories[0] / "report.html"
        if out.suffix != ".html":
            raise ValueError(f"--out must be a file that ends with .html, got {out}")
        results = find_results(self.directories)
        text = make_page(results)
        write_bytes(out, text.encode("utf-8", "xmlcharrefreplace"))
        print(f"wrote {out}, of {', '.join(map(str, results))}")


def find_results(directories: Sequence[epath.Path]) -> list[epath.Path]:
    """Each result.json in the directories or below them, once; those of a directory before those below it.

    Raises:
        ValueError: naming a directory that is none, or has no result.
    """
    found: dict[epath.Path, epath.Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ValueError(f"{directory} must be a directory with a result.json, got {_instead(directory)}")
        paths = sorted(named_below(directory, "result.json"), key=lambda path: path.parent)
        if not paths:
            raise ValueError(f"{directory} must be a directory with a result.json, got none in it or below")
        for path in paths:
            found.setdefault(absolute(path), path)
    return list(found.values())


def make_page(paths: Sequence[epath.Path]) -> str:
    """The page of these result.json, with the pictures and the provenance.json beside each.

    Raises:
        ValueError: naming a file that is damaged.
    """
    parts = "\n".join(_section(path) for path in paths)
    title = html.escape(", ".join(str(path.parent) for path in paths))
    return _PAGE.format(title=title, style=_STYLE, parts=parts, script=_SCRIPT)


def _section(path: epath.Path) -> str:
    """What the page says of one result."""
    result, made_by = read_json(path), path.with_name("provenance.json")
    with _naming(path, "a result that compare or evaluate wrote"):
        tables = "\n".join(_table(heading, table) for heading, table in _tables(result))
    about = {name: value for name, value in result.items() if name not in ("rows", "comparisons")}
    heading = html.escape(f"{about.get('experiment', '')} {about.get('command', '')}: {path.parent}")
    pictures = "\n".join(
        _picture(each) for each in sorted(each for each in path.parent.iterdir() if each.suffix == ".png")
    )
    configuration = _table("Configuration", (["setting", "value"], [list(each) for each in _flat(about)]))
    made = "<p>There is no provenance.json.</p>"
    if made_by.exists():
        provenance = read_json(made_by)
        with _naming(made_by, "the provenance of a result"):
            made = _provenance(provenance)
    return f"<section>\n<h2>{heading}</h2>\n{tables}\n{pictures}\n{configuration}\n{made}\n</section>"


@contextlib.contextmanager
def _naming(path: epath.Path, what: str) -> Iterator[None]:
    """Say which file it was that holds something else."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: it must be {what}: {error!r}") from error


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """The tables of a result, and the warnings before them, each with its heading."""
    if any("checks" in row for row in result["rows"]):
        yield "Warnings", _warnings(result)
    yield "Runs", table_of_runs(dict(result))
    if has_seeds(dict(result)):
        yield "Mean ± standard deviation over seeds", summary(dict(result))
    for each in result.get("comparisons", {}).values():
        yield from each["tables"].items()


def _warnings(result: Mapping[str, Any]) -> Table:
    """One line for each finding of the evaluation ``checks``."""
    findings = [
        (row["facts"], each) for row in result["rows"] for each in row.get("checks", {}).get("findings", [])
    ]
    facts, columns = (list(dict.fromkeys(name for pair in findings for name in pair[i])) for i in (0, 1))
    lines = [
        [_text(of_run.get(name)) for name in facts] + [_text(finding.get(name)) for name in columns]
        for of_run, finding in findings
    ]
    return [*facts, *columns], lines


def _provenance(provenance: Mapping[str, Any]) -> str:
    """The command, and the rest of how the result was made."""
    rest = dict(provenance)
    command, seconds = rest.pop("command", []), rest.pop("seconds", [])
    words = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
    made = _table("Provenance", (["what", "value"], [list(each) for each in _flat(rest)]))
    header = list(dict.fromkeys(name for each in seconds for name in each))
    lines = [[_text(each.get(name)) for name in header] for each in seconds]
    return f"<h3>Command</h3>\n<pre>{html.escape(words)}</pre>\n{made}\n{_table('Seconds', (header, lines))}"


def _table(heading: str, table: Table) -> str:
    header, lines = table
    title = f"<h3>{html.escape(heading)}</h3>\n"
    if not lines:
        return f"{title}<p>None.</p>"
    names = "".join(f'<th><button type="button">{html.escape(name)}</button></th>' for name in header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return f"{title}<div><table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"


def _picture(path: epath.Path) -> str:
    content = read_bytes(path)
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{path} is damaged: it must be a PNG image")
    name, data = html.escape(path.name), base64.b64encode(content).decode()
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines: ``settings.training.epochs`` and its text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _instead(path: epath.Path) -> str:
    return "a file" if path.exists() else "nothing there"


_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { border-bottom: 1px solid #ccc; padding: .2em .8em .2em 0; text-align: left }
th button { all: unset; cursor: pointer; font-weight: bold }
th button:focus-visible { outline: 2px solid }
th[aria-sort=ascending] button::after { content: " \\2191" }
th[aria-sort=descending] button::after { content: " \\2193" }
figure { margin: 1em 0 } img { max-width: 100% } pre { white-space: pre-wrap }"""

# Cells that begin with a number are sorted by it and come before the others.
_SCRIPT = """\
document.addEventListener("click", event => {
  const head = event.target.closest("th");
  if (!head) return;
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const text = row => row.cells[column].textContent;
  const number = row => parseFloat(text(row).replaceAll(",", ""));
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || direction * text(a).localeCompare(text(b));
    return direction * (x - y);
  };
  body.append(...[...body.rows].sort(compare));
});"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>Results</h1>
{parts}
<script>
{script}
</script>
</body>
</html>
"""
