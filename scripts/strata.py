"""Where a difference of the miniature studies comes from: the paired contrast by what an item's solution holds.

    python -m scripts.strata experiments/results/miniature_compute/outcomes.parquet
    python -m scripts.strata WITH_SUMS/outcomes.parquet --less WITHOUT/outcomes.parquet    # what changes a difference
    python -m scripts.strata experiments/results/miniature_curve/outcomes.parquet --stage export_967    # after one of several

Of miniature_compute.yaml these strata are post hoc; miniature_mechanism.yaml registered two of them. Intervals are 95% t
intervals over the seeds' paired differences; unlike the verdict's they leave out the sampling of problems. With `--less`
the last column is the difference of two studies' differences, paired by seed. Items are those of `name: worked`, test split.
Below them stand the probes, and the bits per byte of the items' reference answers.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from eval.tasks.task import item_id
from eval.verdict import stats
from pipeline.errors import UserError, cli
from pipeline.sample.worked import worked
from tokenizer.vocabularies import multiplication

ITEMS, NUMBER = "items", 1200  # of the test split, in every miniature study


def strata() -> dict[str, Callable[[dict], bool]]:
    """Name → whether an item, {question, answer, template, seen}, belongs to it."""

    def facts(row: dict) -> bool:
        return bool(multiplication.find(row["answer"]))

    def operations(row: dict, signs: str) -> bool:
        return any(f" {sign} " in row["answer"] for sign in signs)

    by_carries = {
        f"three digits by one, {carries} sums of a carry": lambda row, carries=carries: (
            row["template"] == "3 by 1 digits" and row["answer"].count(" + ") == carries
        )
        for carries in range(3)
    }
    return {
        "all": lambda row: True,
        "the solution holds a sum": lambda row: operations(row, "+"),
        "products only": lambda row: facts(row) and not operations(row, "+-/"),
        **by_carries,
        "no fact, template `add`": lambda row: not facts(row) and row["template"] == "add",
        "no fact, other templates": lambda row: not facts(row) and row["template"] != "add",
        "templates that training has not seen": lambda row: not row["seen"],
    }


class Answers:
    """What one arm answered after one stage: set → problem → whether it was right; bits of the items' references."""

    def __init__(self) -> None:
        self.right: dict[str, dict[str, bool]] = defaultdict(dict)
        self.bits = self.bytes = 0.0

    def add(self, row: dict) -> None:
        self.right[row["set"]][row["id"]] = row["correct"]
        if row["set"] == ITEMS and row.get("gold_bits") is not None:  # the first studies kept none
            self.bits += row["gold_bits"]
            self.bytes += row["gold_bytes"]


def read(path: Path, stage: str | None) -> dict[tuple[str, int], Answers]:
    """(condition, seed) → what the arm answered. Raises UserError where the stage is not one of the file's, or is not said."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the outcomes.parquet of a study")
    rows = parquet.read_table(path).to_pylist()
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    if stage is None and len(stages) > 1:
        raise UserError(f"{path}: has several stages; give --stage, one of {', '.join(stages)}")
    if stage not in (None, *stages):
        raise UserError(f"{path}: --stage {stage}: it has {', '.join(stages)}")
    arms: dict[tuple[str, int], Answers] = defaultdict(Answers)
    for row in rows:
        if row["stage"] == (stage or stages[0]):
            arms[row["condition"], row["seed"]].add(row)
    return arms


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.strata",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--treated", default="mul_tokens")
    parser.add_argument("--control", default="baseline")
    parser.add_argument("--stage", help="of outcomes after several")
    parser.add_argument("--less", type=Path, help="outcomes of the study whose differences are taken away")
    parser.add_argument("--less-stage", help="of those")
    args = parser.parse_args(argv)
    pair = (args.treated, args.control)
    items = {item_id(row["question"]): row for row in worked("test", NUMBER, 0)}
    asked = [
        (path, stage) for path, stage in ((args.outcomes, args.stage), (args.less, args.less_stage)) if path
    ]
    studies = [read(path, stage) for path, stage in asked]
    for (path, _), arms in zip(asked, studies):
        for (condition, seed), arm in arms.items():
            if differing := len(arm.right[ITEMS].keys() ^ items.keys()):
                raise UserError(
                    f"{path}: {condition}, seed {seed}: {differing} items are not those of the generated test split"
                )
    seeds = sorted(
        seed
        for name, seed in studies[0]
        if name == args.treated and all((each, seed) in arms for arms in studies for each in pair)
    )
    if len(seeds) < 2:
        where = f"{args.outcomes} and {args.less}: share" if args.less else f"{args.outcomes}: has"
        raise UserError(f"{where} no two pairs of {args.treated} and {args.control}")
    print(
        f"| {len(seeds)} pairs | items | {args.treated} | {args.control} | points [95%] |"
        + " change |" * bool(args.less)
    )
    print("| --- | --- | --- | --- | --- |" + " --- |" * bool(args.less))
    rows = {
        name: (ITEMS, [key for key, row in items.items() if belongs(row)])
        for name, belongs in strata().items()
    }
    first = studies[0][args.treated, seeds[0]]
    rows |= {name: (name, list(right)) for name, right in first.right.items() if name != ITEMS}
    for name, (set_name, keys) in rows.items():
        right = [
            {
                each: 100
                * np.array([np.mean([arms[each, s].right[set_name][k] for k in keys]) for s in seeds])
                for each in pair
            }
            for arms in studies
        ]
        differences = [accuracy[args.treated] - accuracy[args.control] for accuracy in right]
        accuracies = " | ".join(f"{right[0][each].mean():.1f}%" for each in pair)
        columns = [interval(differences[0])] + [interval(differences[0] - less) for less in differences[1:]]
        print(f"| {name} | {len(keys)} | {accuracies} | {' | '.join(columns)} |")
    if first.bytes:
        bits = {
            each: np.array([studies[0][each, s].bits / studies[0][each, s].bytes for s in seeds])
            for each in pair
        }
        means = ", ".join(f"{each} {bits[each].mean():.3f}" for each in pair)
        difference = interval(bits[args.treated] - bits[args.control], digits=3)
        print(f"\nbits per byte of the items' reference answers: {means}, difference {difference}")


def interval(by_seed: np.ndarray, sign: str = "+", digits: int = 1) -> str:
    """A mean over seeds with its 95% t interval."""
    return shown(by_seed.mean(), stats.mean_interval(by_seed), sign, digits)


def shown(mean: float, ends: Sequence[float], sign: str = "+", digits: int = 1) -> str:
    """A figure and the two ends of its interval."""
    low, high = ends
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


if __name__ == "__main__":
    cli(main)
