"""What became of the difference, and what did reinforcement learning make of its parents? The registered questions of
miniature_posttraining.yaml.

    python -m scripts.reinforced experiments/miniature_posttraining.yaml runs/miniature_posttraining/report/report.json

First, stage by stage, greedy accuracy and the difference with the report's interval, beside the published ones with Newcombe's
interval for independent samples, since which problems were solved is not known. Then, for each GRPO stage and condition, the
change of greedy accuracy, of the mean of the samples and of pass@k against the stage that it started from, paired by seed
with 95% t intervals; what the logs say of the last ten steps, as means over seeds (entropy: of the first ten too); how many
runs collapsed; and, not registered, how the difference between the conditions changed. Then, for each parent, the exact
McNemar test between binary rewards and each other set over all arms. A run has collapsed if its greedy accuracy is below half
of its parent's and, over its last ten steps on average, `zero_variance` is at least 0.9, entropy is at most half of the first
ten steps', or at least half of the completions repeat themselves. Reads the report alone.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.report import tables
from eval.verdict import stats
from eval.verdict.results import POINTS
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment, load
from scripts.strata import interval, shown

EDGE = 10  # steps at either end of a run, which are averaged


class Published(NamedTuple):
    """A row of the exploration's table (REPLICATION.md): so many of the GSM8K problems, facts in an answer of mul_tokens."""

    baseline: float
    mul_tokens: float
    problems: int
    facts: float | None = None


PUBLISHED = {  # 1.5% and 2.5% were published, which are no shares of 500
    "sft_tulu": Published(7.5, 7.5, 500),
    "sft_gsm8k": Published(12.5, 10, 500, 0.85),
    "sft_curriculum": Published(12, 19, 500),
    "curriculum_published": Published(7, 11, 300, 1.03),
    "sft_tinygsm": Published(9, 12, 500, 0.17),
}
Arm = tuple[str, int]  # condition, seed
Curves = dict[tuple[str, str, int], dict[str, list[float]]]  # (stage, condition, seed) → measure → by step


def reinforced(experiment: Experiment) -> list[str]:
    """The stages of GRPO."""
    return [name for name in experiment.stages if experiment.kind(name) == "grpo"]


def accuracies(report: dict, stage: str, metric: str) -> dict[Arm, float]:
    """Each arm's accuracy after a stage, on the metric of its samples or, without one, of its greedy answers."""
    name, result = report["question"]["set"], {}
    for condition, scores in report["scores"].get(stage, {}).items():
        score = scores["samples"][f"{name}.{metric}"] if metric else scores["sets"][name]
        result |= {(condition, int(seed)): value for seed, value in score["by_seed"].items()}
    return result


def curves(report: dict) -> Curves:
    result: Curves = defaultdict(lambda: defaultdict(list))
    for label, condition, seed, _, value in report["figures"]["rewards"]["rows"]:
        if seed is not None:  # else the mean over seeds
            stage, measure = label.split(": ")
            result[stage, condition, seed][measure].append(value)
    return result


def edges(curve: dict[str, list[float]]) -> dict[str, float]:
    """What a run's log says of its last steps, and its entropy in the first, as means."""
    last = {
        measure: statistics.fmean(curve[measure][-EDGE:])
        for measure in ("zero variance", "repeated", "entropy")
    }
    return {**last, "first entropy": statistics.fmean(curve["entropy"][:EDGE])}


def collapsed(before: float, after: float, curve: dict[str, list[float]]) -> bool:
    """Whether a run with these greedy accuracies and curves has collapsed, as the module says."""
    of = edges(curve)
    return after < before / 2 and (
        of["zero variance"] >= 0.9 or of["entropy"] <= of["first entropy"] / 2 or of["repeated"] >= 0.5
    )


def collapses(experiment: Experiment, report: dict) -> dict[str, dict[Arm, bool]]:
    """GRPO stage → whether each arm's run collapsed."""
    by_run, result = curves(report), {}
    for stage in reinforced(experiment):
        before = accuracies(report, experiment.stages[stage].parent, "")
        result[stage] = {
            arm: collapsed(before[arm], after, by_run[stage, *arm])
            for arm, after in accuracies(report, stage, "").items()
        }
    return result


def beside(report: dict) -> Iterator[list[str]]:
    """A table: ours and the published, stage by stage."""
    name, control, treated = report["question"]["set"], *contrast(report)
    heads = [control, treated, "points [95%]", "facts an answer"]
    yield ["after", *heads, *(f"published: {head}" for head in heads)]
    for each in report["by_stage"]:
        stage, published = each["stage"], PUBLISHED.get(each["stage"])
        columns = [f"{each['mean'][condition]:.1%}" for condition in (control, treated)]
        columns.append(percents(each["difference"], each["interval"]))
        columns.append(f"{report['scores'][stage][treated]['sets'][name]['fact_tokens_per_response']:.2f}")
        if published:
            right, other, problems, facts = published
            columns += [f"{right / problems:.1%}", f"{other / problems:.1%}"]
            columns.append(percents(*stats.unpaired_difference(right, problems, other, problems)))
            columns.append("–" if facts is None else f"{facts:.2f}")
        else:
            columns += ["–"] * len(heads)
        yield [stage, *columns]


def percents(difference: float, ends: Sequence[float]) -> str:
    return shown(100 * difference, [100 * end for end in ends])


def gained(report: dict, before: str, after: str, metric: str) -> dict[str, np.ndarray]:
    """Condition → the change of its accuracy by seed, in the order of the report's seeds."""
    parents, children = accuracies(report, before, metric), accuracies(report, after, metric)
    return {
        condition: np.array(
            [children[condition, seed] - parents[condition, seed] for seed in report["seeds"]]
        )
        for condition in report["conditions"]
    }


def contrast(report: dict) -> tuple[str, str]:
    """The control and the treated condition."""
    return report["primary"]["control"], report["primary"]["treated"]


def changes(experiment: Experiment, report: dict, lost: dict[str, dict[Arm, bool]]) -> Iterator[list[str]]:
    """A table: what every GRPO stage changed, in each condition and in their difference, and how many runs collapsed."""
    best, by_run, control, treated = f"pass@{experiment.eval.samples}", curves(report), *contrast(report)
    changed, logged = (
        ["greedy [95%]", "mean of samples", best],
        ["groups without variance", "repeating", "entropy"],
    )
    yield ["stage", "from", "condition", *changed, *logged, "collapsed"]
    for stage, by_arm in lost.items():
        parent = experiment.stages[stage].parent
        gains = [gained(report, parent, stage, metric) for metric in ("", "mean", best)]
        for condition in report["conditions"]:
            columns = [interval(100 * gain[condition]) for gain in gains]
            runs = [arm for arm in by_arm if arm[0] == condition]
            logs = [edges(by_run[stage, *arm]) for arm in runs]
            of = {key: statistics.fmean(log[key] for log in logs) for key in logs[0]}
            columns += [f"{of['zero variance']:.0%}", f"{of['repeated']:.0%}"]
            columns.append(f"{of['first entropy']:.2f} → {of['entropy']:.2f}")
            columns.append(f"{sum(by_arm[arm] for arm in runs)} of {len(runs)}")
            yield [stage, parent, condition, *columns]
        columns = [interval(100 * (gain[treated] - gain[control])) for gain in gains]
        yield [stage, parent, f"{treated} − {control}", *columns, *["–"] * 4]


def tests(experiment: Experiment, lost: dict[str, dict[Arm, bool]]) -> Iterator[list[str]]:
    """A table: did more runs collapse under binary rewards than under each other set?"""
    yield ["collapsed", "arms", "binary alone", "the other alone", "p (exact McNemar)"]
    for stage in (name for name in lost if experiment.stages[name].rewards == "binary"):
        for other in lost:
            if other == stage or experiment.stages[other].parent != experiment.stages[stage].parent:
                continue
            arms = sorted(lost[stage].keys() & lost[other].keys())
            pair = [np.array([lost[name][arm] for arm in arms]) for name in (stage, other)]
            alone, other_alone = stats.discordant(*pair)
            counts = map(str, (len(arms), alone, other_alone))
            yield [f"{stage} against {other}", *counts, f"{stats.mcnemar(*pair):.3g}"]


def refuse(experiment: Experiment, file: str) -> None:
    """Raise UserError for an experiment that cannot answer the questions."""
    if not experiment.eval or not experiment.eval.samples:
        raise UserError(f"{file}: eval.samples is 0; the questions are about samples")
    asked = experiment.compare
    if asked is None or asked.metric not in experiment.eval.sets:
        raise UserError(f"{file}: compare.metric: must be one of eval.sets; the tables are of greedy answers")
    if len(experiment.seeds) < 2:
        raise UserError(f"{file}: seeds: has one; an interval over seeds takes two")
    for name in reinforced(experiment):
        spec = experiment.stages[name]
        for stage in (name, spec.parent):
            if not experiment.samples_after(stage):
                raise UserError(f"{file}: eval.sampled: lacks '{stage}'; the questions are about its samples")
        if spec.steps > POINTS:
            raise UserError(
                f"{file}: stages.{name}.steps: reports keep means of several steps above {POINTS}, and"
                " the last ten are then unknown"
            )


def refuse_unfinished(experiment: Experiment, report: dict, file: Path) -> None:
    """Raise UserError for a report that lacks an arm: the registered counts are over all of them."""
    for name in reinforced(experiment):
        for stage in (name, experiment.stages[name].parent):
            if lacking := set(experiment.arms()) - accuracies(report, stage, "").keys():
                condition, seed = min(lacking)
                raise UserError(
                    f"{file}: after {stage} {len(lacking)} of {len(experiment.arms())} arms are not evaluated, {condition}"
                    f" {seed} among them; finish the study and compare again"
                )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reinforced",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment")
    parser.add_argument("report", type=Path)
    args = parser.parse_args(argv)
    experiment = load(args.experiment)
    refuse(experiment, args.experiment)
    if not args.report.is_file():
        raise UserError(f"{args.report}: no such file; `bash scripts/compare.sh {args.experiment}` writes it")
    report = json.loads(args.report.read_text(encoding="utf-8"))
    refuse_unfinished(experiment, report, args.report)
    lost = collapses(experiment, report)
    for table in (beside(report), changes(experiment, report, lost), tests(experiment, lost)):
        print(tables.markdown(list(table)), end="\n\n")


if __name__ == "__main__":
    cli(main)
