"""What k samples of a problem are worth, over k: a panel for each way to use them, see eval/verdict/at_k.py."""

import statistics

from eval.report.figures import DIFFERENCE, ROLES, Figure
from eval.verdict.metrics import find
from eval.verdict.results import Study

CURVES = {
    "mean": "mean of samples",
    "pass": "pass@k, one of k is right",
    "maj": "maj@k, most votes",
    "verifier": "verifier@k, highest score",
    "weighted": "weighted@k, votes by score",
}


def over_k(study: Study, content: dict) -> Figure:
    rows = []
    for name, cells in content["scores"].items():
        for condition, cell in cells.items():
            points = {key: (find(key).set, *_parts(find(key).sampled or "")) for key in cell["samples"]}
            most = max((k for *_, k in points.values()), default=1)
            for key, (set_name, kind, k) in points.items():
                head, score = [f"{set_name} after {name}: {CURVES[kind]}", condition], cell["samples"][key]
                for at in (1, most) if kind == "mean" and most > 1 else (k,):  # the mean is a level line
                    rows.append(
                        [*head, None, at, *(score[each] for each in ("accuracy", "low", "high", "floor"))]
                    )
                    if len(score["by_seed"]) > 1:
                        rows += [
                            [*head, int(s), at, v, None, None, None] for s, v in score["by_seed"].items()
                        ]
    return Figure(
        "samples", "Samples", "lines", "Accuracy against the number of samples",
        "Thick: means over seeds, with 95% intervals for other problems and, where there are several, other seeds."
        " Thin: seeds. All samples that were drawn go into each k: pass@k and verifier@k are means over every choice of"
        f" k of them, votes over disjoint groups of k.{verifier_cost(study)}",
        ["curve", "condition", "seed", "k", "accuracy", "low", "high", "floor"], rows,
        dict(facet="curve", series="condition", x="k", value="accuracy", low="low", high="high", format="percent",
             x_label="samples a problem, logarithmic", log=True),
    )  # fmt: skip


def gains(study: Study, content: dict) -> Figure:
    asked, rows = content["question"], []
    for row in content["gains"]:
        key = [f"{row['set']} after {row['stage']}: {row['choice']}", row["of"]]
        if row["interval"]:
            rows.append([*key, None, row["gain"], *row["interval"], *row["equivalence"], None, None])
            rows += [[*key, int(seed), gain, *[None] * 6] for seed, gain in row["by_seed"].items()]
    return Figure(
        "gains", "Samples", "dots", "What choosing among all samples gains over drawing one",
        "Accuracy of the chosen answer less the mean of the samples, for each condition and for the difference of"
        " the two gains, paired by seed. Small marks are seeds. Thin: 95%, thick: 90%.",
        ["choice", "of", *DIFFERENCE], rows,
        dict(facet="choice", group="of", margin=asked["margin"] if asked["unit"] == "points" else None, format="points",
             **ROLES),
    )  # fmt: skip


def verifier_cost(study: Study) -> str:
    """What the compute of a choice by score has beyond the generator's; empty without a finished verifier."""
    name = study.experiment.eval and study.experiment.eval.verifier
    done = [arm for arm in study.arms if name and name in arm.results and arm.results[name].identity]
    if not done:
        return ""
    own = statistics.fmean(arm.results[name].record["flops"] for arm in done)
    message = f" The verifier took {own:.2g} FLOPs an arm, its samples of training problems included"
    above = [arm.training_flops(arm.results[name].identity["section"]["parent"]) for arm in done]
    if None in above:
        return f"{message}."
    return f"{message}: {own / statistics.fmean(above):.0%} of its generator's training."


def _parts(metric: str) -> tuple[str, int]:
    kind, _, k = metric.partition("@")
    return kind, int(k or 1)
