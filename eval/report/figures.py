"""What a report shows: each figure as a tidy table with the way it is drawn, worked out once.

Each is drawn once by eval/report/plots.py, for the page and for files, and
written as CSV. A row whose `seed` is empty is over all seeds. There are five kinds:

    dots     a value, with an interval, for every group × series; a panel for each facet
    lines    a curve for every series, faint for a seed
    plane    a value, with an interval, over another quantity
    bars     shares that add up to a whole
    heat     a value for every cell of a grid, by the vocabulary's `cell`
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from eval.grading import errors
from eval.verdict import stats
from eval.verdict.results import Arm, Study


@dataclass
class Figure:
    id: str
    section: str
    kind: str
    title: str
    note: str
    columns: list[str]
    rows: list[list]
    encoding: dict  # what the columns mean to the drawing


def summary(arm: Arm, name: str, metric: str) -> dict:
    """A set's part of an arm's summary.json after a stage."""
    kind = metric.removeprefix("probes.")
    return arm.summaries[name]["sets" if kind == metric else "probes"][kind]


def with_mean(head: list, values: dict[int, float], tail: Iterable = ()) -> list[list]:
    """A row for all seeds and one for each: `head`, seed, value, `tail`."""
    mean = [*head, None, statistics.fmean(values.values()), *tail]
    return [mean, *([*head, seed, value, *tail] for seed, value in values.items() if len(values) > 1)]


def short(value: float) -> float:
    return float(f"{value:.6g}")


# --- outcomes -----------------------------------------------------------------------------------------------


def accuracy(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    sets = dict.fromkeys(
        key for cells in content["scores"].values() for cell in cells.values() for key in cell["sets"]
    )
    for key in sorted(sets, key=lambda key: (key != metric, key.startswith("probes."))):
        for name, cells in content["scores"].items():
            for condition, cell in cells.items():
                if score := cell["sets"].get(key):
                    rows.append(
                        [
                            key,
                            name,
                            condition,
                            None,
                            *(score[k] for k in ("accuracy", "low", "high", "floor", "n")),
                        ]
                    )
                    if len(score["by_seed"]) > 1:
                        rows += [
                            [key, name, condition, int(s), v, None, None, None, score["n"]]
                            for s, v in score["by_seed"].items()
                        ]
    return Figure(
        "accuracy", "Accuracy", "dots", "Accuracy after every stage",
        "Bars are 95% intervals for other problems (Wilson's) and, where there are several seeds, for other seeds"
        " too; single runs are the small marks. The dashed line is the floor: what the best constant answer"
        " scores without reading.",
        ["set", "stage", "condition", "seed", "accuracy", "low", "high", "floor", "problems"], rows,
        dict(facet="set", group="stage", series="condition", value="accuracy", low="low", high="high",
             floor="floor", format="percent", first=metric),
    )  # fmt: skip


def strata(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    for name, cells in content["scores"].items():
        for condition, cell in cells.items():
            for key, score in cell["sets"].get(metric, {}).get("strata", {}).items():
                low, high = stats.wilson(score["accuracy"] * score["n"], round(score["n"]))
                said = key.replace("_", " ")
                rows.append(
                    [
                        said,
                        name,
                        condition,
                        None,
                        score["accuracy"],
                        low,
                        high,
                        score["floor"],
                        round(score["n"]),
                    ]
                )
    return Figure(
        "strata", "Accuracy", "dots", f"{metric} by kind of problem",
        "Fact-bearing: the reference solution writes a fact of the vocabulary; decomposed: once its"
        " operations are worked digit by digit. Seen: training knows the problem's template, though not its"
        " numbers.",
        ["stratum", "stage", "condition", "seed", "accuracy", "low", "high", "floor", "problems"], rows,
        dict(facet="stratum", group="stage", series="condition", value="accuracy", low="low", high="high",
             floor="floor", format="percent"),
    )  # fmt: skip


def _difference_rows(key: str, contrast: dict) -> list[list]:
    if contrast["difference"] is None:
        return []
    tail = [contrast["p"], contrast.get("p_holm")]
    by_seed = contrast["by_seed"] if len(contrast["by_seed"]) > 1 else {}
    seeds = [[key, int(seed), value, *[None] * 6] for seed, value in by_seed.items()]
    return [
        [key, None, contrast["difference"], *contrast["interval"], *contrast["equivalence"], *tail],
        *seeds,
    ]


DIFFERENCE = ["seed", "difference", "low", "high", "low90", "high90", "p", "p_holm"]
ROLES = dict(value="difference", low="low", high="high", low90="low90", high90="high90")


def _direction(content: dict) -> str:
    return (
        " Lower is better: a difference below 0 is in favour."
        if content["primary"]["lower_is_better"]
        else ""
    )


def differences(study: Study, content: dict) -> Figure:
    asked = content["question"]
    rows = []
    for contrast in (content["primary"], *content["secondary"]):
        rows += _difference_rows(f"{contrast['treated']} − {contrast['control']}", contrast)
    return Figure(
        "differences", "Differences", "dots",
        f"Paired differences on {asked['metric']} after {asked['stage']}",
        "The first line is the question's contrast. Small marks are seeds: the two conditions share a"
        " seed's initialisation, data order and problems. Thin: the 95% interval, held against 0. Thick: the 90%"
        " interval, held against the margin (the band), within which a difference would not matter."
        f"{_direction(content)}",
        ["contrast", *DIFFERENCE], rows,
        dict(group="contrast", margin=content["primary"]["margin"], format=asked["unit"], **ROLES),
    )  # fmt: skip


def by_stage(study: Study, content: dict) -> Figure:
    primary, asked = content["primary"], content["question"]
    rows = [row for each in content["by_stage"] for row in _difference_rows(each["stage"], each)]
    return Figure(
        "by_stage", "Differences", "dots",
        f"{primary['treated']} − {primary['control']} on {asked['metric']}, stage by stage",
        f"The question is about {asked['stage']}. The other stages are described, their intervals not adjusted"
        f" for their number.{_direction(content)}",
        ["stage", *DIFFERENCE], rows,
        dict(group="stage", margin=asked["margin"], format=asked["unit"], **ROLES),
    )  # fmt: skip


def error_classes(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    for name, cells in content["scores"].items():
        for condition, cell in cells.items():
            found = cell["sets"].get(metric, {})
            rows += [
                [name, condition, key, count / found["n"]] for key, count in found.get("errors", {}).items()
            ]
    return Figure(
        "errors", "Answers", "bars", f"What became of the answers to {metric}",
        "No answer: none that can be read. Slip: a written equation is false. Plan: every written equation"
        " is true and the answer is wrong. A condition that writes a fact in one token cannot write it"
        " falsely, so slips are not comparable between conditions that write facts differently.",
        ["stage", "condition", "class", "share"], rows,
        dict(group="stage", series="condition", part="class", parts=list(errors.CLASSES), value="share"),
    )  # fmt: skip
