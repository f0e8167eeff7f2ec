"""What k samples are worth, against values worked out by hand and against every choice of k samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.verdict import at_k
from eval.verdict.at_k import Draws


def draws(answers, gold, scores=None):
    """One problem; an answer is a letter, or None."""
    votes = [-1 if each is None else answers.index(each) for each in answers]
    scores = None if scores is None else np.array([scores], dtype=float)
    return Draws(np.array([[each == gold for each in answers]]), np.array([votes]), scores)


def of(metric, *args):
    (share,) = at_k.shares(draws(*args))[metric]
    return share


def test_names_and_the_k_they_are_for():
    assert at_k.counts(16) == [1, 2, 4, 8, 16]
    assert at_k.counts(12) == [1, 2, 4, 8, 12]
    assert at_k.counts(1) == [1]
    assert at_k.names(0, True) == []
    assert at_k.names(2, False) == ["mean", "pass@1", "pass@2", "maj@1", "maj@2"]
    assert at_k.names(2, True)[-4:] == ["verifier@1", "verifier@2", "weighted@1", "weighted@2"]
    for name in ("gsm8k", "probes.table", "a.b", "gsm8k.pass@0", "gsm8k.best@4"):
        assert at_k.set_of(name) == name
    for name in at_k.names(16, True):
        assert at_k.set_of(f"my.set.{name}") == "my.set"


def test_by_hand():
    """Six samples, two of them right: of the 15 pairs 6 miss both, of the 15 fours one."""
    problem = (["a", "b", "b", "c", "a", "b"], "a")
    assert of("mean", *problem) == pytest.approx(2 / 6)
    assert of("pass@2", *problem) == pytest.approx(1 - 6 / 15)
    assert of("pass@4", *problem) == pytest.approx(1 - 1 / 15)
    assert of("pass@6", *problem) and not of("maj@6", *problem)
    # groups of 2: ab → a by the tie, bc → b, ab → a; of 4: abbc → b, and the last two fill none
    assert of("maj@2", *problem) == pytest.approx(2 / 3)
    assert of("maj@4", *problem) == 0
    scores = [-1, 3, 2, 0, 5, -4]  # ranks: a b b c a b
    assert of("verifier@6", *problem, scores)
    # of the 15 pairs: 5 have the best sample (right), and of the others only the pair of the worst two …
    assert of("verifier@2", *problem, scores) == pytest.approx(
        (5 + 1) / 15
    )  # … where rank 4 (right) beats rank 5


@pytest.mark.parametrize(
    "answers, right",
    [
        (["a", "b", "b", "a"], "a"),  # a tie goes to the first
        (["b", "a", "a", "b"], "b"),
        ([None, None, None, "a"], "a"),  # no answer is no vote
        ([None, "b", "a", None], "b"),
        (["c", "a", "b", "b"], "b"),
    ],
)
def test_a_majority_and_its_ties(answers, right):
    assert of("maj@4", answers, right)
    assert not of("maj@4", answers, next(each for each in "abc" if each != right))


def test_without_any_answer_nothing_is_right():
    assert not of("maj@2", [None, None], "a", [1, 2])
    assert not of("weighted@2", [None, None], "a", [1, 2])


def test_votes_are_weighted_by_the_chance_that_a_score_stands_for():
    """σ(2) = 0.88 beats two of σ(−1) = 0.27; it does not beat two of σ(1) = 0.73."""
    assert of("weighted@3", ["a", "b", "b"], "a", [2, -1, -1]) and not of("maj@3", ["a", "b", "b"], "a")
    assert of("weighted@3", ["a", "b", "b"], "b", [2, 1, 1])
    assert of("weighted@2", ["a", "b"], "a", [800.0, 800.0])  # a tie, and no overflow


problems = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from(["a", "b", "c", None]), min_size=n, max_size=n),
        st.lists(st.integers(-2, 2), min_size=n, max_size=n),
    )
)


@given(problems)
def test_means_over_every_choice_of_k_samples(problem):
    answers, scores = problem
    n, shares = len(answers), at_k.shares(draws(answers, "a", scores))
    for k in at_k.counts(n):
        choices = list(itertools.combinations(range(n), k))
        solved = [any(answers[i] == "a" for i in choice) for choice in choices]
        best = [answers[max(choice, key=lambda i: (scores[i], -i))] == "a" for choice in choices]
        assert shares[f"pass@{k}"][0] == pytest.approx(sum(solved) / len(choices))
        assert shares[f"verifier@{k}"][0] == pytest.approx(sum(best) / len(choices))


@given(problems)
def test_bounds_and_what_they_have_in_common(problem):
    answers, scores = problem
    n = len(answers)
    shares = {name: share[0] for name, share in at_k.shares(draws(answers, "a", scores)).items()}
    for kind in ("pass", "maj", "verifier", "weighted"):
        assert shares[f"{kind}@1"] == pytest.approx(shares["mean"])
        for k in at_k.counts(n):
            assert 0 <= shares[f"{kind}@{k}"] <= shares[f"pass@{k}"] + 1e-12 or kind in ("maj", "weighted")
        assert shares[f"{kind}@{n}"] <= shares[f"pass@{n}"]
    equal = at_k.shares(draws(answers, "a", [1] * n))
    for k in at_k.counts(n):
        assert equal[f"weighted@{k}"] == pytest.approx(shares[f"maj@{k}"])


def test_estimates_of_k_samples_are_unbiased():
    """Of 8 samples drawn anew each time, the mean of each estimate at 4 is that of 4 samples' own figure."""
    rng = np.random.default_rng(0)
    answers = rng.choice(3, p=[0.4, 0.35, 0.25], size=(40_000, 8))
    scores = rng.normal(size=answers.shape) + (answers == 0)

    def made(chosen):
        first = (answers[:, chosen, None] == answers[:, None, chosen]).argmax(2)
        return at_k.shares(Draws(answers[:, chosen] == 0, first, scores[:, chosen]))

    of_eight, of_four = made(slice(None)), made(slice(4))
    for name in ("mean", "pass@4", "maj@4", "verifier@4", "weighted@4"):
        assert of_eight[name].mean() == pytest.approx(of_four[name].mean(), abs=0.01)
        assert of_eight[name].var() < of_four[name].var()


def test_floors():
    golds = [1, 1, 1, 2, 2, 3]
    for name in ("mean", "maj@4", "verifier@4", "weighted@1", "pass@1"):
        assert at_k.floor(golds, name) == 3 / 6
    assert at_k.floor(golds, "pass@2") == 5 / 6 and at_k.floor(golds, "pass@16") == 1
