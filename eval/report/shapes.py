"""Shapes, of which eval/report/plots.py makes figures. Sizes are pixels of 1/96 inch.

Colours are roles: `c0` … `c7` for conditions, `p0` … `p3` for parts of a bar, `heat`, `text`, `muted`, `line`,
`surface`; a page gives them other values when it is dark.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    color: str
    opacity: float = 1.0
    tip: str = ""  # shown under the pointer


@dataclass(frozen=True)
class Line:
    points: list[tuple[float, float]]
    color: str
    width: float = 1.0
    opacity: float = 1.0
    dashed: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    kind: int  # of MARKS
    radius: float
    color: str
    opacity: float = 1.0
    tip: str = ""


@dataclass(frozen=True)
class Label:
    x: float
    y: float  # of the base line
    words: str
    anchor: str = "start"  # middle, end
    color: str = "muted"
    size: float = 12.0
    bold: bool = False


Shape = Rect | Line | Mark | Label


@dataclass
class Panel:
    """The drawing of one facet."""

    title: str
    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)


# Corners of a mark of radius 1; a circle has none. Every condition has a mark, so that colour is never alone.
MARKS: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    ((-1, 0), (-0.5, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.5, 1)),
    ((-1, -1), (0, -0.4), (1, -1), (0.4, 0), (1, 1), (0, 0.4), (-1, 1), (-0.4, 0)),
)


def moved(shape: Shape, dx: float, dy: float) -> Shape:
    if isinstance(shape, Line):
        return replace(shape, points=[(x + dx, y + dy) for x, y in shape.points])
    return replace(shape, x=shape.x + dx, y=shape.y + dy)
