"""The figures about compute: every model's place by its training FLOPs and by the tokens that an answer takes."""

import statistics
from collections.abc import Callable, Iterator

from eval.report.figures import Figure, summary
from eval.report.training_figures import invertible
from eval.verdict import stats
from eval.verdict.results import Arm, Study

NOTE = (
    "Every stage's models by what they were trained with, their ancestors' training included, and by the tokens of a"
    " mean answer to the same problems. {} and to the left is better. Small marks are seeds."
)


def training_flops(study: Study, arm: Arm, name: str) -> float | None:
    return arm.training_flops(name)


def tokens_an_answer(study: Study, arm: Arm, name: str) -> float | None:
    return summary(arm, name, study.metric.set).get("tokens_per_response")


AXES: dict[str, Callable[[Study, Arm, str], float | None]] = {
    "training FLOPs": training_flops,
    "tokens an answer": tokens_an_answer,
}


def _placed(study: Study) -> Iterator[tuple[str, str, str, list[Arm], list[float]]]:
    """(axis, stage, condition, arms, their places on the axis)."""
    metric = study.metric.set
    for axis, place in AXES.items():
        for name, condition, arms in study.evaluated():
            asked = [arm for arm in arms if metric in arm.items[name]]
            places = [place(study, arm, name) for arm in asked]
            if places and None not in places:
                yield axis, name, condition, asked, places


def _rows(head: list[str], arms: list[Arm], places: list[float], values: list[float], interval) -> list[list]:
    seeds = [[*head, arm.seed, x, y, None, None] for arm, x, y in zip(arms, places, values) if len(arms) > 1]
    return [[*head, None, statistics.fmean(places), statistics.fmean(values), *interval], *seeds]


def accuracy(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    for axis, name, condition, arms, places in _placed(study):
        score = content["scores"][name][condition]["sets"][metric]
        values = [score["by_seed"][str(arm.seed)] for arm in arms]
        rows += _rows([axis, name, condition], arms, places, values, (score["low"], score["high"]))
    note = f"{NOTE.format('Up')} Bars are 95% intervals for other problems and other seeds."
    return _figure("compute", f"Accuracy on {metric} by compute", note, "accuracy", "percent", rows)


def gold_bits(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    for axis, name, condition, arms, places in _placed(study):
        scores = [summary(arm, name, metric) for arm in arms]
        values = [score.get("gold_bits_per_byte") for score in scores]
        if None not in values and invertible(study, condition):
            interval = stats.mean_interval(values) or (None, None)
            own = _rows([axis, name, condition], arms, places, values, interval)
            counts = [score.get("gold_n") for score in scores]
            rows += [[*row, n] for row, n in zip(own, [counts[0], *counts])]
    note = f"{NOTE.format('Down')} Bars are 95% intervals of t, for other seeds. Shown of"
    note += " conditions that can write the reference answer exactly, over the `scored` answers that fit the context"
    note += " in every one of them."
    title = f"Bits per byte of the reference answer to {metric}, by compute"
    return _figure("compute_bits", title, note, "bits_per_byte", "number", rows, ("scored",))


def _figure(
    key: str, title: str, note: str, value: str, form: str, rows: list[list], more: tuple[str, ...] = ()
) -> Figure:
    columns = ["axis", "stage", "condition", "seed", "place", value, "low", "high", *more]
    encoding = dict(
        facet="axis", group="stage", series="condition", x="place", value=value, low="low", high="high"
    )
    return Figure(key, "Compute", "plane", title, note, columns, rows, encoding | {"format": form})
