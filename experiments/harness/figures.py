"""What figures have in common: colours that everybody can tell apart, and files that are whole."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath

from experiments.storage import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Look(NamedTuple):
    """How one thing looks in every figure: told apart by colour and by marker and line."""

    color: str
    marker: str
    line: str

    @property
    def solid(self) -> dict[str, Any]:
        """For the main line."""
        return {"color": self.color, "marker": self.marker}


# Okabe and Ito, "Color Universal Design", 2008; yellow is left out, as it is faint on white.
_COLORS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def looks(names: Mapping[str, Any]) -> dict[str, Look]:
    """One look for each name, in order; colours come again after the seventh, with other markers and lines."""
    others = [(i + i // 7) % 7 for i in range(len(names))]
    return {
        name: Look(_COLORS[i % 7], _MARKERS[other], _LINES[other])  # type: ignore[arg-type]
        for i, (name, other) in enumerate(zip(names, others, strict=True))
    }


def new_figure(
    *shape: int, figsize: tuple[float, float] | None = None, **arrangement: Any
) -> tuple["Figure", Any]:
    """A figure with axes as ``Figure.subplots`` arranges them, which nothing else holds, as pyplot would."""
    # Half a second that a command without figures need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=figsize)
    FigureCanvasAgg(figure)  # on which what is drawn can be measured
    return figure, figure.subplots(*shape, **arrangement)


def write_products(directory: epath.Path, products: Mapping[str, Any]) -> None:
    """Write figures (NAME.png gets a NAME.pdf beside it) and texts, each whole or not at all."""
    for name, product in products.items():
        if isinstance(product, str):
            write_text(directory / name, product)
        else:
            _write_figure(directory / name, product)


def _write_figure(path: epath.Path, figure: "Figure") -> None:
    # Without the time of writing, so that the same figure is the same file.
    for each, metadata in ((path, {}), (path.with_suffix(".pdf"), {"CreationDate": None})):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=each.suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)
        write_bytes(each, drawn.getvalue())
