"""Choose each condition's learning rate from a finished sweep (pipeline/sweep.py), by the best mean over its seeds.

    python -m eval.verdict.sweep experiments/NAME.yaml      # writes RUNS/NAME/sweep.json

The rule is one for all conditions: the best mean of the metric over problems and seeds, and of equal ones the lowest
value. A best that is the first or the last value may lie beyond them: it is said, here and in the report.
"""

import argparse
import sys
from pathlib import Path

from eval.verdict import metrics
from eval.verdict.collect import collect
from eval.verdict.results import Study, has, values
from pipeline import sweep, yaml_file
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment, add_experiment_arguments, load, sweep_of
from pipeline.files import digest, write_json
from pipeline.identity import section


def choose(experiment: Experiment) -> dict:
    """The content of sweep.json. Raises UserError while arms of the sweep are not finished."""
    asked = experiment.sweep
    if asked is None:
        raise UserError(f"{experiment.path}: sweep: is missing, so there is nothing to choose; write it out")
    tried = {lr: collect(variant) for lr, variant in zip(asked.lr, sweep_of(experiment), strict=True)}
    scores = {
        c: [_score(experiment, lr, study, c) for lr, study in sorted(tried.items())]
        for c in experiment.conditions
    }
    sign = -1 if metrics.find(asked.metric).lower_is_better else 1
    chosen = {c: max(each, key=lambda score: sign * score["mean"])["lr"] for c, each in scores.items()}
    ends = [c for c, lr in chosen.items() if lr in (min(asked.lr), max(asked.lr))]
    content = yaml_file.resolve(Path(experiment.path))
    return {
        "chosen": chosen,
        "at_an_end": ends,
        "sweep": section(asked),
        "scores": scores,
        "fingerprint": sweep.fingerprint(content, experiment.name),
    }


def _score(experiment: Experiment, lr: float, study: Study, condition: str) -> dict:
    """What a condition got with one value, seed by seed, and by which evaluations."""
    asked = experiment.sweep
    assert asked is not None
    metric, name = metrics.find(asked.metric), asked.after
    arms = [arm for arm in study.arms_of(condition, name) if has(arm, name, metric)]
    if missing := sorted(set(asked.seeds) - {arm.seed for arm in arms}):
        left = f"{condition} with lr {lr:g} has no seed {missing[0]}"
        raise UserError(
            f"{experiment.path}: sweep: {left}; run what is left: python -m pipeline plan {experiment.path}"
        )
    means = values(arms, name, metric).mean(axis=1)
    return {
        "lr": lr,
        "mean": float(means.mean()),
        "by_seed": {str(arm.seed): float(mean) for arm, mean in zip(arms, means)},
        "evaluations": {str(arm.seed): digest(arm.results[f"eval_{name}"].identity) for arm in arms},
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.verdict.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_arguments(parser)
    args = parser.parse_args(argv)
    experiment = load(args.experiment, args.set, args.name)
    content = choose(experiment)
    sweep.path(experiment.name).parent.mkdir(parents=True, exist_ok=True)
    write_json(sweep.path(experiment.name), content)
    for condition, each in content["scores"].items():
        tried = ", ".join(f"{score['lr']:g}: {score['mean']:.4g}" for score in each)
        print(
            f"{condition}: lr {content['chosen'][condition]:g} ({content['sweep']['metric']} by lr: {tried})"
        )
    if content["at_an_end"]:
        print(
            f"warning: at an end of the values: {', '.join(content['at_an_end'])}; the best may lie beyond",
            file=sys.stderr,
        )


if __name__ == "__main__":
    cli(main)
