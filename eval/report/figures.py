"""What a report shows: each figure as a tidy table with the way it is drawn, worked out once.

The page draws these tables in the browser (eval/report/page/figure.js and kinds.js), eval/report/plots.py draws them as PDF, and
each is written as CSV. A row whose `seed` is empty is over all seeds. There are four kinds:

    dots     a value, with an interval, for every group × series; a panel for each facet
    lines    a curve for every series, faint for a seed
    bars     shares that add up to a whole
    heat     a value for every cell of a grid, by the vocabulary's `cell`
"""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eval.grading import errors
from eval.verdict import stats
from eval.verdict.collect import Arm, Study
from tokenizer.conditions import Condition

POINTS = 60  # of a curve, at most: a longer one is averaged over neighbouring steps


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
    mean = [*head, None, statistics.mean(values.values()), *tail]
    return [mean, *([*head, seed, value, *tail] for seed, value in values.items() if len(values) > 1)]


# --- outcomes -----------------------------------------------------------------------------------------------


def accuracy(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["metric"], []
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
    metric, rows = content["question"]["metric"], []
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
ROLES = dict(value="difference", low="low", high="high", low90="low90", high90="high90", format="points")


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
        " interval, held against the margin (the band), within which a difference would not matter.",
        ["contrast", *DIFFERENCE], rows, dict(group="contrast", margin=content["primary"]["margin"], **ROLES),
    )  # fmt: skip


def by_stage(study: Study, content: dict) -> Figure:
    primary, asked = content["primary"], content["question"]
    rows = [row for each in content["by_stage"] for row in _difference_rows(each["stage"], each)]
    return Figure(
        "by_stage", "Differences", "dots",
        f"{primary['treated']} − {primary['control']} on {asked['metric']}, stage by stage",
        f"The question is about {asked['stage']}. The other stages are described, their intervals not adjusted"
        " for their number.",
        ["stage", *DIFFERENCE], rows,
        dict(group="stage", margin=primary["margin"], **ROLES),
    )  # fmt: skip


def error_classes(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["metric"], []
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


# --- training -----------------------------------------------------------------------------------------------


def invertible(study: Study, condition: str) -> bool:
    return Condition.of(study.experiment, condition).invertible


def _curve(study: Study, kind: str, key: str, conditions: Iterable[str]) -> Iterator[list]:
    """(stage, condition, seed, step, value): a metric over the steps of a kind of stage, and its mean."""
    for name in (n for n in study.experiment.stages if study.experiment.kind(n) == kind):
        for condition in conditions:
            arms = [arm for arm in study.arms if arm.condition == condition]
            lines = {
                arm.seed: [(m["step"], m[key]) for m in arm.results[name].metrics if key in m] for arm in arms
            }
            lines = {seed: thinned(line) for seed, line in lines.items() if line}
            for seed, line in lines.items():
                yield from ([name, condition, seed, *point] for point in line)
            if len({tuple(step for step, _ in line) for line in lines.values()}) == 1:
                for points in zip(*lines.values()):
                    yield [name, condition, None, points[0][0], short(statistics.mean(v for _, v in points))]


def thinned(line: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means over neighbouring points, each at its last step."""
    size = -(-len(line) // POINTS)
    parts = [line[i : i + size] for i in range(0, len(line), size)]
    return [(part[-1][0], short(statistics.mean(value for _, value in part))) for part in parts]


def short(value: float) -> float:
    return float(f"{value:.6g}")


def curves(study: Study, content: dict) -> Figure:
    every, whole = (
        list(study.experiment.conditions),
        [c for c in study.experiment.conditions if invertible(study, c)],
    )
    rows = []
    for said, key, conditions in (
        ("documents without facts", "val_bits_per_byte_without_facts", every),
        ("all documents", "val_bits_per_byte", whole),
    ):
        for name, condition, seed, step, value in _curve(study, "pretrain", key, conditions):
            spec = study.experiment.stages[name]
            rows.append(
                [f"{name}: {said}", condition, seed, step, step * spec.batch_size * spec.block_size, value]
            )
    return Figure(
        "curves", "Training", "lines", "Pretraining, in bits per byte of the validation documents",
        "Lower is better. Losses per token of two tokenizers cannot be compared; bits per byte of the source"
        " can. Without facts every condition writes the same text; over all documents only those are shown"
        " that write it down whole.",
        ["documents", "condition", "seed", "step", "tokens", "bits_per_byte"], rows,
        dict(facet="documents", series="condition", x="tokens", value="bits_per_byte", format="number",
             x_label="training tokens", label="bits per byte"),
    )  # fmt: skip


def hellaswag(study: Study, content: dict) -> Figure:
    rows = [
        [name, condition, seed, step, value]
        for name, condition, seed, step, value in _curve(
            study, "pretrain", "hellaswag_acc_norm", content["conditions"]
        )
    ]
    return Figure(
        "hellaswag", "Training", "lines", "HellaSwag during pretraining",
        "A curve to look at; it selects nothing.",
        ["stage", "condition", "seed", "step", "acc_norm"], rows,
        dict(facet="stage", series="condition", x="step", value="acc_norm", format="percent", x_label="step",
             label="acc_norm"),
    )  # fmt: skip


def model_bits(study: Study, content: dict) -> Figure:
    rows = []
    for said, part in (("documents without facts", "without_facts"), ("all documents", "all")):
        for name, condition, arms in study.evaluated():
            bits = {arm.seed: arm.summaries[name]["bits_per_byte"] for arm in arms}
            bits = {seed: each[part]["bits_per_byte"] for seed, each in bits.items() if each and part in each}
            if bits and (part == "without_facts" or invertible(study, condition)):
                rows += with_mean([said, name, condition], bits)
    return Figure(
        "model_bits", "Training", "dots",
        "Bits per byte of every model on the pretraining's validation documents",
        "Lower is better; fine-tuning moves a model away from these documents.",
        ["documents", "stage", "condition", "seed", "bits_per_byte"], rows,
        dict(facet="documents", group="stage", series="condition", value="bits_per_byte", format="number"),
    )  # fmt: skip


def rewards(study: Study, content: dict) -> Figure:
    conditions, rows = list(content["conditions"]), []
    keys = dict.fromkeys(
        key
        for arm in study.arms for name, result in arm.results.items() if study.experiment.kind(name) == "grpo"
        for line in result.metrics[:1] for key in line
    )  # fmt: skip
    wanted = [key for key in keys if key.startswith("reward") and key != "reward_std"]
    for key in [
        *wanted,
        *(key for key in ("zero_variance", "length", "clipped", "entropy", "kl") if key in keys),
    ]:
        for name, *point in _curve(study, "grpo", key, conditions):
            rows.append([f"{name}: {key.replace('_', ' ')}", *point])
    return Figure(
        "rewards", "Reinforcement learning", "lines", "Rewards and what else GRPO logged",
        f"Means over the completions of a step, or of several steps where there are more than {POINTS}. Zero"
        " variance: the share of groups whose rewards are all equal, so that they teach nothing. Clipped:"
        " the share of completions that did not end.",
        ["measure", "condition", "seed", "step", "value"], rows,
        dict(facet="measure", series="condition", x="step", value="value", format="number", x_label="step"),
    )  # fmt: skip


def prompts(study: Study, content: dict) -> Figure:
    parts, rows = ["kept", "never solved", "always solved", "too long"], []
    for name, condition, results in study.finished("grpo"):
        counts = [result.record["prompts"] for result in results.values() if "prompts" in result.record]
        for part in parts if counts else ():
            rows.append([name, condition, part, statistics.mean(c[part] / c["drawn"] for c in counts)])
    return Figure(
        "prompts", "Reinforcement learning", "bars", "Which prompts the parent model could learn from",
        "Shares of the candidate prompts that were drawn. A prompt that the parent model solves never or"
        " always teaches nothing and is left out.",
        ["stage", "condition", "what", "share"], rows,
        dict(group="stage", series="condition", part="what", parts=parts, value="share"),
    )  # fmt: skip


# --- budgets ------------------------------------------------------------------------------------------------


def budgets(study: Study, content: dict) -> Figure:
    rows = []
    for measure, key in (
        ("tokens", "tokens"),
        ("FLOPs", "flops"),
        ("examples", "examples"),
        ("device hours", "seconds"),
    ):
        for name, condition, results in study.finished("prepare", "pretrain", "sft", "grpo"):
            found = {seed: r.record[key] for seed, r in results.items() if r.record.get(key)}
            if key == "seconds":
                found = {
                    seed: value * results[seed].record.get("world_size", 1) / 3600
                    for seed, value in found.items()
                }
            if found:
                rows += with_mean([measure, name, condition], found)
    return Figure(
        "budgets", "Budgets", "dots", "What every stage was given",
        "Equal by construction in what is fixed: steps and batch, or a budget of tokens, rows or FLOPs."
        " Where facts are written in fewer tokens, the same rows are fewer tokens. FLOPs of attention are"
        " counted in full when pretraining and as causal, half of that, when fine-tuning. Device hours are"
        " wall time since a stage was last started, not a budget.",
        ["measure", "stage", "condition", "seed", "value"], rows,
        dict(facet="measure", group="stage", series="condition", value="value", format="count", log=True),
    )  # fmt: skip
