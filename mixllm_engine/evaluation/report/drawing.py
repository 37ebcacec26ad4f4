"""From a drawing to PNG for slides, and to inline SVG whose colours follow the reader's light or dark theme.

matplotlib draws with the light colours; in the SVG each of them becomes a CSS variable, and the text takes the page's
font. Nothing of matplotlib's global state stays changed, and no window system is needed.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import numpy as np

from mixllm_engine.evaluation.report.markup import Markup
from mixllm_engine.evaluation.report.palette import COLOURS, Ink, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS: Final = 72.0
_PNG_DPI: Final = 192
_LARGE: Final = 1000.0
_FRAME: Final = 40  # pixels
_LEFT, _BOTTOM, _TOP, _RIGHT, _LEGEND_ROW = 42.0, 46.0, 34.0, 14.0, 18.0
_STYLE: Final[Any] = {
    "font.size": 10.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it
    "text.parse_math": False,  # a $ is a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "mixllm",
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
}
_BY_COLOUR: Final = {pair[0]: f"var(--{role})" for role, pair in COLOURS.items()}
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
# older versions of matplotlib write weight and size into one declaration
_FAMILY: Final = re.compile(r"font-family:[^;]*;?")
_SHORTHAND: Final = re.compile(r"font:\s*(?:(\d+)\s+)?([\d.]+px)[^;]*")
_REFERENCE: Final = re.compile(r"url\(#([^)]*)\)")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What is drawn on: a size in points, and room for the plot's names beside it (wide) or below it (narrow)."""

    width: float
    height: float
    narrow: bool


WIDE: Final = Sheet(width=760.0, height=400.0, narrow=False)
NARROW: Final = Sheet(width=330.0, height=320.0, narrow=True)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing that can be made at several sizes.

    Attributes
    ----------
    name : str
        Stem of its file.
    title, caption : str
        What it shows, and how to read it.
    alt : str
        Its message for those who can't see it.
    draw : callable
        Draws on a sheet.
    key : tuple of str
        What the numbers 1, 2, ... stand for on a narrow sheet, which has no room for names.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Sheet], Figure]
    key: tuple[str, ...] = ()

    def png(self) -> bytes:
        """Return a picture on light ground, with a margin."""
        with drawn(self, WIDE) as figure:
            return _framed(figure)

    def svg(self, sheet: Sheet) -> Markup:
        """Return an inline SVG element."""
        with drawn(self, sheet) as figure:
            metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata=metadata)
            return _inline(buffer.getvalue(), self, sheet)


def need_matplotlib() -> None:
    """Say how to install matplotlib, in an `ImportError`, where it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('a report needs matplotlib: pip install "mixllm[evaluate]"') from error


def axes(
    sheet: Sheet, *, x: str, y: str, right: float = 0.0, legend_rows: int = 0, legend_always: bool = False
) -> tuple[Figure, Axes]:
    """Make quiet axes with labels: x below, y above the upper left corner, where it reads without turning the head.

    Parameters
    ----------
    right : float
        Points to leave at the right of a wide sheet.
    legend_rows : int
        Rows of a legend to leave below a narrow sheet, which grows by them; below a wide one only if `legend_always`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below = _LEGEND_ROW * legend_rows if sheet.narrow or legend_always else 0.0
    width, height = sheet.width, sheet.height + below
    left, bottom, top = _LEFT, _BOTTOM + below, _TOP
    right = _RIGHT if sheet.narrow else max(right, _RIGHT)
    figure = Figure(figsize=(width / _POINTS, height / _POINTS), dpi=_POINTS, facecolor=light("page"))
    FigureCanvasAgg(figure)
    made = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )
    made.set_facecolor("none")
    for side in ("left", "right", "top"):
        made.spines[side].set_visible(False)
    made.spines["bottom"].set_color(light("muted"))
    made.tick_params(colors=light("muted"), labelsize=10, length=0, pad=6)
    made.tick_params(axis="x", which="major", length=3)
    made.grid(axis="y", color=light("faint"), linewidth=0.8)
    made.set_axisbelow(True)
    made.ticklabel_format(style="plain", useOffset=False)
    made.set_xlabel(x, color=light("ink"), labelpad=7)
    made.set_ylabel(y, color=light("ink"), rotation=0, ha="left", va="bottom")
    made.yaxis.set_label_coords(0.0, 1.0 - 18.0 / height, transform=figure.transFigure)
    return figure, made


def stroke(ink: Ink) -> dict[str, Any]:
    """Return a line's properties."""
    return {"color": light(ink.colour), "linewidth": ink.width, "linestyle": (0, ink.dashes) if ink.dashes else "-"}


def grouped(made: Axes) -> None:
    """Group the digits of large numbers at the ticks; call it when the axes have their limits."""
    from matplotlib.ticker import StrMethodFormatter

    for axis in (made.xaxis, made.yaxis):
        if max(axis.get_view_interval()) >= _LARGE:
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def legend(figure: Figure, inks: Sequence[tuple[str, Ink]], columns: int = 2) -> None:
    """Name lines below a plot."""
    from matplotlib.lines import Line2D

    figure.legend(
        handles=[Line2D([], [], **stroke(ink)) for _, ink in inks],
        labels=[name for name, _ in inks],
        loc="lower left",
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=light("ink"),
        handlelength=1.8,
        borderaxespad=0.0,
        borderpad=0.2,
        columnspacing=1.2,
    )


@contextmanager
def drawn(plot: Plot, sheet: Sheet) -> Iterator[Figure]:
    """Draw, and keep the settings of matplotlib that the drawing needs until it is saved."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # a name may hold signs that the font of the PNG lacks; the page's font has them
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        yield plot.draw(sheet)


def _framed(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imsave

    figure.set_dpi(_PNG_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    height, width, channels = picture.shape
    framed = np.empty((height + 2 * _FRAME, width + 2 * _FRAME, channels), dtype=np.uint8)
    framed[:] = picture[0, 0]
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = picture
    buffer = io.BytesIO()
    no_program: Any = {"Software": None}  # the same drawing is the same file
    imsave(buffer, framed, format="png", metadata=no_program)
    return buffer.getvalue()


def _inline(svg: bytes, plot: Plot, sheet: Sheet) -> Markup:
    root = ElementTree.fromstring(svg)
    prefix = f"{plot.name}-{'narrow' if sheet.narrow else 'wide'}-"
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        for key in list(node.attrib):
            value = node.attrib.pop(key)
            node.attrib[key.rpartition("}")[2]] = _attribute(key.rpartition("}")[2], value, prefix)
    for defs in root.findall("defs"):  # its style sheet would hold for the whole page
        for style in defs.findall("style"):
            defs.remove(style)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-label": plot.alt, "class": "narrow" if sheet.narrow else "wide"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attribute(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key == "href":
        return value.replace("#", f"#{prefix}", 1)
    if key == "clip-path":
        return _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    if key == "style":
        value = _FAMILY.sub("", value)
        value = _SHORTHAND.sub(lambda found: f"font-weight: {found[1] or 400}; font-size: {found[2]}", value)
        return _COLOUR.sub(lambda found: _BY_COLOUR.get(found[0], found[0]), value)
    return value
