"""Shapes as SVG: with the page's own colours, or with those of light paper for a file."""

from html import escape
from pathlib import Path

from eval.report.plots import sheet
from eval.report.shapes import MARKS, Label, Line, Mark, Panel, Rect, Shape

# On light paper, as page/report.css has them. The first six are Okabe & Ito's, told apart with any colour vision.
COLORS = {
    "c0": "#0072b2", "c1": "#d55e00", "c2": "#009e73", "c3": "#b5559b", "c4": "#8a6d00", "c5": "#4c4c4c",
    "c6": "#2f8fc4", "c7": "#b87400", "p0": "#2f6f8f", "p1": "#b9b4a8", "p2": "#d98a5b", "p3": "#74659f",
    "on-p0": "#ffffff", "on-p1": "#1c1c1e", "on-p2": "#1c1c1e", "on-p3": "#ffffff", "heat": "#0b5cad",
    "text": "#1c1c1e", "muted": "#5d6066", "line": "#dedbd3", "surface": "#ffffff",
}  # fmt: skip
THEMED = {role: f"var(--{role})" for role in COLORS}


def drawing(panel: Panel, colors: dict[str, str], more: str = "") -> str:
    """An <svg> of a panel."""
    shapes = "".join(_shape(shape, colors) for shape in panel.shapes)
    size = f'viewBox="0 0 {panel.width:g} {panel.height:g}" width="{panel.width:g}" height="{panel.height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {more}>{shapes}</svg>'


def themed(panel: Panel, label: str) -> str:
    """For the page, whose style sheet gives the colours."""
    return drawing(panel, THEMED, f'aria-label="{escape(label)}"')


def swatch(shape: Shape) -> str:
    return drawing(Panel("", 14, 14, [shape]), THEMED, 'class="swatch" aria-hidden="true"')


def save(figure: dict, conditions: list[str], path: Path) -> None:
    """A figure as a file that stands by itself."""
    whole = sheet(figure, conditions)
    paper = Rect(0, 0, whole.width, whole.height, "surface")
    whole.shapes.insert(0, paper)
    text = drawing(whole, COLORS, 'font-family="system-ui, sans-serif" font-size="12"')
    path.write_text(f"{text}\n", encoding="utf-8")


def _shape(shape: Shape, colors: dict[str, str]) -> str:
    match shape:
        case Rect():
            where = (
                f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            )
            return _closed("rect", where, "fill", shape, colors)
        case Line():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            style = f'points="{path}" fill="none" stroke-width="{shape.width:g}"'
            style += ' stroke-dasharray="3 2"' if shape.dashed else ""
            return _closed("polyline", style, "stroke", shape, colors)
        case Mark():
            if corners := MARKS[shape.kind]:
                path = (
                    f"{shape.x + x * shape.radius:.1f},{shape.y + y * shape.radius:.1f}" for x, y in corners
                )
                return _closed("polygon", f'points="{" ".join(path)}"', "fill", shape, colors)
            where = f'cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}"'
            return _closed("circle", where, "fill", shape, colors)
        case Label():
            style = f'x="{shape.x:.1f}" y="{shape.y:.1f}" fill="{colors[shape.color]}"'
            style += f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
            style += f' font-size="{shape.size:g}"' if shape.size != 12 else ""
            style += ' font-weight="600"' if shape.bold else ""
            return f"<text {style}>{escape(shape.words)}</text>"


def _closed(tag: str, where: str, paint: str, shape: Rect | Line | Mark, colors: dict[str, str]) -> str:
    style = f' {paint}="{colors[shape.color]}"'
    style += f' opacity="{shape.opacity:.2g}"' if shape.opacity < 1 else ""
    return (
        f"<{tag} {where}{style}><title>{escape(shape.tip)}</title></{tag}>"
        if shape.tip
        else (f"<{tag} {where}{style}/>")
    )
