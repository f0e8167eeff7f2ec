"""The figures of a ladder: accuracy over training compute, and how much more of it the treated condition needs."""

import math

from eval.report import words
from eval.report.figures import Figure
from eval.verdict import ladder, stats
from eval.verdict.results import Study, values


def climb(study: Study, content: dict) -> Figure:
    """Every seed's curve and the mean's, with the accuracy that both conditions have to reach."""
    result, rows = content["ladder"] or {}, []
    for condition in (result["treated"], result["control"]) if result else ():
        arms = [arm for arm in study.arms if arm.condition == condition]
        curves = {
            arm.seed: points for arm in arms if (points := ladder.curve(arm, result["stages"], study.metric))
        }
        done = [arm for arm in arms if arm.seed in curves]
        for i, points in enumerate(zip(*curves.values())):
            name = sorted(result["stages"], key=lambda name: done[0].training_flops(name) or 0)[i]
            accuracy, interval = stats.accuracy(values(done, name, study.metric))
            flops = math.exp(math.fsum(x for x, _ in points) / len(points))
            rows.append([condition, None, name, flops, accuracy, *interval])
            if len(curves) > 1:
                rows += [
                    [condition, s, name, math.exp(x), y, None, None] for s, (x, y) in zip(curves, points)
                ]
    rows.sort(key=lambda row: (row[0] != result["treated"], row[1] is not None, row[1] or 0, row[3]))
    return Figure(
        "ladder", "Compute", "lines", f"The ladder: accuracy on {result.get('metric')} over training compute",
        f"{words.ladder(content)} Thick: means, with 95% intervals for other problems and other seeds. Thin: seeds."
        " Dashed: the accuracy that was registered; a seed's ratio is taken where its two curves cross it.",
        ["condition", "seed", "stage", "flops", "accuracy", "low", "high"], rows,
        dict(series="condition", x="flops", value="accuracy", low="low", high="high", format="percent",
             x_label="training FLOPs, logarithmic", log=True, target=result.get("accuracy")),
    )  # fmt: skip


def ratio(study: Study, content: dict) -> Figure:
    """The log-ratio of the compute to the registered accuracy, with its interval and its seeds."""
    result, rows = content["ladder"] or {}, []
    if result and result["ratio"]:
        name = f"{result['treated']} / {result['control']}"
        low, high = map(math.log2, result["interval"]) if result["interval"] else (None, None)
        rows.append([name, None, math.log2(result["ratio"]), low, high])
        rows += [[name, int(seed), math.log2(each), None, None] for seed, each in result["by_seed"].items()]
    return Figure(
        "ladder_ratio", "Compute", "dots", "The ladder: compute to the registered accuracy, as log₂ of the ratio",
        "0: both need the same; 1: twice as much; −1: half. The bar is the 95% interval of t over seeds.",
        ["contrast", "seed", "log2_ratio", "low", "high"], rows,
        dict(group="contrast", value="log2_ratio", low="low", high="high", format="number", zero=True),
    )  # fmt: skip
