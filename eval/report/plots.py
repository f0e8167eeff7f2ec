"""The figures of a report, drawn once: a table of eval/report/figures.py becomes panels of shapes.

eval/report/svg.py writes the shapes into the page and into figures/*.svg, eval/report/pdf.py into PDF for papers.
Drawing shapes takes milliseconds where matplotlib's axes take seconds, and lets a page rearrange the panels on
a narrow screen.
"""

from dataclasses import replace

from eval.report.scales import (
    FORMATS,
    TICKS,
    Scale,
    count,
    doubling,
    linear,
    logarithmic,
    percent,
    short,
    width,
)
from eval.report.shapes import MARKS, Label, Line, Mark, Panel, Rect, Shape, moved

WIDTH = 460  # of a panel, heat maps apart
ROW = 17  # height of one condition
LETTER = 6.4  # width of a letter of 12 pixels, about


class Table:
    """A figure's rows by what its columns mean."""

    def __init__(self, figure: dict, conditions: list[str]):
        self.encoding, self.conditions = figure["encoding"], conditions
        self.rows = [dict(zip(figure["columns"], row)) for row in figure["rows"]]
        self.format = FORMATS[self.encoding.get("format", "percent")]
        self.tick = TICKS[self.encoding.get("format", "percent")]

    def get(self, row: dict, role: str):
        return row.get(self.encoding.get(role))

    def by(self, role: str, rows: list[dict]) -> dict:
        """Rows by their value of a role, in its order; all under None where the figure has no such role."""
        groups: dict = {}
        for row in rows:
            groups.setdefault(self.get(row, role), []).append(row)
        return groups

    def place(self, condition: str | None) -> int | None:
        return self.conditions.index(condition) if condition in self.conditions else None


def color(place: int | None) -> str:
    return "text" if place is None else f"c{place % 8}"


def mark(x: float, y: float, place: int | None, radius: float, opacity: float = 1.0, tip: str = "") -> Mark:
    return Mark(x, y, (place or 0) % len(MARKS), radius, color(place), opacity, tip)


def vertical(x: float, top: float, bottom: float, role: str, **style) -> Line:
    return Line([(x, top), (x, bottom)], role, **style)


def _width(words: str) -> float:
    return LETTER * len(words)


def panels(figure: dict, conditions: list[str]) -> list[Panel]:
    """The panels of a figure; `conditions` are the report's, whose order decides on colours and marks."""
    table = Table(figure, conditions)
    by_scale = table.by("scale", table.rows).values()
    facets = [(name, rows) for part in by_scale for name, rows in table.by("facet", part).items()]
    return [KINDS[figure["kind"]](table, name or "", rows) for name, rows in facets]


def legend(figure: dict, conditions: list[str]) -> list[tuple[str, Shape]]:
    """(name, its swatch of 14 × 14 pixels) of the figure's conditions or parts."""
    table = Table(figure, conditions)
    if figure["kind"] == "bars":
        return [(part, Rect(1, 1, 12, 12, f"p{i}")) for i, part in enumerate(table.encoding["parts"])]
    names = table.by("series", table.rows) if "series" in table.encoding else {}
    return [(name, mark(7, 7, table.place(name), 5)) for name in names]


# --- dots: a value, with an interval, for every group × series ----------------------------------------------


def dots(table: Table, title: str, rows: list[dict]) -> Panel:
    groups, series = table.by("group", rows), list(table.by("series", rows))
    labels = min(0.36 * WIDTH, max(map(_width, groups)) + 14)
    x = _dot_scale(table, rows, labels + 4, WIDTH - 62)
    each = len(series) * ROW + 12
    panel = Panel(title, WIDTH, len(groups) * each + 26)
    bottom = panel.height - 22
    unit = table.encoding.get("format")
    if unit in ("points", "bits per byte"):  # differences
        panel.shapes.append(Label(WIDTH, panel.height - 6, unit, "end"))
    if margin := table.encoding.get("margin"):
        tip = f"margin of equivalence: {width(margin, unit)}"
        panel.shapes.append(Rect(x.at(-margin), 0, x.at(margin) - x.at(-margin), bottom, "muted", 0.14, tip))
    for tick in x.ticks:
        axis = tick == 0 and margin
        panel.shapes.append(vertical(x.at(tick), 0, bottom, "text" if axis else "line"))
        panel.shapes.append(Label(x.at(tick), panel.height - 6, table.tick(tick), "middle"))
    for j, (group, own) in enumerate(groups.items()):
        top = j * each + 4
        middle = top + len(series) * ROW / 2 + 4
        panel.shapes.append(Label(labels - 6, middle, _cut(group, labels), "end", "text"))
        floor = next((floor for row in own if (floor := table.get(row, "floor")) is not None), None)
        if floor is not None:
            tip = f"floor, the best constant answer: {table.format(floor)}"
            line = vertical(
                x.at(floor), top - 1, top + len(series) * ROW + 1, "muted", width=1.5, dashed=True
            )
            panel.shapes.append(replace(line, tip=tip))
        for i, name in enumerate(series):
            of_series = table.by("series", own).get(name, [])
            panel.shapes += _dot(table, of_series, x, top + (i + 0.5) * ROW, table.place(name))
    return panel


def _cut(words: str, room: float) -> str:
    letters = int((room - 8) / LETTER)
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def _dot_scale(table: Table, rows: list[dict], start: float, end: float) -> Scale:
    roles = ("value", "low", "high", "floor")
    values = [value for row in rows for role in roles if (value := table.get(row, role)) is not None]
    if margin := table.encoding.get("margin"):
        values += [-margin, 0.0, margin]
    if table.encoding.get("log"):
        return logarithmic(values, start, end)
    return linear(values, start, end, table.encoding.get("zero") or table.encoding.get("format") == "percent")


def _dot(table: Table, rows: list[dict], x: Scale, y: float, place: int | None) -> list[Shape]:
    """One condition in one group: its intervals and value, its seeds small and faint."""
    whole = next((row for row in rows if row.get("seed") is None), None)
    if whole is None:
        return []
    shapes: list[Shape] = []
    for row in rows:
        if row.get("seed") is not None:
            value = table.get(row, "value")
            shapes.append(mark(x.at(value), y, place, 2.4, 0.4, f"seed {row['seed']}: {table.format(value)}"))
    value, low, high = (table.get(whole, role) for role in ("value", "low", "high"))
    tip = " · ".join(filter(None, (table.get(whole, "group"), table.get(whole, "series"))))
    tip += f"\n{table.format(value)}"
    if low is not None:
        tip += f", 95% interval {table.format(low)} to {table.format(high)}"
        shapes.append(Line([(x.at(low), y), (x.at(high), y)], color(place), 2, 0.8))
    if (narrow := table.get(whole, "low90")) is not None:
        ends = [(x.at(narrow), y), (x.at(table.get(whole, "high90")), y)]
        shapes.append(Line(ends, color(place), 6, 0.5))
    shapes.append(mark(x.at(value), y, place, 5, tip=tip))
    return [*shapes, Label(WIDTH, y + 4, table.format(value), "end")]


# --- lines: a curve for every series, faint for a seed ------------------------------------------------------


def lines(table: Table, title: str, rows: list[dict]) -> Panel:
    panel, bottom, target = Panel(title, WIDTH, 250), 210, table.encoding.get("target")
    y = linear([*_ends(table, rows), *([] if target is None else [target])], bottom, 10, wanted=4)
    left = max(_width(table.tick(tick)) for tick in y.ticks) + 10
    x = linear([table.get(row, "x") for row in rows], left, WIDTH - 12, wanted=4)
    x = x._replace(ticks=[tick for tick in x.ticks if tick == int(tick)])  # of steps
    if table.encoding.get("log"):
        x = doubling([table.get(row, "x") for row in rows], left + 8, WIDTH - 20)
    label = Label((left + WIDTH) / 2, panel.height - 5, table.encoding["x_label"], "middle")
    panel.shapes.append(label)
    _grid(panel, table, x, y, left, bottom)
    if target is not None:
        tip = f"target: {table.format(target)}"
        panel.shapes.append(
            Line([(left, y.at(target)), (WIDTH - 8, y.at(target))], "text", 1.5, 1.0, True, tip)
        )
    means: list[Shape] = []  # over all thin lines
    for name, own in table.by("series", rows).items():
        place, ends = table.place(name), []
        by_seed: dict[int | None, list[dict]] = {}
        for row in own:
            by_seed.setdefault(row["seed"], []).append(row)
        for seed, line in by_seed.items():
            path = [(x.at(table.get(row, "x")), y.at(table.get(row, "value"))) for row in line]
            style = {"width": 2.4} if seed is None else {"opacity": 0.35}
            tip = f"{name}, {'mean' if seed is None else f'seed {seed}'}"
            tip += f": ends at {table.format(table.get(line[-1], 'value'))}"
            (means if seed is None else panel.shapes).append(Line(path, color(place), tip=tip, **style))
            for (at, _), row in zip(path, line):
                if (low := table.get(row, "low")) is not None:
                    high = y.at(table.get(row, "high"))
                    means.append(vertical(at, y.at(low), high, color(place), width=2, opacity=0.8))
            ends.append((seed is not None, path[-1]))
        means.append(mark(*min(ends)[1], place, 4))
    panel.shapes += means
    return panel


def _ends(table: Table, rows: list[dict]) -> list[float]:
    """Values and the ends of their intervals."""
    roles = ("value", "low", "high")
    return [value for row in rows for role in roles if (value := table.get(row, role)) is not None]


def _grid(panel: Panel, table: Table, x: Scale, y: Scale, left: float, bottom: float) -> None:
    for tick in y.ticks:
        panel.shapes.append(Line([(left, y.at(tick)), (WIDTH - 8, y.at(tick))], "line"))
        panel.shapes.append(Label(left - 6, y.at(tick) + 4, table.tick(tick), "end"))
    for tick in x.ticks:
        panel.shapes.append(Label(x.at(tick), bottom + 18, count(tick), "middle"))


# --- plane: a value with its interval over another quantity -------------------------------------------------


def plane(table: Table, title: str, rows: list[dict]) -> Panel:
    panel, bottom = Panel(title, WIDTH, 250), 214
    y = linear(_ends(table, rows), bottom, 10, wanted=4)
    left = max(_width(table.tick(tick)) for tick in y.ticks) + 10
    across = [table.get(row, "x") for row in rows]
    wide = min(across) > 0 and max(across) >= 100 * min(across)
    x = (logarithmic if wide else linear)(across, left + 8, WIDTH - 40, wanted=4)
    _grid(panel, table, x, y, left, bottom)
    named = set()
    for row in sorted(rows, key=lambda row: row["seed"] is None):  # the means over their seeds
        place, value = table.place(table.get(row, "series")), table.get(row, "value")
        stage, where = table.get(row, "group"), table.get(row, "x")
        seed = "" if row["seed"] is None else f", seed {row['seed']}"
        tip = f"{stage} · {table.get(row, 'series')}{seed}"
        tip += f"\n{table.format(value)} at {count(where)}"
        if row["seed"] is not None:
            panel.shapes.append(mark(x.at(where), y.at(value), place, 2.4, 0.4, tip))
            continue
        if (low := table.get(row, "low")) is not None:
            panel.shapes.append(
                vertical(x.at(where), y.at(low), y.at(table.get(row, "high")), color(place), width=2)
            )
        panel.shapes.append(mark(x.at(where), y.at(value), place, 5, tip=tip))
        if stage not in named:
            panel.shapes.append(Label(x.at(where) + 8, y.at(value) + 3, stage, size=10))
        named.add(stage)
    return panel


# --- bars: shares that add up to a whole --------------------------------------------------------------------


def bars(table: Table, title: str, rows: list[dict]) -> Panel:
    parts, shapes, top = table.encoding["parts"], [], 0
    labels = min(0.4 * WIDTH, max(_width(table.get(row, "series")) for row in rows) + 16)
    for group, of_group in table.by("group", rows).items():
        shapes.append(Label(0, top + 14, group, color="text"))
        top += 22
        for name, own in table.by("series", of_group).items():
            shapes.append(Label(labels - 8, top + 13, _cut(name, labels), "end"))
            start = labels
            for row in own:
                share, part = table.get(row, "value"), table.get(row, "part")
                width, i = share * (WIDTH - labels - 2), parts.index(part)
                tip = f"{group} · {name}\n{part}: {percent(share)}" + (
                    f", {row['asked']} asked" if "asked" in row else ""
                )
                shapes.append(Rect(start, top, max(0.0, width - 1), 17, f"p{i}", tip=tip))
                if width > 40:
                    words = f"{100 * share:.0f}%"
                    shapes.append(Label(start + width / 2, top + 12.5, words, "middle", f"on-p{i}", 10.5))
                start += width
            top += 22
        top += 8
    return Panel(title, WIDTH, top, shapes)


# --- heat: a value for every cell of a grid -----------------------------------------------------------------


def heat(table: Table, title: str, rows: list[dict]) -> Panel:
    across, down = (sorted({table.get(row, role) for row in rows}) for role in ("column", "row"))
    scale = table.get(rows[0], "scale")
    most = max(abs(table.get(row, "value")) for row in table.rows if table.get(row, "scale") == scale) or 1
    most = table.encoding.get("full", {}).get(scale, most)
    size = min(38.0, 258 / len(across))
    panel = Panel(title, 282, len(down) * size + 44)
    panel.shapes.append(Label(22, panel.height - 6, scale, size=10))
    panel.shapes += [Label(22 + (i + 0.5) * size, 12, str(v), "middle") for i, v in enumerate(across)]
    panel.shapes += [Label(14, 26 + (j + 0.5) * size, str(v), "end") for j, v in enumerate(down)]
    for row in rows:
        value = table.get(row, "value")
        x = 22 + across.index(table.get(row, "column")) * size
        y = 22 + down.index(table.get(row, "row")) * size
        tip = f"{table.get(row, 'label')}\n{table.format(value)} {scale}"
        share, role = abs(value) / most, "p2" if value < 0 else "heat"
        panel.shapes.append(Rect(x + 1, y + 1, size - 2, size - 2, role, max(0.04, share), tip))
        if size > 21:
            role = "surface" if share > 0.55 and value > 0 else "text"
            panel.shapes.append(Label(x + size / 2, y + size / 2 + 3.5, short(value, 2), "middle", role, 9.5))
    return panel


KINDS = {"dots": dots, "lines": lines, "plane": plane, "bars": bars, "heat": heat}


# --- a whole figure, as one drawing -------------------------------------------------------------------------


def sheet(figure: dict, conditions: list[str]) -> Panel:
    """Title, legend and all panels of a figure in one, for a file."""
    found = panels(figure, conditions)
    columns = min(len(found), 4 if figure["kind"] == "heat" else 2)
    wide = max(panel.width for panel in found) + 36
    whole = Panel(figure["title"], columns * wide + 12, 34)
    whole.shapes.append(Label(20, 22, figure["title"], color="text", size=14, bold=True))
    left = 20.0
    for name, swatch in legend(figure, conditions):
        if left > 20 and left + 30 + _width(name) > whole.width:
            left, whole.height = 20, whole.height + 20
        whole.shapes += [moved(swatch, left, whole.height), Label(left + 19, whole.height + 11, name)]
        left += 36 + _width(name)
    whole.height += 26 if left > 20 else 0
    for i in range(0, len(found), columns):
        line = found[i : i + columns]
        for j, panel in enumerate(line):
            x, y = 20 + j * wide, whole.height + (18 if panel.title else 0)
            whole.shapes.append(Label(x, whole.height + 8, panel.title, color="text", bold=True))
            whole.shapes += [moved(shape, x, y) for shape in panel.shapes]
        whole.height += max(panel.height for panel in line) + 34
    return whole
