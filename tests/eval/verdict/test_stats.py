import itertools
import math
import warnings
from dataclasses import astuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from eval.grading import answers
from eval.verdict import stats
from pipeline.errors import UserError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def arms(counts, problems=100):
    """Two arms whose difference in each seed is so many problems of 100."""
    a, b = np.zeros((2, len(counts), problems), dtype=bool)
    for seed, count in enumerate(counts):
        a[seed, :40] = True
        b[seed, : 40 + count] = True
    return a, b


def random_arms(seed, seeds=6, problems=60, shift=0.0):
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.1, 0.7, problems)
    return rng.random((seeds, problems)) < chance, rng.random((seeds, problems)) < chance + shift


# --- one score, and two scores of one seed ------------------------------------------------------------------


def test_the_published_counts():
    """2.4% against 3.8% of 500, which was read as "it helps"."""
    assert stats.fisher(12, 500, 19, 500) == pytest.approx(0.27, abs=0.005)
    difference, interval = stats.unpaired_difference(12, 500, 19, 500)
    assert difference == pytest.approx(0.014)
    assert interval == pytest.approx((-0.008, 0.037), abs=0.0005)


def test_wilson_and_accuracy(rng):
    assert stats.wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    outcomes = rng.random((6, 200)) < 0.4
    assert stats.accuracy(outcomes[:1]) == (outcomes[0].mean(), stats.wilson(outcomes[0].sum(), 200))
    mean, interval = stats.accuracy(outcomes)
    alone = stats.wilson(outcomes.mean() * 200, 200)
    assert mean == outcomes.mean() and interval.low < alone.low < mean < alone.high < interval.high
    assert stats.accuracy(np.repeat(outcomes[:1], 6, 0))[1] == pytest.approx(stats.accuracy(outcomes[:1])[1])


def test_the_interval_of_an_accuracy_covers_other_seeds_and_problems(rng):
    hit = 0
    for _ in range(400):
        chance = 1 / (1 + np.exp(-(rng.normal(0, 0.5, (6, 1)) + rng.normal(0, 1, (1, 150)))))
        low, high = stats.accuracy(rng.random((6, 150)) < chance)[1]
        hit += low <= 0.5 <= high
    assert hit >= 0.93 * 400


def test_a_constant_answer_scores_as_published(shared_data):
    rows = pq.read_table(shared_data / "gsm8k/test.parquet").to_pylist()
    golds = [answers.answer(row["answer"]) for row in rows]
    assert stats.constant_floor(golds[:500]) == ("6", 0.036)
    assert stats.constant_floor(golds) == ("5", 40 / 1_319)


def test_a_constant_answer_is_a_number_and_not_a_spelling():
    assert stats.constant_floor(["70,000", "5", "70000.0", "6"]) == ("70,000", 0.5)
    with pytest.raises(UserError, match="'six' is not a number"):
        stats.constant_floor(["5", "six"])
    with pytest.raises(UserError, match="none given"):
        stats.constant_floor([])


def test_mcnemar_and_the_paired_interval():
    a = np.repeat([True, True, False, False], [1, 1, 7, 12])
    b = np.repeat([True, False, True, False], [1, 1, 7, 12])
    assert stats.discordant(a, b) == (1, 7)
    assert stats.mcnemar(a, b) == pytest.approx(2 * 9 / 2**8)
    difference, interval = stats.paired_difference(a, b)
    assert difference == pytest.approx(6 / 21)
    assert interval == pytest.approx((0.013, 0.508), abs=0.001)  # Fagerland, Lydersen & Laake 2014, table 5
    assert stats.mcnemar(a, a) == 1
    assert stats.paired_difference(a, a)[1].low < 0 < stats.paired_difference(a, a)[1].high


def test_the_paired_interval_covers(rng):
    covered = 0
    for _ in range(2_000):
        cell = rng.choice(4, size=100, p=(0.3, 0.05, 0.1, 0.55))
        interval = stats.paired_difference((cell == 0) | (cell == 1), (cell == 0) | (cell == 2))[1]
        covered += interval.low <= 0.05 <= interval.high
    assert 0.94 <= covered / 2_000 <= 0.975


# --- several seeds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "p"), [(2, 0.5), (5, 0.0625), (6, 0.03125), (8, 2 / 2**8)])
def test_the_smallest_p_of_the_sign_flip(seeds, p):
    assert stats.sign_flip(*arms(range(1, seeds + 1))) == pytest.approx(p)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=7))
def test_the_sign_flip_is_the_whole_enumeration(counts):
    sums = [abs(np.dot(signs, counts)) for signs in itertools.product((-1, 1), repeat=len(counts))]
    assert stats.sign_flip(*arms(counts)) == pytest.approx(np.mean(np.array(sums) >= abs(sum(counts))))


def test_paired_t():
    a, b = random_arms(1, shift=0.1)
    theirs = ttest_rel(b.mean(axis=1), a.mean(axis=1))
    p, interval = stats.paired_t(a, b)
    assert p == pytest.approx(theirs.pvalue)
    assert interval == pytest.approx(tuple(theirs.confidence_interval()))
    with warnings.catch_warnings(action="error"):
        assert stats.paired_t(a, a) == (1.0, (0.0, 0.0))
        assert stats.paired_t(*arms([3] * 6)) == (0.0, (0.03, 0.03))


def test_the_bootstrap_moves_with_both_axes(rng):
    a = np.zeros((6, 400), dtype=bool)
    by_problem = np.broadcast_to(rng.random(400) < 0.3, a.shape)  # the same problems in every seed
    low, high = stats.crossed_bootstrap(a, by_problem)
    assert high - low == pytest.approx(2 * 1.96 * by_problem[0].std() / math.sqrt(400), rel=0.1)
    counts = [20, 60, 100, 140, 180, 220]
    by_seed = np.arange(400) < np.array(counts)[:, None]
    low, high = stats.crossed_bootstrap(a, by_seed)
    assert high - low > 2 * 1.9 * np.std(counts) / 400 / math.sqrt(6)
    assert stats.crossed_bootstrap(a, a) == (0, 0)


def test_the_errors_are_those_of_the_layout(rng):
    """Differences built of known parts: a + seed + problem, no rest."""
    a = np.zeros((4, 50), dtype=bool)
    found = stats.effect(a, np.arange(50) < np.array([[10], [12], [14], [16]]))
    assert found.difference == pytest.approx(0.26)
    assert found.seed_error == pytest.approx(np.std([10, 12, 14, 16], ddof=1) / 50 / 2)
    same_in_every_seed = np.broadcast_to(np.arange(50) < 20, a.shape)
    found = stats.effect(a, same_in_every_seed)
    assert found.seed_error == 0
    assert found.problem_error == pytest.approx(math.sqrt(0.4 * 0.6 / 49))
    assert stats.effect(a, a).problem_error == 1 / 50


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0, 0.3), st.floats(0.005, 0.3))
def test_interval_p_and_equivalence_tell_one_story(seed, seeds, shift, margin):
    a, b = random_arms(seed, seeds, shift=shift)
    found = stats.effect(a, b)
    low, high = found.interval(0.95)
    assert low <= stats.paired_t(a, b)[1].low and stats.paired_t(a, b)[1].high <= high
    assert (found.p_value() < 0.05) == (low > 0 or high < 0)
    assert 0 < found.p_value() <= 1
    inner = found.interval(0.90)
    assert (found.equivalence_p(margin) < 0.05) == (-margin < inner.low and inner.high < margin)
    mirrored, order = stats.effect(b, a), np.random.default_rng(seed).permutation(60)
    assert mirrored.interval() == pytest.approx((-high, -low))
    assert stats.effect(a[::-1, order], b[::-1, order]).interval() == pytest.approx((low, high))


def test_pairing_of_arms_without_variety():
    a, b = arms([0] * 6)
    assert stats.pairing(a, b) == (pytest.approx(1), 0)
    assert stats.pairing(np.zeros_like(a), b)[0] is None


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


# --- the verdict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "label"),
    [
        ([9, 10, 11, 9, 10, 11], "supports"),
        ([-9, -10, -11, -9, -10, -11], "refutes"),
        ([0, 1, -1, 0, 1, -1], "equivalent"),
        ([20, -20, 18, -19, 5, 0], "underpowered"),
        ([10], "underpowered"),
    ],
)
def test_the_verdict(counts, label):
    found = stats.verdict(*arms(counts), margin=0.05, planned=len(counts))
    assert found.label == label
    assert found.difference == pytest.approx(np.mean(counts) / 100)
    assert found.interval.low <= found.equivalence.low <= found.equivalence.high <= found.interval.high


def test_supports_comes_before_equivalent():
    a, b = arms([9, 10, 11, 9, 10, 11])
    assert stats.verdict(a, b, margin=0.5, planned=6).label == "supports"


def test_a_verdict_waits_for_the_seeds_that_were_planned():
    a, b = arms([10] * 6)
    for seeds in range(6):
        found = stats.verdict(a[:seeds], b[:seeds], margin=0.02, planned=6)
        assert found.label == f"incomplete ({seeds} of 6 seeds)"
        assert (found.difference is None) == (found.interval is None) == (seeds == 0)


def test_one_seed_is_underpowered_however_large_the_difference():
    a, b = np.zeros((1, 1_000), dtype=bool), np.ones((1, 1_000), dtype=bool)
    assert stats.verdict(a, b, margin=0.02, planned=1).label == "underpowered"
    assert stats.verdict(a, a, margin=0.02, planned=1).label == "underpowered"


def test_few_problems_do_not_show_equivalence():
    """All wrong in both arms: 20 problems cannot exclude a difference of two points, 1,319 can."""
    few, many = np.zeros((6, 20), dtype=bool), np.zeros((6, 1_319), dtype=bool)
    assert stats.verdict(few, few, margin=0.02, planned=6).label == "underpowered"
    assert stats.verdict(many, many, margin=0.02, planned=6).label == "equivalent"


@pytest.mark.parametrize(
    ("a", "b", "margin", "planned", "words"),
    [
        (np.zeros((6, 9), bool), np.zeros((6, 8), bool), 0.02, 6, "same"),
        (np.zeros((6, 9)), np.zeros((6, 9), bool), 0.02, 6, "float64"),
        (np.zeros(9, bool), np.zeros(9, bool), 0.02, 6, "seeds, problems"),
        (np.zeros((6, 1), bool), np.zeros((6, 1), bool), 0.02, 6, "1 problems"),
        (np.zeros((6, 9), bool), np.zeros((6, 9), bool), 2, 6, "margin"),
        (np.zeros((6, 9), bool), np.zeros((6, 9), bool), math.nan, 6, "margin"),
        (np.zeros((7, 9), bool), np.zeros((7, 9), bool), 0.02, 6, "7 found, 6 planned"),
    ],
)
def test_bad_outcomes_are_refused(a, b, margin, planned, words):
    with pytest.raises(UserError, match=words):
        stats.verdict(a, b, margin, planned)


# --- against the libraries that have them -------------------------------------------------------------------


@pytest.mark.parametrize("right_a, right_b", [(0, 0), (0, 3), (7, 31), (40, 40), (20, 22)])
def test_proportions_agree_with_statsmodels(right_a, right_b):
    from statsmodels.stats import contingency_tables, proportion

    low, high = proportion.proportion_confint(right_b, 40, 0.1, method="wilson")
    assert stats.wilson(right_b, 40, 0.9) == pytest.approx((low, high))
    expected = proportion.confint_proportions_2indep(right_b, 40, right_a, 40, method="newcomb")
    assert stats.unpaired_difference(right_a, 40, right_b, 40)[1] == pytest.approx(expected)
    a, b = np.arange(80) < right_a, np.arange(80) >= 80 - right_b
    table = [[0, right_a], [right_b, 0]]
    assert stats.mcnemar(a, b) == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p_values = [0.04, 0.001, 0.3, 0.04, 0.9, 0.02]
    assert stats.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


@pytest.mark.parametrize("seeds", [2, 6, 9])
def test_sign_flips_agree_with_scipy(seeds):
    from scipy.stats import permutation_test

    rng = np.random.default_rng(seeds)
    a, b = rng.random((2, seeds, 30)) < 0.4
    exact = permutation_test((stats.by_seed(a, b),), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip(a, b) == pytest.approx(exact.pvalue)


def test_the_interval_of_a_mean_over_seeds_is_that_of_t():
    from scipy.stats import ttest_1samp

    values = [0.31, 0.35, 0.28, 0.4]
    assert stats.mean_interval(values) == pytest.approx(tuple(ttest_1samp(values, 0).confidence_interval()))
    assert stats.mean_interval([0.3]) is None


def test_real_outcomes_are_compared_as_right_and_wrong_ones_are():
    """The same numbers as float, but for what is bool's alone: the finest difference that a set of problems shows."""
    rng = np.random.default_rng(3)
    a = rng.random((6, 400)) < 0.5
    b = a ^ (rng.random((6, 400)) < 0.2) | (rng.random(400) < 0.1)
    one, other = stats.effect(a, b), stats.effect(a.astype(float), b.astype(float))
    assert astuple(one) == pytest.approx(astuple(other))
    assert stats.paired_t(a, b)[0] == pytest.approx(stats.paired_t(a * 1.0, b * 1.0)[0])
    assert stats.sign_flip(a, b) == pytest.approx(stats.sign_flip(a * 3.7, b * 3.7))
    assert stats.pairing(a, b) == pytest.approx(stats.pairing(a * 1.0, b * 1.0))
    assert stats.verdict(a, b, 0.02, 6).label == "supports"
    assert stats.verdict(a * 1.0, b * 1.0, 0.02, 6, lower_is_better=True).label == "refutes"
    same = stats.verdict(a * 1.0, a * 1.0, 0.02, 6)
    assert same.label == "equivalent" and same.interval == (0, 0)


def test_the_interval_of_real_outcomes_covers():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        problems, seeds = 0.05 * rng.standard_normal(200), 0.02 * rng.standard_normal((6, 1))
        a = rng.standard_normal((6, 200))
        b = a + 0.3 + problems + seeds + 0.2 * rng.standard_normal((6, 200))
        low, high = stats.effect(a, b).interval()
        hits += low < 0.3 < high
    assert 0.93 < hits / 400


def test_a_mean_of_many_samples_is_known_better_than_one_answer():
    """Problems that are all right in half of 16 samples: only which half is chance, and little of that is left."""
    rng = np.random.default_rng(0)
    answers = rng.random((400, 16)) < 0.5
    (low, high), (one_low, one_high) = (stats.accuracy(x[None])[1] for x in (answers.mean(1), answers[:, 0]))
    assert 3.5 < (one_high - one_low) / (high - low) < 4.5  # √16
    none = stats.accuracy(np.zeros((1, 400)))[1]
    assert (
        none == stats.accuracy(np.zeros((1, 400), bool))[1]
    )  # no share varies: as careful as for one answer
    assert stats.accuracy(answers * 1.0)[1] == pytest.approx(stats.accuracy(answers)[1])


def test_intervals_of_shares_cover_the_truth():
    """Of 300 sets of 60 problems with chances of their own and 8 samples each, about 95%."""
    rng = np.random.default_rng(1)
    chance = rng.beta(0.5, 1.5, (300, 60, 1))
    shares = (rng.random((300, 60, 8)) < chance).mean(2)
    ends = [stats.accuracy(each[None])[1] for each in shares]
    assert 0.91 <= np.mean([low <= 0.25 <= high for low, high in ends]) <= 0.98
