"""The grid of arithmetic: every cell is that of the outcomes, seen and unseen lengths apart."""

from types import SimpleNamespace

import numpy as np
import pytest

from eval.report import grid_figures, plots
from eval.report.grid_figures import BINS, DIFFERENCE, RIGHT
from eval.verdict.results import Arm, Items, Study
from pipeline.sample.named import answered

ROWS = list(answered("arithmetic", "test", 400, 0))
CONTENT = {
    "question": {"stage": "export", "set": "items"},
    "conditions": {"left": "plain", "right": "plain", "third": "plain"},
    "primary": {"treated": "right", "control": "left", "seeds": [0, 1]},
}


@pytest.fixture(scope="module")
def study():
    """Two conditions × three seeds, of which two are paired; the third condition has not been asked."""
    rng, n = np.random.default_rng(0), len(ROWS)
    cells = {
        key: np.array([np.nan if row[key] is None else row[key] for row in ROWS], float)
        for key in ("digits_a", "digits_b", "carries", "seen")
    }
    cells["op"] = np.array([row["op"] for row in ROWS])
    nothing, ids, arms = np.full(n, np.nan, np.float32), np.arange(n).astype(str), []
    for seed in range(3):
        for condition, share in (("left", 0.3), ("right", 0.6)):
            arm = Arm(condition, seed)
            words = Items(ids, ids, rng.random(n) < share, nothing, nothing)
            arm.items["export"] = {"items": words, "grid": words._replace(cells=cells)}
            arms.append(arm)
    return Study(SimpleNamespace(), arms, [])


def made(study, name):
    figures = {figure.id: figure for figure in (make(study, CONTENT) for make in grid_figures.FIGURES)}
    return [dict(zip(figures[name].columns, row)) for row in figures[name].rows]


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("axis", ["digits", "carries"])
def test_a_cell_is_the_mean_of_its_problems(study, axis, seen):
    outcomes = {(arm.condition, arm.seed): arm.items["export"]["grid"].correct for arm in study.arms}
    problems = 0
    for row in made(study, f"grid_{axis}_{'seen' if seen else 'unseen'}"):
        op, _, panel = row["panel"].partition(" · ")
        own = [
            i
            for i, each in enumerate(ROWS)
            if each["op"] == op and each["seen"] == seen and place(each, axis) == (row["row"], row["column"])
        ]
        assert own and row["problems"] == len(own)
        if row["measure"] == RIGHT:
            mean = np.mean([outcomes[panel, seed][own] for seed in range(3)])
            problems += len(own)
        else:
            assert (panel, row["measure"]) == ("right − left", DIFFERENCE)
            mean = np.mean([outcomes["right", s][own] * 1.0 - outcomes["left", s][own] for s in (0, 1)])
        assert row["value"] == pytest.approx(100 * mean, abs=1e-3)
    there = [each for each in ROWS if each["seen"] == seen and place(each, axis)]
    assert problems == 2 * len(there)  # none is left out


def place(row, axis):
    if axis == "digits":
        return row["digits_a"], row["digits_b"]
    if row["carries"] is None:
        return None
    return max(row["digits_a"], row["digits_b"]), max(low for low in BINS if low <= row["carries"])


def test_a_difference_below_zero_has_a_colour_of_its_own_and_no_cell_is_drawn_twice(study):
    for make in grid_figures.FIGURES:
        figure = vars(make(study, CONTENT))
        for panel in plots.panels(figure, list(CONTENT["conditions"])):
            rects = [shape for shape in panel.shapes if hasattr(shape, "tip") and shape.tip]
            assert len({(rect.x, rect.y) for rect in rects}) == len(rects) > 0
            below = {
                "−" in rect.tip.partition("\n")[2].partition(" ")[0] for rect in rects if rect.color == "p2"
            }
            assert below <= {True} and all(rect.opacity <= 1 for rect in rects)


def test_without_a_grid_there_is_no_figure(study):
    arms = [
        Arm(arm.condition, arm.seed, items={"export": {"items": arm.items["export"]["items"]}})
        for arm in study.arms
    ]
    assert not any(make(Study(study.experiment, arms, []), CONTENT).rows for make in grid_figures.FIGURES)
