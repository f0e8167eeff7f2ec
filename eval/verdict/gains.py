"""What choosing among samples gains over drawing one: maj@k, verifier@k and weighted@k less the mean of the samples.

For each condition of the question, and for the difference of the two gains, paired by seed and problem. Intervals are
the verdict's (eval/verdict/stats.py), for other seeds and other problems; one seed has none.
"""

import numpy as np

from eval.verdict import at_k, stats
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
        for set_name, last in at_k.of_all(pairs[0].samples[name]).items():
            mean = values(pairs, name, find(last["mean"]))
            for metric in (find(last[kind]) for kind in CHOICES if kind in last):
                gain = values(pairs, name, metric) - mean
                before, after = np.split(gain, 2)
                both = {control: (0 * before, before), treated: (0 * after, after)}
                for of, (a, b) in {**both, f"{treated} − {control}": (before, after)}.items():
                    rows.append({"set": set_name, "stage": name, "choice": metric.sampled, "of": of})
                    by_seed = stats.by_seed(a, b) / a.shape[1]
                    rows[-1] |= _effect(a, b) | {"by_seed": dict(zip(map(str, seeds), by_seed.tolist()))}
    return rows


def _effect(a: np.ndarray, b: np.ndarray) -> dict:
    """b − a of matrices (seeds, problems)."""
    if len(a) < 2:
        return {"gain": float(b.mean() - a.mean()), "interval": None, "equivalence": None}
    effect = stats.effect(a, b)
    intervals = {"interval": list(effect.interval()), "equivalence": list(effect.interval(0.9))}
    return {"gain": effect.difference} | intervals
