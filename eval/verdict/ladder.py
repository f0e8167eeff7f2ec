"""How much compute a condition needs for what another reaches: `compare.ladder`, stages that differ in budget alone.

For every seed, each condition's accuracy over its training FLOPs is a curve through the ladder's stages, straight
lines between them in log FLOPs. Where both curves of a seed cross the accuracy that was registered, the difference
of the two logarithms is that seed's log-ratio; the interval is that of t over seeds. Nothing is extrapolated: where
a curve starts above the accuracy or never reaches it, the seed is named and there is no ratio, since the seeds that
are left would not be those that were drawn.
"""

import math
from collections.abc import Sequence

from eval.verdict import stats
from eval.verdict.metrics import Metric
from eval.verdict.results import Arm, Study, has, values


def crossing(log_flops: Sequence[float], accuracy: Sequence[float], level: float) -> float | None:
    """Log FLOPs where a curve first reaches a level; None where it starts at or above it, or ends below it."""
    if accuracy[0] >= level:
        return None
    points = list(zip(log_flops, accuracy))
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if y0 < level <= y1:
            return x0 + (x1 - x0) * (level - y0) / (y1 - y0)
    return None


def ratio(study: Study) -> dict | None:
    """The compute that the treated condition needs as a multiple of the control's; None without a ladder."""
    question = study.experiment.compare
    if question is None or question.ladder is None:
        return None
    level, stages = question.ladder.accuracy, question.ladder.stages
    logs, unreached, missing = {}, [], []
    treated, control = question.contrast
    for seed in (s for s in study.experiment.seeds_of(treated) if s in study.experiment.seeds_of(control)):
        arms = [
            next(arm for arm in study.arms if (arm.condition, arm.seed) == (c, seed))
            for c in (treated, control)
        ]
        curves = [points for arm in arms if (points := curve(arm, stages, study.metric))]
        if len(curves) < len(arms):
            missing.append(seed)
            continue
        crossings = [crossing([x for x, _ in points], [y for _, y in points], level) for points in curves]
        unreached += [arm.name for arm, place in zip(arms, crossings) if place is None]
        first, second = crossings
        if first is not None and second is not None:
            logs[seed] = first - second
    result = {
        "treated": treated,
        "control": control,
        "metric": question.metric,
        "accuracy": level,
        "stages": stages,
    }
    result |= {"unreached": unreached, "missing": missing, "ratio": None, "interval": None}
    result["by_seed"] = {str(seed): math.exp(log) for seed, log in logs.items()}
    if logs and not unreached:
        result["ratio"] = math.exp(math.fsum(logs.values()) / len(logs))
        interval = stats.mean_interval(list(logs.values()))
        result["interval"] = interval and [math.exp(end) for end in interval]
    return result


def top(study: Study, stages: list[str]) -> str:
    """The stage that trains longest, by the arms that have got so far; the last one where none has."""
    flops = {name: max(arm.training_flops(name) or 0.0 for arm in study.arms) for name in stages}
    return max(reversed(stages), key=flops.__getitem__)


def curve(arm: Arm, stages: list[str], metric: Metric) -> list[tuple[float, float]] | None:
    """(log FLOPs, accuracy) of each stage of the ladder; None where one is missing."""
    if not all(has(arm, name, metric) for name in stages):
        return None
    flops = [flops for name in stages if (flops := arm.training_flops(name))]
    if len(flops) < len(stages):
        return None
    return sorted((math.log(x), float(values([arm], name, metric).mean())) for x, name in zip(flops, stages))
