"""What did reinforcement learning make of its parents? The registered questions of miniature_posttraining.yaml.

    python -m scripts.reinforced experiments/miniature_posttraining.yaml runs/miniature_posttraining/report/report.json

For each GRPO stage and condition: the change of greedy accuracy, of the mean of the samples and of pass@k against the
stage that it started from, paired by seed with 95% t intervals, and how many runs collapsed. Then, for each parent,
the exact McNemar test between binary rewards and each other set over all arms. A run has collapsed if its greedy accuracy
is below half of its parent's and, over its last ten steps on average, `zero_variance` is at least 0.9, entropy is
at most half of the first ten steps', or at least half of the completions repeat themselves. Reads the report alone.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np

from eval.verdict import stats
from eval.verdict.results import POINTS
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment, load
from scripts.strata import interval

EDGE = 10  # steps at either end of a run, which are averaged
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


def collapsed(before: float, after: float, curve: dict[str, list[float]]) -> bool:
    """Whether a run with these greedy accuracies and curves has collapsed, as the module says."""

    def last(measure: str) -> float:
        return statistics.fmean(curve[measure][-EDGE:])

    return after < before / 2 and (
        last("zero variance") >= 0.9
        or last("entropy") <= statistics.fmean(curve["entropy"][:EDGE]) / 2
        or last("repeated") >= 0.5
    )


def collapses(experiment: Experiment, report: dict) -> dict[str, dict[Arm, bool]]:
    """GRPO stage → whether each arm's run collapsed."""
    by_run = curves(report)
    result = {}
    for stage in reinforced(experiment):
        before = accuracies(report, experiment.stages[stage].parent, "")
        result[stage] = {
            arm: collapsed(before[arm], after, by_run[stage, *arm])
            for arm, after in accuracies(report, stage, "").items()
        }
    return result


def change(before: dict[Arm, float], after: dict[Arm, float], condition: str) -> str:
    seeds = sorted(seed for name, seed in after if name == condition)
    return interval(100 * np.array([after[condition, s] - before[condition, s] for s in seeds]))


def refuse(experiment: Experiment, file: str) -> None:
    """Raise UserError for an experiment that cannot answer the questions."""
    if not experiment.eval or not experiment.eval.samples:
        raise UserError(f"{file}: eval.samples is 0; the questions are about samples")
    if len(experiment.seeds) < 2:
        raise UserError(f"{file}: seeds: has one; an interval over seeds takes two")
    for name in reinforced(experiment):
        spec = experiment.stages[name]
        for stage in (name, spec.parent):
            if not experiment.stage(f"eval_{stage}").samples:
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
    best = f"pass@{experiment.eval.samples}"
    lost = collapses(experiment, report)
    print(f"| stage | from | condition | greedy [95%] | mean of samples | {best} | collapsed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for stage, by_arm in lost.items():
        parent = experiment.stages[stage].parent
        for condition in report["conditions"]:
            columns = [
                change(accuracies(report, parent, metric), accuracies(report, stage, metric), condition)
                for metric in ("", "mean", best)
            ]
            runs = [gone for (name, _), gone in by_arm.items() if name == condition]
            print(
                f"| {stage} | {parent} | {condition} | {' | '.join(columns)} | {sum(runs)} of {len(runs)} |"
            )
    print("\n| collapsed | arms | binary alone | the other alone | p (exact McNemar) |")
    print("| --- | --- | --- | --- | --- |")
    binary = [name for name in lost if experiment.stages[name].rewards == "binary"]
    for stage in binary:
        for other in lost:
            if other == stage or experiment.stages[other].parent != experiment.stages[stage].parent:
                continue
            arms = sorted(lost[stage].keys() & lost[other].keys())
            pair = [np.array([lost[name][arm] for arm in arms]) for name in (stage, other)]
            alone, beside = stats.discordant(*pair)
            print(
                f"| {stage} against {other} | {len(arms)} | {alone} | {beside} | {stats.mcnemar(*pair):.3g} |"
            )


if __name__ == "__main__":
    cli(main)
