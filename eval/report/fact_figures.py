"""The figures about facts: how many training showed, how many answers use, and which ones a model knows."""

from collections import Counter

import numpy as np

from eval.report.figures import Figure, short, summary, with_mean
from eval.tasks import probes
from eval.tasks.task import item_id
from eval.verdict.results import Arm, Study
from tokenizer.conditions import Condition


def dose(study: Study, content: dict) -> Figure:
    rows = []
    for name, condition, results in study.finished("prepare"):
        train = next(iter(results.values())).json("index.json", "train")["train"]
        million, plain = (
            1e6 * train["facts"] / train["plain_tokens"],
            100 * train["tokens"] / train["plain_tokens"],
        )
        rows.append(["facts per million plain tokens of training text", name, condition, None, million])
        rows.append(["tokens for 100 tokens of plain spelling", name, condition, None, plain])
    for name, condition, results in study.finished("sft"):
        found = {
            seed: r.record["facts_per_example"]
            for seed, r in results.items()
            if "facts_per_example" in r.record
        }
        if found:
            rows += with_mean(["fact tokens per training example", name, condition], found)
    return Figure(
        "dose", "Facts", "dots", "Dose: how many facts training showed",
        "Facts are counted before they are rewritten: every condition reads the same documents.",
        ["measure", "stage", "condition", "seed", "value"],
        sorted(rows, key=lambda row: row[0], reverse=True),
        dict(facet="measure", group="stage", series="condition", value="value", format="number", zero=True),
    )  # fmt: skip


def fact_use(study: Study, content: dict) -> Figure:
    metric, rows = content["question"]["set"], []
    for said, key in (
        ("true facts written, in either spelling", "facts_written_per_response"),
        ("fact tokens", "fact_tokens_per_response"),
    ):
        for name, condition, arms in study.evaluated():
            found = {
                arm.seed: summary(arm, name, metric).get(key) for arm in arms if metric in arm.items[name]
            }
            if found and None not in found.values():
                rows += with_mean([f"{said}, per answer", name, condition], found)
    return Figure(
        "fact_use", "Facts", "dots", f"Facts in the answers to {metric}", "",
        ["measure", "stage", "condition", "seed", "value"], rows,
        dict(facet="measure", group="stage", series="condition", value="value", format="number", zero=True),
    )  # fmt: skip


def facts(study: Study, content: dict) -> Figure:
    """Heat maps after the preregistered stage: dose, use in answers, and knowledge of every fact."""
    asked, rows = content["question"], []
    for _, condition, results in list(study.finished("prepare"))[:1]:
        audit = next(iter(results.values())).json("audit.json", "facts", "plain_tokens")
        names = Condition.of(study.experiment, condition).facts.FACTS
        million = np.array([audit["facts"].get(fact, 0) for fact in names]) / audit["plain_tokens"] * 1e6
        rows += _cells(study, "training text", "facts per million plain tokens", million)
    for measure, count in (
        (f"true facts written per 100 answers to {asked['metric']}", _written),
        ("share right when asked by itself, in percent", _known),
    ):
        for condition in content["conditions"]:
            if arms := study.arms_of(condition, asked["stage"]):
                found = [count(arm, Condition.of(study.experiment, condition), asked) for arm in arms]
                if all(each is not None for each in found):
                    rows += _cells(study, condition, measure, np.mean(found, axis=0))
    return Figure(
        "facts", "Facts", "heat", f"Fact by fact, after {asked['stage']}",
        "What training showed, what the answers use, in whatever tokens they write it, and what is known"
        " when the probes ask for one fact alone. Rows and columns are the vocabulary's own.",
        ["panel", "measure", "fact", "row", "column", "value"], rows,
        dict(facet="panel", scale="measure", label="fact", row="row", column="column", value="value",
             format="number"),
    )  # fmt: skip


def _cells(study: Study, panel: str, measure: str, values: np.ndarray) -> list[list]:
    facts = Condition.of(study.experiment, next(iter(study.experiment.conditions))).facts
    found = [(i, short(value)) for i, value in enumerate(values) if not np.isnan(value)]
    return [[panel, measure, " = ".join(facts.spell(i)), *facts.cell(i), value] for i, value in found]


def _written(arm: Arm, condition: Condition, asked: dict) -> np.ndarray | None:
    """True facts per 100 answers, (facts,), in the rendered text; None for a set not answered in words."""
    if "facts_written_per_response" not in summary(arm, asked["stage"], asked["set"]):
        return None
    return arm.facts_written / len(arm.items[asked["stage"]][asked["set"]].ids) * 100


def _known(arm: Arm, condition: Condition, asked: dict) -> np.ndarray | None:
    """Right ones in 100 of the probes that ask for one fact, (facts,); nan where none asks for it."""
    asks: dict[str, int] = {}
    for pairs in condition.facts.probes().values():
        for expression, value in pairs:
            for _, _, index in condition.facts.find(f"{expression} = {value}"):
                asks[item_id(probes.question(expression))] = index
    right = np.zeros((2, len(condition.facts.FACTS)))
    for set_name, items in arm.items[asked["stage"]].items():
        for key, correct in zip(items.ids, items.correct) if set_name.startswith("probes.") else ():
            if key in asks:
                right[:, asks[key]] += correct, 1
    return (
        np.divide(100 * right[0], right[1], out=np.full(right.shape[1], np.nan), where=right[1] > 0)
        if right[1].any()
        else None
    )


def patching(study: Study, content: dict) -> Figure:
    parts, rows = ["follows", "stays", "other"], []
    for name, condition, arms in study.evaluated():
        patched = [arm.summaries[name]["patching"] for arm in arms]
        for set_name in dict.fromkeys(key for each in patched for key in each):
            counts = Counter()
            for each in patched:
                counts.update(each.get(set_name, {}))
            for part in parts if counts["asked"] else ():
                rows.append(
                    [set_name, name, condition, part, counts[part] / counts["asked"], counts["asked"]]
                )
    return Figure(
        "patching", "Facts", "bars", "When a fact token in an answer is replaced by another",
        "Follows: the answer is the one that follows from the other fact, so the model reads its own token."
        " Stays: the old answer, so the token is decoration. Conditions without exchangeable tokens cannot"
        " be asked.",
        ["set", "stage", "condition", "answer", "share", "asked"], rows,
        dict(facet="set", group="stage", series="condition", part="answer", parts=parts, value="share"),
    )  # fmt: skip
