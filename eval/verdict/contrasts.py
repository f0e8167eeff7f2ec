"""A contrast of two conditions: every figure of it, paired by seed and problem. The question's, and any other."""

import numpy as np

from eval.grading.answers import value
from eval.verdict import at_k, power, stats
from eval.verdict.metrics import Metric, find
from eval.verdict.results import Arm, Study, values


def contrast(study: Study, treated: str, control: str, name: str) -> dict:
    """Every figure of one contrast, treated − control, on the question's metric after stage `name`."""
    question, metric = study.question, study.metric
    planned = [s for s in study.experiment.seeds_of(treated) if s in study.experiment.seeds_of(control)]
    arms = {c: {arm.seed: arm for arm in study.arms_of(c, name)} for c in (treated, control)}
    seeds = [seed for seed in planned if seed in arms[treated] and seed in arms[control]]
    asked: dict = {"treated": treated, "control": control, "stage": name, "metric": metric.name}
    asked |= {
        "unit": metric.unit,
        "lower_is_better": metric.lower_is_better,
        "margin": question.margin,
        "relative_margin": question.relative_margin,
        "seeds": seeds,
        "planned": len(planned),
    }
    if not seeds:
        unknown = dict.fromkeys(("problems", "difference", "interval", "equivalence", "p"))
        return asked | unknown | {"by_seed": {}, "label": f"incomplete (0 of {len(planned)} seeds)"}
    both = [arms[c][seed] for c in (control, treated) for seed in seeds]
    a, b = np.split(values(both, name, metric), 2)
    margin = question.margin or (question.relative_margin or 0.0) * float(a.mean())
    verdict = stats.verdict(a, b, margin, len(planned), metric.lower_is_better)
    known = {
        "label": verdict.label,
        "margin": margin,
        "problems": a.shape[1],
        "mean": {treated: b.mean(), control: a.mean()},
        "floor": None if metric.lower_is_better else floor(both[0], name, metric),
        "difference": verdict.difference,
        "interval": verdict.interval,
        "equivalence": verdict.equivalence,
        "by_seed": {str(seed): y.mean() - x.mean() for seed, x, y in zip(seeds, a, b)},
    }
    return _plain(asked | known | (_one_seed(a[0], b[0]) if len(seeds) == 1 else _seeds(a, b, margin)))


def floor(arm: Arm, name: str, metric: Metric) -> float:
    """What constant answers reach."""
    golds = arm.items[name][metric.set].golds.tolist()
    return at_k.floor([value(gold) for gold in golds], metric.sampled or "mean")


def _one_seed(a, b) -> dict:
    if a.dtype != bool:
        p = stats.paired_t(a[:, None], b[:, None])[0]  # over problems
        return {"p": p, "test": "paired t on the same problems; about this pair of models only"}
    only_control, only_treated = stats.discordant(a, b)
    counts = {"only_treated_right": only_treated, "only_control_right": only_control}
    return counts | {
        "p": stats.mcnemar(a, b),
        "test": "exact McNemar on the same problems; about this pair of models only",
    }


def _seeds(a, b, margin: float) -> dict:
    effect, (t, t_interval), (correlation, deviation) = (
        stats.effect(a, b),
        stats.paired_t(a, b),
        stats.pairing(a, b),
    )
    return {
        "p": effect.p_value(),
        "test": "seeds and problems together",
        "equivalence_p": effect.equivalence_p(margin),
        "paired_t": {"p": t, "interval": t_interval},
        "sign_flip_p": stats.sign_flip(a, b),
        "crossed_bootstrap": stats.crossed_bootstrap(a, b),
        "pairing": {"correlation": correlation, "spread": deviation},
        "seed_error": effect.seed_error,
        "problem_error": effect.problem_error,
    }


def _plain(value):
    """Lists and floats in the place of tuples and numpy's scalars."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value


def planning(primary: dict) -> dict | None:
    """What a repetition with this pairing could see; None where it cannot be known."""
    if len(primary["seeds"]) < 2 or primary["pairing"]["correlation"] is None:
        return None
    if primary["unit"] != "points" or find(primary["metric"]).sampled:
        return None  # power is worked out for right and wrong answers
    if primary["pairing"]["correlation"] > 0.999:
        return None  # arms that answer alike have no noise to plan with
    accuracy, margin = primary["mean"][primary["control"]], primary["margin"]
    design = power.Design(accuracy, primary["problems"], len(primary["seeds"]), **primary["pairing"])
    needed = power.seeds_needed(design, margin) if accuracy + margin < 1 else None
    return {"smallest_effect": power.smallest_effect(design), "seeds_for_the_margin": needed}


def contrasts(study: Study) -> tuple[dict, list[dict]]:
    """(primary, secondary): the secondary p-values adjusted by Holm, over those that could be computed."""
    asked = study.question
    pairs = [asked.contrast, *asked.secondary]
    primary, *secondary = (contrast(study, *pair, asked.stage) for pair in pairs)
    known = [each for each in secondary if each["p"] is not None]
    for each, p in zip(known, stats.holm([each["p"] for each in known])):
        each["p_holm"] = p
        if p >= 0.05 and each["label"] in ("supports", "refutes"):  # its interval is not adjusted
            each["label"] += ", not after Holm"
    if asked.exploratory:
        for each in (primary, *secondary):
            each["label"] += ", exploratory"
    return primary | {"planning": planning(primary)}, secondary
