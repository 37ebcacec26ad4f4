"""Names beside lines and points, placed so that they don't overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mixllm_engine.evaluation.report.palette import light
from mixllm_engine.types import Matrix, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS: Final = 72.0  # an inch
_LINE: Final = 14.0
_SIZE: Final = 10.0
_DISTANCES: Final = (7.0, 16.0, 28.0, 42.0, 58.0, 76.0)
_DIAGONALS: Final = ((0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
_DIRECTIONS: Final = ((1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), *_DIAGONALS)
_NEAR: Final = 10.0
# as bad as so many square points of overlap
_CONFUSED: Final = 60.0
_CROSSING: Final = 15.0
_HAIRLINE: Final[dict[str, Any]] = {"arrowstyle": "-", "linewidth": 0.6}


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text at a place in the data's units; its colour, and that of a swatch before it, by role."""

    text: str
    x: float
    y: float
    colour: str = "ink"
    bold: bool = False
    swatch: str | None = None


def at_the_end(axes: Axes, labels: Sequence[Label]) -> None:
    """Write labels at the right of the axes, in the order of their heights, with a hairline to each line's end."""
    if not labels:
        return
    order = sorted(labels, key=lambda label: label.y)
    ends = axes.transData.transform([(label.x, label.y) for label in order])
    box = axes.get_window_extent()
    heights = spread_out(ends[:, 1], _LINE, box.y0, box.y1)
    for label, (x, y), height in zip(order, ends, heights, strict=True):
        line, gap = label.swatch or label.colour, 12.0 if label.swatch else 1.0
        if label.swatch is not None:
            _swatch(axes, box.x1 + 22.0, float(height), label.swatch)
        axes.annotate(
            label.text,
            xy=(x, y),
            xytext=(box.x1 + (32.0 if label.swatch else 18.0), height),
            xycoords="figure points",
            textcoords="figure points",
            va="center",
            fontsize=_SIZE,
            fontweight="bold" if label.bold else "normal",
            color=light(label.colour),
            annotation_clip=False,
            arrowprops={**_HAIRLINE, "color": light(line), "shrinkA": gap, "shrinkB": 2, "relpos": (0, 0.5)},
        )


def _swatch(axes: Axes, x: float, y: float, colour: str) -> None:
    inches = axes.figure.dpi_scale_trans
    place = ([x / _POINTS], [y / _POINTS])
    axes.plot(*place, marker="s", markersize=9, color=light(colour), transform=inches, clip_on=False)


def spread_out(heights: Sequence[float] | Vector, gap: float, low: float, high: float) -> Vector:
    """Move increasing heights apart by at least `gap`, as little as that takes, within a range if there is room.

    Examples
    --------
    >>> spread_out([1.0, 2.0, 30.0], 10.0, 0.0, 100.0).tolist()
    [0.0, 10.0, 30.0]
    """
    steps = gap * np.arange(len(heights))
    # least squares under the order: pool neighbours that violate it, as isotonic regression does
    blocks: list[list[float]] = []
    for value in np.asarray(heights, dtype=np.float64) - steps:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    pooled = np.array([np.mean(block) for block in blocks for _ in block])
    room = max(low, high - float(steps[-1]))
    apart: Vector = np.clip(pooled, low, room) + steps
    return apart


def beside(axes: Axes, labels: Sequence[Label], obstacles: Sequence[tuple[float, float]] = ()) -> None:
    """Write labels beside their points, clear of each other, of all points and of `obstacles` (in the data's units)."""
    if not labels:
        return
    frame = np.array(axes.get_window_extent().extents)
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    taken = _around(points, 5.0)
    if obstacles:
        taken = np.vstack([taken, _around(axes.transData.transform(list(obstacles)), 3.0)])
    for index in np.argsort(-points[:, 1], kind="stable"):
        label, point = labels[index], points[index]
        width = _width(axes, label)
        places = _places(point, width)
        others = np.delete(points, index, axis=0)
        badness = _overlap(places, taken, frame) + _mistaken(places, point, others) + _crossed(places, point, taken)
        best = int(badness.argmin())  # of equals the nearest
        place = places[best]
        taken = np.vstack([taken, place + [-2.0, 0.0, 2.0, 0.0]])
        far = _DISTANCES[best // len(_DIRECTIONS)] > _NEAR
        axes.annotate(
            label.text,
            xy=tuple(point),
            xytext=tuple((place[:2] + place[2:]) / 2.0),
            xycoords="figure points",
            textcoords="figure points",
            ha="center",
            va="center",
            fontsize=_SIZE,
            fontweight="bold" if label.bold else "normal",
            color=light(label.colour),
            arrowprops={**_HAIRLINE, "color": light("muted"), "shrinkB": 4} if far else None,
        )


def _width(axes: Axes, label: Label) -> float:
    text = axes.text(0, 0, label.text, fontsize=_SIZE, fontweight="bold" if label.bold else "normal")
    width = text.get_window_extent().width
    text.remove()
    return float(width)


def _around(points: Matrix, half: float) -> Matrix:
    """Return boxes (left, bottom, right, top) around points, shape (n, 4)."""
    boxes: Matrix = np.hstack([points - half, points + half])
    return boxes


def _places(point: Vector, width: float) -> Matrix:
    """Return boxes for a text at all distances and directions: its nearest side is that far from the point."""
    way = np.tile(np.array(_DIRECTIONS), (len(_DISTANCES), 1))
    far = np.repeat(_DISTANCES, len(_DIRECTIONS))[:, None]
    size = np.array([width, _LINE])
    corner = point + way * far + (np.sign(way) - 1.0) * size / 2.0
    return np.hstack([corner, corner + size])


def _overlap(places: Matrix, taken: Matrix, frame: Vector) -> Vector:
    """Return the area that each place shares with others or has outside the frame, in square points."""
    own = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    total: Vector = own - _common(places, frame[None])[:, 0] + _common(places, taken).sum(axis=1)
    return total


def _common(places: Matrix, others: Matrix) -> Matrix:
    """Return the areas that boxes have in common, shape (n, m)."""
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    area: Matrix = np.clip(high - low, 0.0, None).prod(axis=2)
    return area


def _mistaken(places: Matrix, own: Vector, others: Matrix) -> Vector:
    """Return a penalty where a text would stand closer to another point than to its own."""
    nearest = _distance(places, others).min(axis=1, initial=np.inf)
    return np.where(nearest < _distance(places, own[None])[:, 0] + 1.0, _CONFUSED, 0.0)


def _crossed(places: Matrix, own: Vector, taken: Matrix) -> Vector:
    """Return a penalty for what the lines from the point to its texts would cross."""
    penalty = np.zeros(len(places))
    steps = np.linspace(0.0, 1.0, 24)[:, None]
    for index, place in enumerate(places):
        line = own + steps * ((place[:2] + place[2:]) / 2.0 - own)
        free = (np.hypot(*(line - own).T) > _NEAR) & (_distance(place[None], line)[0] > 0)
        penalty[index] = _CROSSING * (_distance(taken, line[free]) == 0).any(axis=0).sum()
    return penalty


def _distance(boxes: Matrix, points: Matrix) -> Matrix:
    """Return how far points are from boxes, shape (n, m); 0 inside."""
    away = np.maximum(boxes[:, None, :2] - points[None], points[None] - boxes[:, None, 2:])
    distance: Matrix = np.hypot(*np.moveaxis(np.clip(away, 0.0, None), 2, 0))
    return distance
