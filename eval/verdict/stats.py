"""Statistics of paired outcomes, and the verdict on a contrast. Pure functions; nothing here reads a file.

Outcomes are arrays of shape (seeds, problems): bool, True where the answer was right, or float, such as the bits of
a reference answer. Two arms `a` and `b` are paired in both axes (same seeds, same problems in the same order). Every
difference is b − a, a share of 1, or in the outcomes' unit.

**Which interval decides.** A handful of numbers, one difference per seed, carry the evidence that another
training run would show the effect; the problems carry the evidence that other problems would. A t interval
over seeds takes the problems as given: where the arms differ problem by problem for good, it fails for
problems at large. A crossed bootstrap counts the noise of single runs three times, and a deviation between six
seeds too little. `Effect.interval` adds the two parts in squares, each with its own quantile (as Newcombe
1998 joins two intervals):

    half width² = (t[seeds − 1] · seed_error)² + (z · problem_error)²

The size of t is 5% for normal differences, and six differences cannot show that they are normal (it is 6% if
they are uniform); so t is taken at 0.8 of the error allowed: at 96% for a 95% interval. With fewer than six
seeds it leans on normality altogether: no exact test over seeds could confirm it.
`python -m eval.verdict.power --simulate 10000` measures false verdicts and coverage.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from eval.grading.answers import value
from pipeline.errors import UserError

CAUTION = 0.8  # share of the allowed error at which t is taken, see above


class Interval(NamedTuple):
    low: float
    high: float


# --- one score ----------------------------------------------------------------------------------------------


def wilson(right: float, total: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion."""
    share, z = right / total, float(special.ndtri((1 + level) / 2))
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return Interval(max(0.0, center - half), min(1.0, center + half))


def accuracy(outcomes: np.ndarray) -> tuple[float, Interval]:
    """Mean accuracy of an arm, (seeds, problems), and its 95% interval: Wilson's for the number of problems; of
    several seeds, joined in squares with that of t over the seeds, as for differences above. Shares of right answers,
    which vary less than right and wrong do, count as so many problems more."""
    seeds, problems = outcomes.shape
    mean, total = float(outcomes.mean()), float(problems)  # further seeds answer the same problems
    if outcomes.dtype != bool and (variance := float(outcomes.var())):
        total *= mean * (1 - mean) / variance
    of_problems = wilson(mean * total, total)
    if seeds == 1:
        return mean, of_problems
    of_seeds = special.stdtrit(seeds - 1, 0.975) * float(outcomes.mean(axis=1).std(ddof=1)) / math.sqrt(seeds)
    low, high = (
        mean - math.hypot(mean - of_problems.low, of_seeds),
        mean + math.hypot(of_problems.high - mean, of_seeds),
    )
    return mean, Interval(max(0.0, low), min(1.0, high))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95% interval of t for the mean over seeds; None of fewer than two."""
    if len(values) < 2:
        return None
    half = (
        float(special.stdtrit(len(values) - 1, 0.975))
        * float(np.std(values, ddof=1))
        / math.sqrt(len(values))
    )
    return Interval(float(np.mean(values)) - half, float(np.mean(values)) + half)


def constant_floor(golds: Sequence[str]) -> tuple[str, float]:
    """The best constant answer to a list of numerals, and its accuracy: what a program scores unread."""
    values = [value(gold) for gold in golds]
    if None in values or not values:
        wrong = f"{golds[values.index(None)]!r} is not a number" if values else "none given"
        raise UserError(f"golds: {wrong}")
    best, count = Counter(values).most_common(1)[0]
    return golds[values.index(best)], count / len(golds)


# --- two scores, one seed -----------------------------------------------------------------------------------


def fisher(right_a: int, total_a: int, right_b: int, total_b: int) -> float:
    """Two-sided p of Fisher's exact test: for published counts, whose pairing is not known."""
    from scipy.stats import fisher_exact  # takes half a second to import

    return float(fisher_exact([[right_a, total_a - right_a], [right_b, total_b - right_b]]).pvalue)


def unpaired_difference(right_a: int, total_a: int, right_b: int, total_b: int) -> tuple[float, Interval]:
    """Difference of two independent proportions with its 95% interval (Newcombe 1998, method 10)."""
    share_a, share_b = right_a / total_a, right_b / total_b
    (low_a, high_a), (low_b, high_b) = wilson(right_a, total_a), wilson(right_b, total_b)
    difference = share_b - share_a
    low = difference - math.hypot(share_b - low_b, high_a - share_a)
    return difference, Interval(low, difference + math.hypot(high_b - share_b, share_a - low_a))


def discordant(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Problems that only a, and that only b, gets right; both (problems,) bool."""
    return int((a & ~b).sum()), int((b & ~a).sum())


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the exact McNemar test on the same problems, (problems,) bool each."""
    only_a, only_b = discordant(a, b)
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> tuple[float, Interval]:
    """Difference on the same problems, (problems,) each, with its interval: of bool Wald's with a pseudo-problem
    of each discordant kind (Bonett & Price 2012), of float that of t. It is about these two models, and says
    nothing of seeds."""
    if a.dtype != bool:
        mean, error = float((b - a).mean()), float((b - a).std(ddof=1)) / math.sqrt(a.size)
        half = float(special.stdtrit(a.size - 1, (1 + level) / 2)) * error
        return mean, Interval(mean - half, mean + half)
    only_a, only_b = discordant(a, b)
    share_a, share_b = ((count + 1) / (a.size + 2) for count in (only_a, only_b))
    center = share_b - share_a
    half = special.ndtri((1 + level) / 2) * math.sqrt((share_a + share_b - center**2) / (a.size + 2))
    return (only_b - only_a) / a.size, Interval(float(max(-1, center - half)), float(min(1, center + half)))


# --- two scores, several seeds ------------------------------------------------------------------------------


def by_seed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(seeds,) difference of each seed, in problems: of bool integers, so that ties are exact."""
    return b.sum(axis=1) - a.sum(axis=1)


def paired_t(a: np.ndarray, b: np.ndarray) -> tuple[float, Interval]:
    """p and 95% interval of the paired t-test over two or more seeds: these problems, other seeds."""
    differences = by_seed(a, b)
    if np.ptp(differences) == 0:  # no deviation to divide by
        share = float(differences[0]) / a.shape[1]
        return (0.0 if share else 1.0), Interval(share, share)
    mean, error = differences.mean(), differences.std(ddof=1) / math.sqrt(len(differences))
    p = 2 * float(special.stdtr(len(differences) - 1, -abs(mean) / error))
    half = -float(special.stdtrit(len(differences) - 1, 0.025)) * error
    return p, Interval(float(mean - half) / a.shape[1], float(mean + half) / a.shape[1])


def sign_flip(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the exact sign-flip test over seeds: needs only that swapping the two arms of a seed changes
    nothing under no effect. The least is 2 / 2ⁿ: .0625 for 5, .031 for 6. Real differences are taken in
    ten-thousandths of the largest."""
    differences = by_seed(a, b)
    if a.dtype != bool:
        unit = np.abs(differences).max() / 10_000
        differences = np.rint(differences / (unit or 1.0)).astype(int)
    chance = np.ones(1)  # of each sum of flipped differences, from −total to +total
    for size in np.abs(differences):
        chance = (np.pad(chance, (0, 2 * size)) + np.pad(chance, (2 * size, 0))) / 2
    sums = np.arange(len(chance)) - np.abs(differences).sum()
    return float(chance[np.abs(sums) >= abs(differences.sum())].sum())


def crossed_bootstrap(a: np.ndarray, b: np.ndarray, draws: int = 2_000) -> Interval:
    """95% percentile interval over seeds × problems, each axis resampled by itself (the pigeonhole bootstrap,
    Owen 2007). With six seeds it covers 99% where the noise of single runs is all there is, and 86% where the
    deviation between seeds is (measured): shown, but never decides."""
    of_seeds, of_problems = _draws(*a.shape, draws)
    means = np.einsum("ij,ij->i", of_seeds @ (b.astype(float) - a), of_problems) / a.size
    return Interval(*map(float, np.quantile(means, (0.025, 0.975))))


@lru_cache(maxsize=1)
def _draws(seeds: int, problems: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed, (draws, seeds), and each problem, (draws, problems), is drawn."""
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws)
    return of_seeds.astype(float), of_problems.astype(float)


def quantiles(seeds: int, error: float) -> tuple[float, float]:
    """For the seeds' and the problems' standard error, of an interval that may miss with chance `error`."""
    return -float(special.stdtrit(seeds - 1, CAUTION * error / 2)), -float(special.ndtri(error / 2))


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, between a place where it is below and one where it is above."""
    while low < (middle := (low + high) / 2) < high:  # until floats end
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return middle


@dataclass(frozen=True)
class Effect:
    """A difference over seeds and problems with its two standard errors, all shares of 1."""

    difference: float
    seed_error: float  # of the mean over seeds, seeds − 1 degrees of freedom
    problem_error: float  # of the mean over problems, where it is lasting and not noise of single runs
    seeds: int

    def interval(self, level: float = 0.95) -> Interval:
        half = self._half_width(1 - level)
        return Interval(self.difference - half, self.difference + half)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p: 1 − the level at which `interval` just reaches the null, between 1e-12 and 1."""
        distance = abs(self.difference - null)
        if distance <= self._half_width(1.0):
            return 1.0
        if distance >= self._half_width(1e-12):
            return 1e-12
        return bisect(lambda p: distance - self._half_width(p), 1e-12, 1.0)

    def _half_width(self, error: float) -> float:
        of_seeds, of_problems = quantiles(self.seeds, error)
        return math.hypot(of_seeds * self.seed_error, of_problems * self.problem_error)

    def equivalence_p(self, margin: float) -> float:
        """p of two one-sided tests (Schuirmann 1987) that the effect lies within ±margin: below .05 exactly
        where the 90% interval lies within it."""
        p = max(self.p_value(-margin), self.p_value(margin)) / 2
        return p if abs(self.difference) < margin else 1 - p


def effect(a: np.ndarray, b: np.ndarray) -> Effect:
    """The effect over two or more seeds; its errors are those of the crossed layout seeds × problems."""
    seeds, problems = a.shape
    of_seeds, of_problems, noise = _mean_squares(a, b)
    lasting = max(0.0, of_problems - noise) / a.size
    # half a pseudo-problem each way (Agresti & Min 2005): no set shows a difference finer than one right answer
    problem_error = math.sqrt(max(lasting, problems**-2 if a.dtype == bool else 0.0))
    return Effect(float(b.mean() - a.mean()), math.sqrt(of_seeds / a.size), problem_error, seeds)


def pairing(a: np.ndarray, b: np.ndarray) -> tuple[float | None, float]:
    """What `eval.verdict.power` asks for, of two or more seeds: the correlation of the arms' outcomes on a problem
    (None where an arm has all right or all wrong), and the standard deviation over seeds of the true difference."""
    constant = a.min() == a.max() or b.min() == b.max()
    of_seeds, _, noise = _mean_squares(a, b)
    deviation = math.sqrt(max(0.0, of_seeds - noise) / a.shape[1])
    return None if constant else float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), deviation


def _mean_squares(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Of b − a for seeds, problems and the rest, as in an analysis of variance without replication."""
    d = np.subtract(b, a, dtype=np.int8 if a.dtype == bool else float)
    seeds, problems = d.shape
    of_seeds = problems * d.mean(axis=1).var(ddof=1)
    of_problems = seeds * d.mean(axis=0).var(ddof=1)
    total = (d * d).sum() - d.size * d.mean() ** 2
    rest = total - (seeds - 1) * of_seeds - (problems - 1) * of_problems
    return float(of_seeds), float(of_problems), float(rest / ((seeds - 1) * (problems - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the same order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = float(largest)
    return adjusted


# --- the verdict --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    label: str  # supports, refutes, equivalent, underpowered, or incomplete (3 of 6 seeds)
    difference: float | None  # None without a seed
    interval: Interval | None  # 95%; of one seed: for these two models, not for seeds
    equivalence: Interval | None  # 90%, held against the margin


def verdict(
    a: np.ndarray, b: np.ndarray, margin: float, planned: int, lower_is_better: bool = False
) -> Verdict:
    """Whether b beats a: `supports` where the 95% interval lies above 0, else `refutes` where below 0 (the other way
    round where `lower_is_better`), else `equivalent` where the 90% interval lies within ±margin, else
    `underpowered`, as one seed always is; and `incomplete` while there are fewer seeds than planned, with the
    figures of what there is."""
    _check(a, b, margin, planned)
    seeds = len(a)
    incomplete = f"incomplete ({seeds} of {planned} seeds)"
    if seeds == 0:
        return Verdict(incomplete, None, None, None)
    if seeds == 1:
        difference, interval = paired_difference(a[0], b[0], 0.95)
        equivalence = paired_difference(a[0], b[0], 0.90)[1]
    else:
        found = effect(a, b)
        difference, interval, equivalence = found.difference, found.interval(0.95), found.interval(0.90)
    if seeds < planned:
        label = incomplete
    elif seeds == 1:
        label = "underpowered"
    elif interval.low > 0 or interval.high < 0:
        label = "supports" if (interval.low > 0) != lower_is_better else "refutes"
    elif -margin < equivalence.low and equivalence.high < margin:
        label = "equivalent"
    else:
        label = "underpowered"
    return Verdict(label, difference, interval, equivalence)


def _check(a: np.ndarray, b: np.ndarray, margin: float, planned: int) -> None:
    if a.shape != b.shape or a.ndim != 2 or a.dtype != b.dtype or a.dtype not in (bool, float):
        found = f"{a.dtype}{a.shape} and {b.dtype}{b.shape}"
        raise UserError(
            f"outcomes: two arrays of the same (seeds, problems), bool or float, are needed, not {found}"
        )
    if a.shape[1] < 2:
        raise UserError(f"outcomes: {a.shape[1]} problems; a difference needs at least 2")
    if not 0 <= margin < 1:  # a relative margin is 0 where the control has nothing right: never equivalent
        raise UserError(f"margin: {margin} is not a share between 0 and 1, such as 0.02 for two points")
    if not 1 <= planned or len(a) > planned:
        raise UserError(f"seeds: {len(a)} found, {planned} planned; name every seed in the experiment file")
