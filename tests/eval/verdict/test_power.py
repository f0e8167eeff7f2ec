import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from eval.verdict import power, stats
from pipeline.errors import UserError

BASE = power.Design(accuracy=0.4, problems=400, seeds=6)


def test_power_is_that_of_a_paired_t_where_problems_abound():
    design = replace(BASE, problems=10**9, spread=0.01)
    theirs = TTestPower().power(0.015 / 0.01, nobs=6, alpha=0.05 * stats.CAUTION)
    assert power.power(design, 0.015) == pytest.approx(theirs, abs=1e-4)


def test_smallest_effect_and_seeds_needed_answer_each_other():
    effect = power.smallest_effect(BASE)
    assert power.power(BASE, effect) == pytest.approx(0.8)
    assert power.seeds_needed(BASE, effect * 1.0001) == 6
    assert power.seeds_needed(BASE, effect * 0.99) == 7


@pytest.mark.parametrize(
    "better", [{"problems": 1_319}, {"seeds": 8}, {"correlation": 0.8}, {"accuracy": 0.05}, {"spread": 0.0}]
)
def test_what_makes_smaller_effects_visible(better):
    design = replace(BASE, spread=0.01)
    assert power.smallest_effect(replace(design, **better)) < power.smallest_effect(design)


def test_there_may_be_no_answer():
    assert power.smallest_effect(power.Design(0.4, 5, 2)) is None
    assert power.seeds_needed(replace(BASE, spread=0.5), 1e-3) is None


def test_simulated_arms_are_what_the_design_says():
    design = replace(BASE, problems=20_000, seeds=40, spread=0.03)
    a, b = power.outcomes(design, 0.05, np.random.default_rng(0))
    assert a.mean() == pytest.approx(0.40, abs=0.015)  # 40 seeds of 2 points
    assert b.mean() - a.mean() == pytest.approx(0.05, abs=0.015)
    correlation, spread = stats.pairing(a, b)
    assert correlation == pytest.approx(0.5, abs=0.02)
    assert spread == pytest.approx(0.03, rel=0.3)


def test_foreseen_power_is_met():
    design = replace(BASE, seed_spread=0.0)
    effect = power.smallest_effect(design)
    met = power.rates(design, effect, 0.02, 1_500, np.random.default_rng(0))
    assert met["supports"] == pytest.approx(0.8, abs=0.04)
    assert met["refutes"] == 0


def test_false_verdicts_and_coverage():
    """Six seeds, all that may vary: at most 5% of verdicts are false and intervals cover 95%, over 4,800
    experiments; and no scenario by itself is beyond what chance allows."""
    runs, rng = 600, np.random.default_rng(0)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    false, covered = [], []
    for name, design in power.scenarios(BASE).items():
        none = power.rates(design, 0.0, 0.02, runs, rng)
        false.append(none["supports"] + none["refutes"])
        covered.append(none["covered"])
        assert false[-1] <= limit, name
    assert np.mean(false) <= 0.05
    assert np.mean(covered) >= 0.95


def test_false_equivalence():
    """An effect as large as the margin is called equivalent in at most 5%, where the seeds could show it."""
    rng, design = np.random.default_rng(0), replace(BASE, problems=1_319)
    found = power.rates(design, 0.03, 0.03, 800, rng)
    assert found["equivalent"] <= 0.05
    assert found["covered"] >= 0.94
    assert power.rates(design, 0.0, 0.03, 200, rng)["equivalent"] > 0.8


def test_lasting_differences_by_problem_are_why_t_does_not_decide():
    design = replace(BASE, problems=1_319, own=0.3)
    found = power.rates(design, 0.0, 0.02, 400, np.random.default_rng(0))
    assert found["t alone"] > 0.10
    assert found["supports"] + found["refutes"] < 0.06


def test_a_margin_is_asked_for_to_simulate_alone(capsys):
    power.main(["--accuracy", "0.99"])  # no room for the margin that --margin has by itself
    assert "smallest effect" in capsys.readouterr().out


def test_command(capsys):
    power.main("--accuracy 0.4 --problems 1319 --seeds 6 --effect 0.03".split())
    printed = capsys.readouterr().out
    smallest = 100 * power.smallest_effect(power.Design(0.4, 1_319, 6))
    assert f"80% power: {smallest:.2f} points" in printed
    assert f"80% power: {power.seeds_needed(power.Design(0.4, 1_319, 6), 0.03)}\n" in printed
    power.main(["--simulate", "5", "--problems", "50"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in power.scenarios(BASE))


@pytest.mark.parametrize(
    "words",
    ["--accuracy 1", "--accuracy nan", "--problems 1", "--seeds 1", "--correlation 1"]
    + [
        "--deviation -0.1",
        "--effect 0.7",
        "--simulate 0",
        "--margin 0 --simulate 1",
        "--problems 1" + 20 * "0",
    ],
)
def test_impossible_words_are_refused(words):
    with pytest.raises(UserError, match=f"^{words.split()[0]} "):
        power.main(words.split())
