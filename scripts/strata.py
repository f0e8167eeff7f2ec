"""Where a difference of the miniature studies comes from: the paired contrast by what an item's solution holds.

    python -m scripts.strata experiments/results/miniature_compute/outcomes.parquet

Post hoc: none of these strata was registered. Intervals are 95% t intervals over the seeds' paired differences;
unlike the verdict's they leave out the sampling of problems. Items are those of `name: worked`, test split.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from scipy import stats

from eval.tasks.gsm8k import question_id
from pipeline.errors import UserError, cli
from pipeline.sample.worked import worked
from tokenizer.vocabularies import multiplication

ITEMS = 1200  # of the test split, in every miniature study


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


def read(path: Path) -> dict[tuple[str, int], dict[str, bool]]:
    """(condition, seed) → item → whether it was right. Raises UserError for another study's outcomes."""
    table = parquet.read_table(path, filters=[("set", "=", "items")]).to_pylist()
    outcomes: dict[tuple[str, int], dict[str, bool]] = {}
    for row in table:
        answers = outcomes.setdefault((row["condition"], row["seed"]), {})
        if row["id"] in answers:
            raise UserError(f"{path}: has several stages; give a study with one")
        answers[row["id"]] = row["correct"]
    return outcomes


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.strata",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--treated", default="mul_tokens")
    parser.add_argument("--control", default="baseline")
    args = parser.parse_args(argv)
    outcomes = read(args.outcomes)
    items = {question_id(row["question"]): row for row in worked("test", ITEMS, 0)}
    if unknown := {key for answers in outcomes.values() for key in answers} - items.keys():
        raise UserError(f"{args.outcomes}: {len(unknown)} items are not those of the generated test split")
    seeds = sorted(
        seed for name, seed in outcomes if name == args.treated and (args.control, seed) in outcomes
    )
    if len(seeds) < 2:
        raise UserError(f"{args.outcomes}: has no two pairs of {args.treated} and {args.control}")
    print(f"| {len(seeds)} pairs | items | {args.treated} | {args.control} | points [95%] |")
    print("| --- | --- | --- | --- | --- |")
    for name, belongs in strata().items():
        keys = [key for key, row in items.items() if belongs(row)]
        right = {
            condition: 100 * np.array([np.mean([outcomes[condition, s][key] for key in keys]) for s in seeds])
            for condition in (args.treated, args.control)
        }
        differences = right[args.treated] - right[args.control]
        half = stats.t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
        mean = differences.mean()
        accuracies = " | ".join(f"{right[condition].mean():.1f}%" for condition in right)
        print(
            f"| {name} | {len(keys)} | {accuracies} | {mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}] |"
        )


if __name__ == "__main__":
    cli(main)
