"""The grid of direct arithmetic (pipeline/sample/arithmetic.py), cell by cell: lengths of training and longer ones apart."""

from collections.abc import Callable
from functools import partial

import numpy as np

from eval.report.figures import Figure
from eval.verdict.results import Items, Study, matrix
from pipeline.sample.arithmetic import OPERATIONS

RIGHT, DIFFERENCE = "right, in percent", "difference, in points"
BINS = (0, 1, 2, 3, 4, 8, 16, 32)  # of carries, each from its own number up to the next


def _by_digits(cells: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(down, across) of every problem; nan where it has no place."""
    return cells["digits_a"], cells["digits_b"]


def _by_carries(cells: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    bins = np.array(BINS, float)[np.searchsorted(BINS, np.nan_to_num(cells["carries"]), "right") - 1]
    across = np.where(np.isnan(cells["carries"]), np.nan, bins)
    return np.maximum(cells["digits_a"], cells["digits_b"]), across


AXES: dict[str, tuple[Callable, str]] = {
    "digits": (_by_digits, "Down: digits of the first operand. Across: of the second."),
    "carries": (
        _by_carries,
        f"Down: digits of the longer operand. Across: carries, {', '.join(map(str, BINS))} and more, each up to the next.",
    ),
}


def figure(axis: str, seen: bool, study: Study, content: dict) -> Figure:
    """Accuracy by condition, and the contrast's difference, for each operation."""
    asked, (place, note) = content["question"], AXES[axis]
    key, items = _grid(study, asked["stage"], asked["set"])
    rows: list[list] = []
    if items is not None:
        assert items.cells is not None
        (down, across), ops = place(items.cells), items.cells["op"]
        there = (items.cells["seen"] == seen) & ~np.isnan(down) & ~np.isnan(across)
        for op in (op for op in dict.fromkeys([*OPERATIONS, *ops]) if op in ops[there]):
            for panel, measure, values in _panels(study, content, key):
                rows += _cells(f"{op} · {panel}", measure, values, down, across, there & (ops == op))
    lengths = "lengths of training" if seen else "longer than in training"
    return Figure(
        f"grid_{axis}_{'seen' if seen else 'unseen'}", "Arithmetic", "heat",
        f"{key} by {axis}, {lengths}, after {asked['stage']}",
        f"{note} Means over seeds; the difference is that of the question's contrast, orange below 0.",
        ["panel", "measure", "cell", "row", "column", "value", "problems"], rows,
        dict(facet="panel", scale="measure", label="cell", row="row", column="column", value="value",
             format="number", full={RIGHT: 100}),
    )  # fmt: skip


def _grid(study: Study, stage: str, first: str) -> tuple[str, Items | None]:
    """A set of problems that are cells of a grid: the question's own, if it is one."""
    sets = {
        key: items for arm in study.arms for key, items in arm.items.get(stage, {}).items() if items.cells
    }
    key = first if first in sets else next(iter(sets), first)
    return key, sets.get(key)


def _panels(study: Study, content: dict, key: str) -> list[tuple[str, str, np.ndarray]]:
    """(name, measure, a value for every problem) of each condition, and of the contrast."""
    stage, contrast = content["question"]["stage"], content["primary"]
    panels = []
    for condition in content["conditions"]:
        if arms := study.arms_of(condition, stage):
            panels.append((condition, RIGHT, 100 * matrix(arms, stage, key).mean(axis=0)))
    if contrast["seeds"]:
        treated, control = (
            matrix([a for a in study.arms_of(contrast[c], stage) if a.seed in contrast["seeds"]], stage, key)
            for c in ("treated", "control")
        )
        name = f"{contrast['treated']} − {contrast['control']}"
        panels.append((name, DIFFERENCE, 100 * (treated.mean(axis=0) - control.mean(axis=0))))
    return panels


def _cells(panel: str, measure: str, values: np.ndarray, down, across, there: np.ndarray) -> list[list]:
    rows = []
    for row, column in sorted({(int(r), int(c)) for r, c in zip(down[there], across[there])}):
        own = there & (down == row) & (across == column)
        n = int(own.sum())
        label = f"{row} × {column}, {n} problem" + "s" * (n != 1)
        rows.append([panel, measure, label, row, column, round(float(values[own].mean()), 3), n])
    return rows


FIGURES = [partial(figure, axis, seen) for axis in AXES for seen in (True, False)]
