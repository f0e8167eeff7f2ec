"""What `compare.metric` may name: a set of problems or a kind of probes, by its accuracy, or another measure of a set.

    word_problems               the share of right answers, in points
    probes.table                likewise
    word_problems.gold_bits     bits per byte of the reference answers, a mean over all their bytes: lower is better.
                                Of conditions alone that can write those answers exactly (eval/likelihood.py)

A margin is in the metric's own unit: 0.02 is 2 points, or 0.02 bits per byte.
"""

from typing import NamedTuple

from eval.tasks import probes
from pipeline.experiment import Experiment
from pipeline.kinds import Refuse
from tokenizer.conditions import Condition

GOLD_BITS = ".gold_bits"


class Metric(NamedTuple):
    name: str  # as the file says it
    set: str  # the problems
    unit: str = "points"  # of a difference
    lower_is_better: bool = False


def find(name: str) -> Metric:
    """The metric of a name that `check` has let pass."""
    if name.endswith(GOLD_BITS):
        return Metric(name, name.removesuffix(GOLD_BITS), "bits per byte", lower_is_better=True)
    return Metric(name, name)


def names(experiment: Experiment) -> list[str]:
    """All that an experiment may ask for."""
    if experiment.eval is None:
        return []
    first = Condition.of(experiment, next(iter(experiment.conditions)))
    kinds = probes.probes(first) if experiment.eval.probes else ()
    sets = list(experiment.eval.sets)
    return [*sets, *(f"probes.{kind}" for kind in kinds), *(f"{key}{GOLD_BITS}" for key in sets)]


def check(experiment: Experiment, refuse: Refuse) -> None:
    """Refuses a metric that there is not, or that a condition of the contrasts has not."""
    compare = experiment.compare
    assert compare is not None
    if compare.metric not in (there := names(experiment)):
        refuse("compare.metric", f"no '{compare.metric}'; there are {', '.join(there)}")
    metric = find(compare.metric)
    if not metric.lower_is_better:
        return
    for condition in dict.fromkeys(name for pair in (compare.contrast, *compare.secondary) for name in pair):
        if not Condition.of(experiment, condition).invertible:
            why = f"'{condition}' cannot write the reference answers exactly and has no bits of them"
            refuse("compare.metric", f"{why}; ask {metric.set}")
    if compare.ladder:
        refuse("compare.ladder", f"climbs to an accuracy, and {metric.name} is none; ask {metric.set}")
