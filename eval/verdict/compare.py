"""The verdict: read all outcomes of all conditions and seeds, answer the question the file preregistered.

    python -m eval.verdict.compare experiments/quickstart.yaml            # table, verdict, runs/quickstart/report/
    python -m eval.verdict.compare experiments/a.yaml experiments/b.yaml  # side by side, described, without a verdict

`supports`: the 95% interval of the contrast lies above 0; else `refutes`: below 0 (of bits, where lower is better, the
other way round); else `equivalent`: the 90% interval lies within the margin; else `underpowered`; or `incomplete (3 of 6 seeds)` while runs are missing.
One seed says nothing about seeds and is always underpowered. It always reports what there is. How the
interval is made, and why the other tests are only shown, stands in eval/verdict/stats.py.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict

from eval.report import (
    answers,
    beside,
    caveats,
    compute_figures,
    fact_figures,
    figures,
    grid_figures,
    ladder_figures,
    sample_figures,
    tables,
    training_figures,
    words,
)
from eval.report import write as report
from eval.verdict import gains, ladder, stats
from eval.verdict.collect import collect
from eval.verdict.contrasts import contrast, contrasts, floor
from eval.verdict.metrics import find
from eval.verdict.results import Arm, Study, has, matrix, values
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment, load
from pipeline.files import digest, runs_dir

MEANS = (
    "fact_tokens_per_response",
    "facts_written_per_response",
    "tokens_per_response",
    "ended",
    "strict",
    "flexible",
)
FIGURES: tuple[Callable[[Study, dict], figures.Figure], ...] = (  # in the order of the page
    figures.accuracy, figures.strata, figures.differences, figures.by_stage, sample_figures.over_k, sample_figures.gains,
    training_figures.swept, training_figures.curves, training_figures.hellaswag,
    training_figures.dev_accuracy, training_figures.dev_likelihood, training_figures.model_bits,
    ladder_figures.climb, ladder_figures.ratio, compute_figures.accuracy, compute_figures.gold_bits, *grid_figures.FIGURES,
    fact_figures.fact_use, fact_figures.facts, fact_figures.patching, fact_figures.dose,
    training_figures.rewards, training_figures.prompts, figures.error_classes, training_figures.budgets,
)  # fmt: skip
SHOWN = ("commit", "source", "device", "world_size", "host", "seconds", "tokens", "examples", "flops")


# --- the question -------------------------------------------------------------------------------------------


def check_outcomes(study: Study) -> None:
    """Raises UserError if an evaluation lacks the metric that the file asks for."""
    asked = study.question
    compared = {condition for pair in (asked.contrast, *asked.secondary) for condition in pair}
    for arm in (arm for arm in study.arms if asked.stage in arm.items and arm.condition in compared):
        if not has(arm, asked.stage, study.metric):
            where = arm.results[f"eval_{asked.stage}"].directory
            raise UserError(
                f"{where}: has no outcomes of '{asked.metric}'; evaluate it again with --overwrite"
            )


# --- everything else that is shown --------------------------------------------------------------------------


def scores(study: Study) -> dict:
    """stage → condition → set or probes.KIND → accuracy with interval and floor, over the seeds there are."""
    table: dict = {}
    for name in study.model_stages():
        for condition in study.experiment.conditions:
            if arms := study.arms_of(condition, name):
                sets = {metric: _score(arms, name, metric) for metric in arms[0].items[name]}
                bits = [arm.summaries[name]["bits_per_byte"] for arm in arms]
                cell: dict = {"seeds": [arm.seed for arm in arms], "sets": sets, "bits_per_byte": None}
                cell["samples"] = {key: _sampled(arms, name, key) for key in arms[0].samples.get(name, ())}
                if all(bits):
                    cell["bits_per_byte"] = {
                        part: statistics.fmean(b[part]["bits_per_byte"] for b in bits)
                        for part in bits[0]
                        if all(part in b for b in bits)
                    }
                table.setdefault(name, {})[condition] = cell
    return table


def _sampled(arms: list[Arm], name: str, metric: str) -> dict:
    """Of a metric of samples."""
    right = values(arms, name, find(metric))
    accuracy, (low, high) = stats.accuracy(right)
    score = {"accuracy": accuracy, "low": low, "high": high, "n": right.shape[1]}
    score["floor"] = floor(arms[0], name, find(metric))
    return score | {"by_seed": {str(arm.seed): float(row.mean()) for arm, row in zip(arms, right)}}


def _score(arms: list[Arm], name: str, metric: str) -> dict:
    right = matrix(arms, name, metric)
    each = [figures.summary(arm, name, metric) for arm in arms]
    accuracy, (low, high) = stats.accuracy(right)
    score = {"accuracy": accuracy, "low": low, "high": high, "n": right.shape[1], "floor": each[0]["floor"]}
    score["floor_answer"] = each[0]["floor_answer"]
    score["by_seed"] = {str(arm.seed): float(row.mean()) for arm, row in zip(arms, right)}
    score |= {key: statistics.fmean(s[key] for s in each) for key in MEANS if key in each[0]}
    if each[0].get("errors"):
        score["errors"] = {key: statistics.fmean(s["errors"][key] for s in each) for key in each[0]["errors"]}
    score["strata"] = {
        key: {k: statistics.fmean(s["strata"][key][k] for s in each) for k in ("accuracy", "n", "floor")}
        for key in each[0].get("strata", {})
    }
    return score


def build(study: Study) -> dict:
    """The content of report.json: every figure that the report shows."""
    asked = study.question
    check_outcomes(study)
    primary, secondary = contrasts(study)
    staged = [n for n in study.model_stages() if any(has(arm, n, study.metric) for arm in study.arms)]
    content = {
        "experiment": study.experiment.name,
        "title": study.experiment.name,
        "vocabulary": study.experiment.vocabulary,
        "conditions": {name: each.mode for name, each in study.experiment.conditions.items()},
        "seeds": study.experiment.seeds,
        "question": {
            "stage": asked.stage,
            "metric": asked.metric,
            "set": study.metric.set,
            "unit": study.metric.unit,
            "margin": asked.margin,
            "relative_margin": asked.relative_margin,
            "exploratory": asked.exploratory,
        },
        "warnings": caveats.warnings(study),
        "sentence": words.sentence(primary),
        "primary": primary,
        "secondary": secondary,
        "ladder": _ladder(study),
        "by_stage": [contrast(study, *asked.contrast, name) for name in staged],
        "gains": gains.gains(study),
        "scores": scores(study),
        "problems": _problems(study),
        "runs": [_run(arm) for arm in study.arms],
        "unplanned": study.unplanned,
    }
    made = [make(study, content) for make in FIGURES]
    drawn = {figure.id: asdict(figure) for figure in made if figure.rows}
    return content | {"words": words.words(content), "figures": drawn}


def _ladder(study: Study) -> dict | None:
    """The ratio of compute, and the difference at the ladder's top."""
    if (result := ladder.ratio(study)) is None:
        return None
    asked = study.question
    top = ladder.top(study, result["stages"])
    return result | {"top": contrast(study, *asked.contrast, top)}


def _problems(study: Study) -> dict[str, str]:
    """A hash of the ids of every set: whether two experiments asked the same."""
    sets = {key: items for arm in study.arms for found in arm.items.values() for key, items in found.items()}
    return {key: digest(items.ids.tolist()) for key, items in sets.items()}


def _run(arm: Arm) -> dict:
    stages = {
        name: {
            "state": r.state,
            "detail": r.detail,
            "record": {k: r.record[k] for k in SHOWN if k in r.record},
        }
        for name, r in arm.results.items()
    }
    return {"arm": arm.name, "condition": arm.condition, "seed": arm.seed, "stages": stages}


# --- the command --------------------------------------------------------------------------------------------


def _open(path: str) -> Experiment:
    experiment = load(path)
    for key in ("eval", "compare"):
        if getattr(experiment, key) is None:
            raise UserError(f"{path}: {key}: is missing, so there is nothing to compare; write it out")
    return experiment


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.verdict.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", metavar="EXPERIMENT", nargs="+")
    experiments = [_open(path) for path in parser.parse_args(argv).experiments]
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(names)}: named twice; name different experiments")
    studies = [collect(experiment) for experiment in experiments]
    contents = [build(study) for study in studies]
    replies = [answers.replies(study) for study in studies]
    for content in contents:
        _print(content)
    content, shown = beside.beside(contents, replies) if len(contents) > 1 else (contents[0], replies[0])
    page = report.write(content, shown, report.outcomes(studies), runs_dir() / "+".join(names) / "report")
    if content["primary"]:
        if others := words.other_tests(content["primary"]):
            print(others)
        print(*filter(None, [words.ladder(content), content["sentence"]]), sep="\n")
    print(f"report: {page}")


def _print(content: dict) -> None:
    print(f"{content['experiment']}\n{tables.text(tables.rows(content))}\n")
    if len(content["by_stage"]) > 1:
        print(f"{tables.text(tables.stage_rows(content))}\n")
    if sampled := tables.sample_rows(content):
        print(f"samples [95%]\n{tables.text(sampled)}\n")
    if gained := tables.gain_rows(content):
        print(f"{tables.text(gained)}\n")
    if strata := tables.strata_rows(content):
        print(f"{content['question']['set']} by stratum\n{tables.text(strata)}\n")
    for line in content["warnings"]:
        print(f"note: {line}")


if __name__ == "__main__":
    cli(main)
