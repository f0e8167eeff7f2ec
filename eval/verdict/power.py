"""python -m eval.verdict.power --accuracy 0.4 --problems 1319 --seeds 6 [--correlation .5 --deviation .01 --effect .02]

Before an experiment: the smallest effect that it would see with 80% power, and the seeds that a given effect
needs. All figures are shares of 1. `--correlation` is between the two arms' outcomes on the same problem,
`--deviation` the standard deviation over seeds of the true paired difference (0, its default, is the best case);
`stats.pairing` estimates both from runs that exist.

    python -m eval.verdict.power --simulate 10000      # four minutes; the other options choose the setting

checks the verdict itself, on simulated outcomes whose true effect is known exactly.
"""

import argparse
import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from eval.verdict import stats
from pipeline.errors import UserError, cli

MAX_SEEDS = 1_000
MOST = 10**9  # problems or seeds; beyond, floats no longer tell them apart


@dataclass(frozen=True)
class Design:
    """What an experiment expects of its two arms; all but the counts are shares of 1."""

    accuracy: float  # of arm a
    problems: int
    seeds: int
    correlation: float = 0.5  # of the two arms' outcomes on one problem
    spread: float = 0.0  # standard deviation over seeds of the true paired difference
    seed_spread: float = 0.02  # of what both arms share in a seed; cancels in the difference
    own: float = 0.0  # share of problems whose difficulty is each arm's own (only simulated)
    collapse: float = 0.0  # chance that one run fails by many points (only simulated)


# --- power --------------------------------------------------------------------------------------------------


def standard_error(design: Design, effect: float) -> float:
    """Of the mean paired difference over seeds, where arm b is better by `effect`."""
    variance_a, variance_b = (p * (1 - p) for p in (design.accuracy, design.accuracy + effect))
    one_answer = variance_a + variance_b - 2 * design.correlation * math.sqrt(variance_a * variance_b)
    return math.sqrt((one_answer / design.problems + design.spread**2) / design.seeds)


def power(design: Design, effect: float) -> float:
    """Chance that the verdict supports a true effect > 0, by the noncentral t."""
    error = standard_error(design, effect)
    of_seeds, of_problems = stats.quantiles(design.seeds, 0.05)
    critical = math.hypot(of_seeds, of_problems / (design.problems * error))  # never finer than one problem
    return 1 - float(special.nctdtr(design.seeds - 1, effect / error, critical))


def smallest_effect(design: Design, chance: float = 0.8) -> float | None:
    """The effect that is seen with that chance; None where not even all problems right would be."""
    largest = 1 - design.accuracy - 1e-9
    if power(design, largest) < chance:
        return None
    return stats.bisect(lambda effect: power(design, effect) - chance, 1e-9, largest)


def seeds_needed(design: Design, effect: float, chance: float = 0.8) -> int | None:
    """The fewest seeds (at least 2) that see the effect with that chance; None beyond MAX_SEEDS."""
    enough = (n for n in range(2, MAX_SEEDS + 1) if power(replace(design, seeds=n), effect) >= chance)
    return next(enough, None)


# --- simulation ---------------------------------------------------------------------------------------------


def outcomes(design: Design, effect: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One simulated experiment: (a, b), bool of shape (seeds, problems), b better by exactly `effect` in
    expectation. Chances are beta-distributed over problems, with variance correlation · p · (1 − p)."""
    p, shape = design.accuracy, 1 / design.correlation - 1
    room = p * (1 - p) * (1 - design.correlation)  # the mean of chance · (1 − chance)
    limit = room - abs(effect)
    if limit < 0:
        raise UserError(f"an effect of {effect:g} is too large to simulate here: at most {room:.3f}")
    chance = rng.beta(p * shape, (1 - p) * shape, size=(2, 1, design.problems))
    shared = rng.random(design.problems) >= design.own
    chance[1, :, shared] = chance[0, :, shared]
    of_seed = design.seed_spread * rng.standard_normal((1, design.seeds, 1))
    of_arm = design.spread / math.sqrt(2) * rng.standard_normal((2, design.seeds, 1))
    shift = np.clip(of_seed + of_arm, -limit, limit)
    shift[rng.random(shift.shape) < design.collapse] = -limit
    shift[1] += effect
    # as a logit would, moves the open problems most; the mean moves by the shift exactly
    chance = chance + shift * chance * (1 - chance) / room
    a, b = rng.random(chance.shape) < chance
    return a, b


def rates(design: Design, effect: float, margin: float, runs: int, rng: np.random.Generator) -> Counter[str]:
    """Shares of simulated experiments: with each verdict, `covered` where the 95% interval holds the true
    effect, and `t alone` where the paired t over seeds by itself has p < .05."""
    counts: Counter[str] = Counter()
    for _ in range(runs):
        a, b = outcomes(design, effect, rng)
        verdict = stats.verdict(a, b, margin, design.seeds)
        counts[verdict.label] += 1
        assert verdict.interval is not None  # there are seeds
        counts["covered"] += verdict.interval.low <= effect <= verdict.interval.high
        counts["t alone"] += stats.paired_t(a, b)[0] < 0.05
    return Counter({name: count / runs for name, count in counts.items()})


def scenarios(base: Design) -> dict[str, Design]:
    """What may vary beside the problems' difficulty, from nothing to more than one expects."""
    return {
        "problem difficulty alone": replace(base, seed_spread=0.0),
        "+ seeds, 2 points": base,
        "+ arms by seed, 1 point": replace(base, spread=0.01),
        "+ arms by seed, 3 points": replace(base, spread=0.03),
        "+ arms by seed, 7 points": replace(base, correlation=0.1, spread=0.07),
        "+ arms by seed, 15 points": replace(base, correlation=0.1, spread=0.15),
        "+ arms by problem, 3 in 10": replace(base, spread=0.01, own=0.3),
        "one run in 5 collapses": replace(base, collapse=0.2),
        "100 problems": replace(base, problems=100),
        "near the floor, 4%": replace(base, accuracy=0.04, correlation=0.1, seed_spread=0.003, spread=0.003),
    }


def simulate(base: Design, margin: float, runs: int) -> None:
    """Print what the verdict does in every scenario, under no effect and under one as large as the margin."""
    rng = np.random.default_rng(0)
    print(f"{runs:,} experiments of {base.seeds} seeds behind each figure; a rate of 5% is known to "
          f"±{math.sqrt(0.05 * 0.95 / runs):.2%} (one standard error)")  # fmt: skip
    print(f"{'':26} | no effect               | true effect = margin = {margin:.2%}")
    print(f"{'what varies':26} |  false covered  t alone | covered equivalent supports foreseen")
    for name, design in scenarios(base).items():
        none, some = (rates(design, effect, margin, runs, rng) for effect in (0.0, margin))
        foreseen = "-" if design.own or design.collapse else f"{power(design, margin):.1%}"
        print(
            f"{name:26} | {none['supports'] + none['refutes']:6.2%} {none['covered']:7.2%}"
            f"{none['t alone']:9.2%} | {some['covered']:7.2%}"
            f"{some['equivalent']:11.2%}{some['supports']:9.1%}{foreseen:>9}",
            flush=True,
        )


# --- command ------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.verdict.power", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("--accuracy", type=float, default=0.4)
    parser.add_argument("--problems", type=int, default=1_319)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--correlation", type=float, default=0.5)
    parser.add_argument("--deviation", type=float, default=0.0)
    parser.add_argument("--effect", type=float, help="say also how many seeds this effect needs")
    parser.add_argument("--simulate", type=int, metavar="RUNS", help="check the verdict instead")
    parser.add_argument("--margin", type=float, default=0.02, help="of equivalence, to simulate")
    args = parser.parse_args(argv)
    _check(args)
    design = Design(args.accuracy, args.problems, args.seeds, args.correlation, args.deviation)
    if args.simulate:
        return simulate(design, args.margin, args.simulate)
    print(f"accuracy {design.accuracy:.1%}, {design.problems:,} problems, {design.seeds} seeds, "
          f"correlation {design.correlation:g}, standard deviation over seeds {_points(design.spread)}")  # fmt: skip
    smallest = smallest_effect(design)
    print(f"smallest effect seen with 80% power: {'none' if smallest is None else _points(smallest)}")
    if args.effect is not None:
        needed = seeds_needed(design, args.effect) or f"more than {MAX_SEEDS:,}"
        print(f"power for an effect of {_points(args.effect)}: {power(design, args.effect):.0%}")
        print(f"seeds needed to see it with 80% power: {needed}")


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _check(args: argparse.Namespace) -> None:
    room = f"above 0 and below {1 - args.accuracy:g}, what is left above the accuracy"
    for name, holds, wanted in (
        ("accuracy", 0 < args.accuracy < 1, "a share between 0 and 1, such as 0.4"),
        ("problems", 2 <= args.problems <= MOST, f"between 2 and {MOST:,}"),
        ("seeds", 2 <= args.seeds <= MOST, f"between 2 and {MOST:,}: one seed never decides"),
        ("correlation", 0 < args.correlation < 1, "between 0 and 1"),
        ("deviation", 0 <= args.deviation < 1, "a share, such as 0.01 for one point"),
        ("effect", args.effect is None or 0 < args.effect < 1 - args.accuracy, room),
        ("simulate", args.simulate is None or args.simulate >= 1, "at least 1"),
        ("margin", not args.simulate or 0 < args.margin < 1 - args.accuracy, room),
    ):
        if not holds:
            raise UserError(f"--{name} {getattr(args, name)}: must be {wanted}")


if __name__ == "__main__":
    cli(main)
