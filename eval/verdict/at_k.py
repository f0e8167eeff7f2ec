"""What k samples of a problem are worth: pure functions of who was right, which answers agree, and their scores.

A metric of a set is named `SET.NAME`, as in `compare.metric: gsm8k.maj@16`:

    mean        the share of samples that are right
    pass@k      whether one of k samples is right: the mean over all choices of k of the n samples, which is
                1 − C(n − right, k) / C(n, k) and unbiased (Chen et al. 2021, arXiv:2107.03374, equation 1)
    verifier@k  whether the sample with the highest score of k is right: the same mean, exactly. Of equal scores the
                first counts
    maj@k       whether the value that most of k samples give is right; ties go to the value that came first, and a
                sample without an answer has no vote
    weighted@k  the same, each vote weighted by the chance that the score, a logit, stands for

A mean over all choices has no short formula for the votes. For k below n they are the mean over the n // k disjoint
groups of k successive samples, which is unbiased too; samples that fill no group are left out. At k = 1 all five are
the mean of samples; at k = n each is one answer a problem, right or wrong.

The floor is what constants reach: one and the same answer to all samples of all problems, and for pass@k, which takes k
answers, the k best constants.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

KINDS = ("pass", "maj")
SCORED = ("verifier", "weighted")
METRIC = re.compile(rf"mean|({'|'.join(KINDS + SCORED)})@([1-9]\d*)")


class Draws(NamedTuple):
    """The samples of a set, (problems, n) each."""

    correct: np.ndarray  # bool
    votes: np.ndarray  # int: the first sample of the same value; −1 without an answer
    scores: np.ndarray | None  # float: logits of a verifier


def counts(samples: int) -> list[int]:
    """The k that metrics are given for: 1, 2, 4, …, and all samples."""
    powers = [2**i for i in range(samples.bit_length()) if 2**i < samples]
    return [*powers, samples]


def names(samples: int, with_scores: bool) -> list[str]:
    """The metrics of a set of so many samples."""
    if not samples:
        return []
    kinds = KINDS + SCORED * with_scores
    return ["mean", *(f"{kind}@{k}" for kind in kinds for k in counts(samples))]


def of_all(metrics: Iterable[str]) -> dict[str, dict[str, str]]:
    """Set → kind → its SET.METRIC of the largest k, which comes last."""
    last: dict[str, dict[str, str]] = {}
    for metric in metrics:
        set_name, _, name = metric.rpartition(".")
        last.setdefault(set_name, {})[name.partition("@")[0]] = metric
    return last


def set_of(metric: str) -> str:
    """The problem set that a metric is of; a set, or probes.KIND, is its own."""
    name, _, last = metric.rpartition(".")
    return name if METRIC.fullmatch(last) else metric


def shares(draws: Draws) -> dict[str, np.ndarray]:
    """Of each metric what every problem contributes, (problems,): 0 to 1, bool where it is one answer's."""
    samples = draws.correct.shape[1]
    result = {"mean": draws.correct.mean(1)}
    for name in names(samples, draws.scores is not None)[1:]:
        kind, k = name.split("@")
        result[name] = WORK_OUT[kind](draws, int(k))
        if int(k) == samples:
            result[name] = result[name] > 0.5
    return result


def pass_at(draws: Draws, k: int) -> np.ndarray:
    samples = draws.correct.shape[1]
    choices = math.comb(samples, k)
    by_right = np.array([1 - math.comb(samples - right, k) / choices for right in range(samples + 1)])
    return by_right[draws.correct.sum(1)]


def verifier_at(draws: Draws, k: int) -> np.ndarray:
    """The chance that the sample of rank i is the best of k is C(n − 1 − i, k − 1) / C(n, k)."""
    assert draws.scores is not None
    samples = draws.correct.shape[1]
    ranked = np.take_along_axis(draws.correct, np.argsort(-draws.scores, axis=1, kind="stable"), 1)
    choices = math.comb(samples, k)
    return ranked @ np.array([math.comb(samples - 1 - i, k - 1) / choices for i in range(samples)])


def maj_at(draws: Draws, k: int) -> np.ndarray:
    return _voted(draws, k, np.ones(draws.correct.shape))


def weighted_at(draws: Draws, k: int) -> np.ndarray:
    assert draws.scores is not None
    return _voted(draws, k, 1 / (1 + np.exp(-np.clip(draws.scores, -500, 500))))


WORK_OUT = {"pass": pass_at, "maj": maj_at, "verifier": verifier_at, "weighted": weighted_at}


def _voted(draws: Draws, k: int, weights: np.ndarray) -> np.ndarray:
    problems, samples = draws.correct.shape
    groups = (problems, samples // k, k)
    correct, votes, weights = (
        each[:, : groups[1] * k].reshape(groups) for each in (draws.correct, draws.votes, weights)
    )
    same = votes[..., :, None] == votes[..., None, :]
    for_each = np.where(
        votes < 0, -1.0, (same * weights[..., None, :]).sum(-1)
    )  # what the value of each sample got
    first = for_each.argmax(-1)  # all samples of a value have the same, so the first of the most
    return np.take_along_axis(correct, first[..., None], -1)[..., 0].mean(1)


def floor(golds: Sequence, metric: str) -> float:
    """The share that the best constant reaches, for pass@k the k best together; golds are values."""
    match = METRIC.fullmatch(metric)
    assert match
    tries = int(match[2]) if match[1] == "pass" else 1
    return sum(count for _, count in Counter(golds).most_common(tries)) / len(golds)
