"""The figures of a report as PDF, for papers.

    python -m eval.report.pdf runs/quickstart/report      # figures/*.pdf, drawn from report.json

Not part of every comparison: matplotlib takes longer for its PDF files than everything else together.
"""

import argparse
from pathlib import Path

from eval.report.plots import sheet
from eval.report.shapes import MARKS, Label, Line, Mark, Rect, Shape
from eval.report.svg import COLORS
from pipeline.errors import UserError, cli
from pipeline.files import read_json

POINT = 0.75  # of a pixel, the unit of fonts and line widths
STYLE = {"font.family": "DejaVu Sans", "pdf.fonttype": 42}


def save(figure: dict, conditions: list[str], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2D

    whole = sheet(figure, conditions)
    with rc_context(STYLE):
        canvas = Figure(figsize=(whole.width / 96, whole.height / 96))
        down = Affine2D().scale(1, -1).translate(0, whole.height).scale(1 / 96)
        for shape in whole.shapes:
            canvas.add_artist(_artist(shape, down + canvas.dpi_scale_trans))
        canvas.savefig(path, metadata={"CreationDate": None, "Title": figure["title"]})


def _artist(shape: Shape, transform):
    from matplotlib import lines, patches, text

    style = {"color": COLORS[shape.color], "transform": transform}
    match shape:
        case Rect():
            style |= {"alpha": shape.opacity, "linewidth": 0}
            return patches.Rectangle((shape.x, shape.y), shape.width, shape.height, **style)
        case Line():
            style |= {"alpha": shape.opacity, "linewidth": shape.width * POINT}
            return lines.Line2D(*zip(*shape.points), linestyle="--" if shape.dashed else "-", **style)
        case Mark():
            style |= {"alpha": shape.opacity, "linewidth": 0}
            if corners := MARKS[shape.kind]:
                path = [(shape.x + x * shape.radius, shape.y + y * shape.radius) for x, y in corners]
                return patches.Polygon(path, **style)
            return patches.Circle((shape.x, shape.y), shape.radius, **style)
        case Label():
            side = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            weight = "bold" if shape.bold else "normal"
            size = shape.size * POINT * 0.88  # DejaVu is wider than a page's fonts
            return text.Text(shape.x, shape.y, shape.words, size=size, ha=side, weight=weight, **style)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.report.pdf", description=__doc__)
    parser.add_argument("report", metavar="DIRECTORY", type=Path, help="of a report, with its report.json")
    directory = parser.parse_args(argv).report
    content = read_json(directory / "report.json")
    if content is None:
        raise UserError(f"{directory}: no report.json there; run: bash scripts/compare.sh EXPERIMENT")
    (directory / "figures").mkdir(exist_ok=True)
    for figure in content["figures"].values():
        save(figure, list(content["conditions"]), directory / f"figures/{figure['id']}.pdf")
    print(f"{len(content['figures'])} figures: {directory / 'figures'}/*.pdf")


if __name__ == "__main__":
    cli(main)
