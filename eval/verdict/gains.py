"""What choosing among samples gains over drawing one: maj@k, verifier@k and weighted@k less the mean of the samples.

For each condition of the question, and for the difference of the two gains, paired by seed and problem. Intervals are
the verdict's (eval/verdict/stats.py), for other seeds and other problems; one seed has none.
"""

import numpy as np

from eval.verdict import stats
from eval.verdict.metrics import find
from eval.verdict.results import Study, values

CHOICES = ("maj", "verifier", "weighted")


def gains(study: Study) -> list[dict]:
    """For every set and stage with samples, every way to choose among all of them, and each of both conditions and their
    difference: {set, stage, choice, of, gain, interval, equivalence, by_seed}."""
    treated, control = study.question.contrast
    rows = []
    for name in study.model_stages():
        arms = {c: {arm.seed: arm for arm in study.arms_of(c, name)} for c in (control, treated)}
        seeds = sorted(arms[control].keys() & arms[treated].keys())
        pairs = [arms[c][seed] for c in (control, treated) for seed in seeds]
        if not pairs or not all(arm.samples.get(name) for arm in pairs):
            continue
        for set_name, last in _last(pairs[0].samples[name]).items():
            mean = values(pairs, name, find(f"{set_name}.mean"))
            for choice in (last[kind] for kind in CHOICES if kind in last):
                gain = values(pairs, name, find(f"{set_name}.{choice}")) - mean
                before, after = np.split(gain, 2)
                both = {control: (0 * before, before), treated: (0 * after, after)}
                for of, (a, b) in {**both, f"{treated} − {control}": (before, after)}.items():
                    rows.append({"set": set_name, "stage": name, "choice": choice, "of": of})
                    rows[-1] |= _effect(a, b) | {"by_seed": dict(zip(map(str, seeds), _by_seed(a, b)))}
    return rows


def _last(samples: dict[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """Set → kind → its metric of all samples, which comes last."""
    last: dict[str, dict[str, str]] = {}
    for key in samples:
        set_name, _, metric = key.rpartition(".")
        last.setdefault(set_name, {})[metric.partition("@")[0]] = metric
    return last


def _effect(a: np.ndarray, b: np.ndarray) -> dict:
    """b − a of matrices (seeds, problems)."""
    if len(a) < 2:
        return {"gain": float(b.mean() - a.mean()), "interval": None, "equivalence": None}
    effect = stats.effect(a, b)
    intervals = {"interval": list(effect.interval()), "equivalence": list(effect.interval(0.9))}
    return {"gain": effect.difference} | intervals


def _by_seed(a: np.ndarray, b: np.ndarray) -> list[float]:
    return (b - a).mean(axis=1).tolist()
