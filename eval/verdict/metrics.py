"""What `compare.metric` may name: a set of problems or a kind of probes, by its accuracy, or another measure of a set.

    word_problems               the share of right answers, in points
    probes.table                likewise
    word_problems.gold_bits     bits per byte of the reference answers, a mean over all their bytes: lower is better.
                                Of conditions alone that can write those answers exactly (eval/likelihood.py)
    word_problems.maj@16        and mean, pass@k, verifier@k, weighted@k: what samples are worth, in points
                                (eval/verdict/at_k.py); where eval.samples are drawn

A margin is in the metric's own unit: 0.02 is 2 points, or 0.02 bits per byte.
"""

from typing import NamedTuple

from eval import tasks
from eval.tasks import probes
from eval.verdict import at_k
from pipeline.experiment import Experiment
from pipeline.kinds import Refuse
from pipeline.sections import Eval
from tokenizer.conditions import Condition

GOLD_BITS = ".gold_bits"


class Metric(NamedTuple):
    name: str  # as the file says it
    set: str  # the problems
    unit: str = "points"  # of a difference
    lower_is_better: bool = False
    sampled: str | None = None  # its name in eval.verdict.at_k


def find(name: str) -> Metric:
    """The metric of a name that `check` has let pass."""
    if name.endswith(GOLD_BITS):
        return Metric(name, name.removesuffix(GOLD_BITS), "bits per byte", lower_is_better=True)
    if (set_name := at_k.set_of(name)) != name:
        return Metric(name, set_name, sampled=name.removeprefix(f"{set_name}."))
    return Metric(name, name)


def names(experiment: Experiment) -> list[str]:
    """All that an experiment may ask for."""
    if experiment.eval is None:
        return []
    first = Condition.of(experiment, next(iter(experiment.conditions)))
    kinds = probes.probes(first) if experiment.eval.probes else ()
    sets = list(experiment.eval.sets)
    spec, asked = experiment.eval, [*sets, *(f"probes.{kind}" for kind in kinds)]
    asked += [f"{key}{GOLD_BITS}" for key in sets]
    sampled = at_k.names(spec.samples, with_scores=spec.verifier is not None)
    return asked + [f"{key}.{name}" for key in sets if _in_words(spec, key) for name in sampled]


def _in_words(spec: Eval, set_name: str) -> bool:
    return tasks.get(spec.sets[set_name].task).in_words


def check(experiment: Experiment, refuse: Refuse) -> None:
    """Refuses a metric that there is not, or that a condition which is compared by it has not."""
    compare, sweep = experiment.compare, experiment.sweep
    if sweep:
        _check(experiment, "sweep.metric", sweep.metric, list(experiment.conditions), refuse)
    if compare:
        compared = [name for pair in (compare.contrast, *compare.secondary) for name in pair]
        _check(experiment, "compare.metric", compare.metric, compared, refuse)
        if compare.ladder and find(compare.metric).lower_is_better:
            refuse(
                "compare.ladder", f"climbs to an accuracy, and {compare.metric} is none; ask another metric"
            )


def _check(experiment: Experiment, key: str, name: str, conditions: list[str], refuse: Refuse) -> None:
    metric = find(name)
    if metric.sampled and key == "sweep.metric":
        refuse(key, f"'{name}' is of samples, which a sweep does not draw; ask {metric.set}")
    if metric.sampled:
        _check_sampled(metric, experiment, refuse)
    if name not in (there := names(experiment)):
        refuse(key, f"no '{name}'; there are {', '.join(there)}")
    for condition in conditions if metric.lower_is_better else ():
        if not Condition.of(experiment, condition).invertible:
            why = f"'{condition}' cannot write the reference answers exactly and has no bits of them"
            refuse(key, f"{why}; ask {metric.set}")


def _check_sampled(metric: Metric, experiment: Experiment, refuse: Refuse) -> None:
    """Refuses a metric of samples that are not drawn, not so many, not scored, or not after the stages compared."""
    spec, compare = experiment.eval, experiment.compare
    if not spec or not compare or metric.set not in spec.sets:
        return
    kind, _, k = (metric.sampled or "").partition("@")
    if not _in_words(spec, metric.set):
        refuse("compare.metric", f"'{metric.set}' is not answered in words, so it has no samples")
    if not spec.samples:
        refuse("compare.metric", f"'{metric.name}' is of samples, and none are drawn; set eval.samples")
    if kind in at_k.SCORED and spec.verifier is None:
        refuse("compare.metric", f"'{metric.name}' needs a verifier's scores; set eval.verifier")
    if k and int(k) > spec.samples:
        refuse("compare.metric", f"'{metric.name}' takes more than the {spec.samples} of eval.samples")
    if k and int(k) not in at_k.counts(spec.samples):
        there = ", ".join(map(str, at_k.counts(spec.samples)))
        refuse(
            "compare.metric", f"'{metric.name}': k is one of {there}, where eval.samples is {spec.samples}"
        )
    for stage in (compare.stage, *(compare.ladder.stages if compare.ladder else ())):
        if not experiment.samples_after(stage):
            why = f"'{metric.name}' needs samples after '{stage}'; add it to eval.sampled"
            refuse("compare.metric", why)
