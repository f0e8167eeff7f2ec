"""The figures of a report as PDF and SVG, drawn with matplotlib from the tables of eval/report/figures.py."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

# Okabe & Ito's colours, told apart with any colour vision; nearly those of page/report.css.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#b5559b", "#8a6d00", "#4c4c4c", "#56b4e9", "#e69f00")
MARKS = "osD^vPX"
STYLE = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "report",  # the same file for the same figure
}
FORMATS = {
    "percent": lambda x, _: f"{100 * x:g}%",
    "points": lambda x, _: f"{100 * x:+g}",
    "number": lambda x, _: f"{x:g}",
    "count": lambda x, _: _count(x),
}


def save(figure: dict, folder: Path) -> None:
    """Draw one figure into ID.pdf and ID.svg."""
    with rc_context(STYLE):
        canvas = DRAW[figure["kind"]](_Table(figure))
        for suffix, date in (("pdf", "CreationDate"), ("svg", "Date")):
            canvas.savefig(
                folder / f"{figure['id']}.{suffix}", metadata={date: None, "Title": figure["title"]}
            )


def _count(x: float) -> str:
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


class _Table:
    """A figure's rows by what its columns mean."""

    def __init__(self, figure: dict):
        self.title, self.code = figure["title"], figure["encoding"]
        self.rows = [dict(zip(figure["columns"], row)) for row in figure["rows"]]

    def get(self, row: dict, role: str):
        return row.get(self.code.get(role))

    def by(self, role: str, rows: list[dict]) -> dict[str | None, list[dict]]:
        """Rows by their value of a role, in its order; all under None where the figure has no such role."""
        found: dict = {}
        for row in rows:
            found.setdefault(self.get(row, role), []).append(row)
        return found

    def grid(
        self, facets: list[str | None], columns: int, width: float, height: float
    ) -> tuple[Figure, list[Axes]]:
        """A figure with one panel of width × height inches for every facet."""
        columns = min(columns, len(facets))
        lines = -(-len(facets) // columns)
        canvas = Figure(figsize=(width * columns, height * lines + 0.6), layout="constrained")
        canvas.suptitle(self.title, fontsize=9)
        panels = canvas.subplots(lines, columns, squeeze=False).ravel().tolist()
        for panel in panels[len(facets) :]:
            panel.remove()
        for facet, panel in zip(facets, panels):
            panel.set_title(facet or "", fontsize=8, loc="left")
        return canvas, panels[: len(facets)]

    def formatter(self) -> FuncFormatter:
        return FuncFormatter(FORMATS[self.code.get("format", "percent")])


def _legend(canvas: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        canvas.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)


def dots(table: _Table) -> Figure:
    facets, series = table.by("facet", table.rows), list(table.by("series", table.rows))
    most = max(len(table.by("group", rows)) for rows in facets.values())
    canvas, panels = table.grid(list(facets), 3, 3.8, 0.5 + 0.17 * most * (len(series) + 0.6))
    for panel, rows in zip(panels, facets.values()):
        groups = list(table.by("group", rows))
        if margin := table.code.get("margin"):
            panel.axvspan(-margin, margin, color="0.9", lw=0)
            panel.axvline(0, color="0.3", lw=0.8)
        for i, name in enumerate(series):
            shift = (i - (len(series) - 1) / 2) * 0.6 / max(1, len(series) - 1)
            own = [
                (groups.index(table.get(row, "group")) + shift, row)
                for row in rows
                if table.get(row, "series") == name
            ]
            _dots(table, panel, own, i)
            panel.plot([], [], MARKS[i % 7], color=COLORS[i % 8], label=name)
        panel.set_yticks(range(len(groups)), groups)
        panel.set_ylim(len(groups) - 0.4, -0.6)
        if table.code.get("log"):
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter(NullFormatter())
        elif table.code.get("zero"):
            panel.set_xlim(left=-0.04 * panel.get_xlim()[1])
        panel.xaxis.set_major_formatter(table.formatter())
    if series != [None]:
        _legend(canvas, panels[0])
    return canvas


def _dots(table: _Table, panel: Axes, rows: list[tuple[float, dict]], i: int) -> None:
    """The (y, row) of one series: seeds small and faint, the value over all with its interval and floor."""
    color, mark = COLORS[i % 8], MARKS[i % 7]
    seeds = [(table.get(row, "value"), y) for y, row in rows if row.get("seed") is not None]
    whole = [(y, row) for y, row in rows if row.get("seed") is None]
    panel.plot(*zip(*seeds or [((), ())]), mark, color=color, ms=2, alpha=0.4, mew=0)
    for y, row in whole:
        if (low := table.get(row, "low")) is not None:
            panel.plot([low, table.get(row, "high")], [y, y], color=color, lw=1)
        if (floor := table.get(row, "floor")) is not None:
            panel.plot([floor, floor], [y - 0.25, y + 0.25], color="0.4", lw=0.8, ls=(0, (2, 1)))
    panel.plot([table.get(row, "value") for _, row in whole], [y for y, _ in whole], mark, color=color, ms=4)


def lines(table: _Table) -> Figure:
    facets, series = table.by("facet", table.rows), list(table.by("series", table.rows))
    canvas, panels = table.grid(list(facets), 3, 3.4, 2.2)
    for panel, rows in zip(panels, facets.values()):
        for name, own in table.by("series", rows).items():
            color, runs = COLORS[series.index(name) % 8], {}
            for row in own:
                runs.setdefault(row["seed"], []).append((table.get(row, "x"), table.get(row, "value")))
            for seed, points in runs.items():
                style = {"lw": 1.5} if seed is None else {"lw": 0.5, "alpha": 0.3}
                panel.plot(*zip(*points), color=color, **style)
        panel.set_xlabel(table.code["x_label"])
        panel.set_ylabel(table.code.get("label", ""))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.xaxis.set_major_formatter(FuncFormatter(FORMATS["count"]))
        panel.yaxis.set_major_formatter(table.formatter())
    for i, name in enumerate(series):
        panels[0].plot([], [], color=COLORS[i % 8], label=name)
    _legend(canvas, panels[0])
    return canvas


def bars(table: _Table) -> Figure:
    facets, parts = table.by("facet", table.rows), table.code["parts"]
    pairs = list(dict.fromkeys((table.get(row, "group"), table.get(row, "series")) for row in table.rows))
    canvas, panels = table.grid(list(facets), 1, 6, 0.6 + 0.2 * len(pairs))
    for panel, rows in zip(panels, facets.values()):
        left = [0.0] * len(pairs)
        for i, part in enumerate(parts):
            own = table.by("part", rows).get(part, [])
            found = {
                (table.get(row, "group"), table.get(row, "series")): table.get(row, "value") for row in own
            }
            widths, shade = [found.get(pair, 0.0) for pair in pairs], str(0.25 + 0.6 * i / len(parts))
            panel.barh(range(len(pairs)), widths, left=left, color=shade, label=part)
            left = [a + b for a, b in zip(left, widths)]
        panel.set_yticks(range(len(pairs)), [f"{group}  {series}" for group, series in pairs])
        panel.set_ylim(len(pairs) - 0.4, -0.6)
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_formatter(table.formatter())
    _legend(canvas, panels[0])
    return canvas


def heat(table: _Table) -> Figure:
    scales = table.by("scale", table.rows)
    found = [
        (scale, facet, own)
        for scale, rows in scales.items()
        for facet, own in table.by("facet", rows).items()
    ]
    canvas, panels = table.grid([facet for _, facet, _ in found], 3, 3, 2.9)
    for panel, (scale, _, rows) in zip(panels, found):
        most = max(table.get(row, "value") for row in scales[scale]) or 1
        across, down = (sorted({table.get(row, role) for row in rows}) for role in ("column", "row"))
        values = np.full((len(down), len(across)), np.nan)
        for row in rows:
            j, i, value = (
                down.index(table.get(row, "row")),
                across.index(table.get(row, "column")),
                table.get(row, "value"),
            )
            values[j, i] = value
            panel.text(
                i,
                j,
                f"{float(f'{value:.2g}'):g}",
                ha="center",
                va="center",
                fontsize=5,
                color="w" if 2 * value > most else "k",
            )
        panel.imshow(values, cmap="Blues", vmin=0, vmax=most)
        panel.set_xticks(range(len(across)), across)
        panel.set_yticks(range(len(down)), down)
        panel.set_xlabel(scale, fontsize=7)
    return canvas


DRAW = {"dots": dots, "lines": lines, "bars": bars, "heat": heat}
