"""The figures about training: curves of pretraining and reinforcement learning, and what every stage was given."""

import statistics
from collections.abc import Iterable, Iterator

from eval.report.figures import Figure, short, with_mean
from eval.verdict.metrics import find
from eval.verdict.results import POINTS, Study
from pipeline import sweep
from tokenizer.conditions import Condition


def invertible(study: Study, condition: str) -> bool:
    return Condition.of(study.experiment, condition).invertible


def _curve(study: Study, kind: str, key: str, conditions: Iterable[str]) -> Iterator[list]:
    """(stage, condition, seed, step, value): a metric over the steps of a kind of stage, and its mean."""
    for name in (n for n in study.experiment.stages if study.experiment.kind(n) == kind):
        for condition in conditions:
            arms = [arm for arm in study.arms if arm.condition == condition]
            curves = {arm.seed: arm.results[name].curves.get(key) for arm in arms}
            lines = {seed: [(step, short(v)) for step, v in line] for seed, line in curves.items() if line}
            for seed, line in lines.items():
                yield from ([name, condition, seed, *point] for point in line)
            if len({tuple(step for step, _ in line) for line in lines.values()}) == 1:
                for points in zip(*lines.values()):
                    yield [name, condition, None, points[0][0], short(statistics.fmean(v for _, v in points))]


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


def _looks(study: Study, content: dict, measures: dict[str, str]) -> list[list]:
    """A row for every look at dev problems, of fine-tuning: the stage and the measure, condition, seed, step, value."""
    return [
        [f"{name}: {measure}", *point]
        for kind in ("sft", "grpo", "verifier")
        for key, measure in measures.items()
        for name, *point in _curve(study, kind, key, content["conditions"])
    ]


def dev_accuracy(study: Study, content: dict) -> Figure:
    keys = {key for arm in study.arms for result in arm.results.values() for key in result.curves}
    sampled = sorted((key for key in keys if key.startswith("dev_pass@")), key=lambda key: (len(key), key))
    measures = {"dev_accuracy": "greedy"} | {key: key.removeprefix("dev_") for key in sampled}
    measures["dev_verified"] = "right told from wrong"
    return Figure(
        "dev_accuracy", "Training", "lines", "Dev problems solved during fine-tuning",
        "Of the same few training rows that every condition leaves out of its training. A curve to look at; it"
        " selects nothing. pass@k: a problem counts if one of k samples solves it, and pass@1 is their mean. Of a"
        " verifier: the share of solutions, half of them right, whose score is on the right side.",
        ["measure", "condition", "seed", "step", "share"], _looks(study, content, measures),
        dict(facet="measure", series="condition", x="step", value="share", format="percent", x_label="step",
             label="solved"),
    )  # fmt: skip


def dev_likelihood(study: Study, content: dict) -> Figure:
    measures = {"dev_gold_bits_per_byte": "bits per byte", "dev_loss": "loss"}
    return Figure(
        "dev_likelihood", "Training", "lines", "Dev problems' reference answers during fine-tuning",
        "Lower is better. Bits per byte of the answer as plain text compare across tokenizers; a condition that"
        " does not write the answer whole has none. The loss, in nats a token, is of what a condition writes, and"
        " does not compare.",
        ["measure", "condition", "seed", "step", "value"], _looks(study, content, measures),
        dict(facet="measure", series="condition", x="step", value="value", format="number", x_label="step"),
    )  # fmt: skip


def rewards(study: Study, content: dict) -> Figure:
    conditions, rows = list(content["conditions"]), []
    keys = dict.fromkeys(
        key
        for arm in study.arms for name, result in arm.results.items() if study.experiment.kind(name) == "grpo"
        for key in result.curves
    )  # fmt: skip
    wanted = [key for key in keys if key.startswith("reward") and key != "reward_std"]
    for key in [
        *wanted,
        *(key for key in ("zero_variance", "repeated", "length", "clipped", "entropy", "kl") if key in keys),
    ]:
        for name, *point in _curve(study, "grpo", key, conditions):
            rows.append([f"{name}: {key.replace('_', ' ')}", *point])
    return Figure(
        "rewards", "Reinforcement learning", "lines", "Rewards and what else GRPO logged",
        f"Means over the completions of a step, or of several steps where there are more than {POINTS}. Zero"
        " variance: the share of groups whose rewards are all equal, so that they teach nothing. Repeated:"
        " of completions with a run of words five times over. Clipped: of those that did not end.",
        ["measure", "condition", "seed", "step", "value"], rows,
        dict(facet="measure", series="condition", x="step", value="value", format="number", x_label="step"),
    )  # fmt: skip


def prompts(study: Study, content: dict) -> Figure:
    parts, rows = ["kept", "never solved", "always solved", "too long"], []
    for name, condition, results in study.finished("grpo"):
        counts = [result.record["prompts"] for result in results.values() if "prompts" in result.record]
        for part in parts if counts else ():
            rows.append([name, condition, part, statistics.fmean(c[part] / c["drawn"] for c in counts)])
    return Figure(
        "prompts", "Reinforcement learning", "bars", "Which prompts the parent model could learn from",
        "Shares of the candidate prompts that were drawn. A prompt that the parent model solves never or"
        " always teaches nothing and is left out.",
        ["stage", "condition", "what", "share"], rows,
        dict(group="stage", series="condition", part="what", parts=parts, value="share"),
    )  # fmt: skip


# --- the sweep ----------------------------------------------------------------------------------------------


def swept(study: Study, content: dict) -> Figure:
    asked, rows = study.experiment.sweep, []
    done = sweep.read(study.experiment.name) if asked else None
    for condition, scores in done["scores"].items() if asked and done else ():
        for score in scores:
            rows.append([condition, None, score["lr"], score["mean"]])
            rows += [[condition, int(s), score["lr"], value] for s, value in score["by_seed"].items()]
    metric = find(asked.metric) if asked else None
    better = "Lower" if metric and metric.lower_is_better else "Higher"
    return Figure(
        "sweep", "Training", "lines", f"The sweep: {metric and metric.name} by learning rate",
        f"{better} is better. Each condition is judged at its best, chosen on seeds that are not judged. Thin: seeds.",
        ["condition", "seed", "lr", "value"], rows,
        dict(series="condition", x="lr", value="value", x_label="learning rate, logarithmic", log=True,
             format="percent" if metric and metric.unit == "points" else "number"),
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
        for name, condition, results in study.finished("prepare", "pretrain", "sft", "grpo", "verifier"):
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
