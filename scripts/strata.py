"""Where a difference of the miniature studies comes from: the paired contrast by what an item's solution holds.

    python -m scripts.strata experiments/results/miniature_compute/outcomes.parquet
    python -m scripts.strata WITH_SUMS/outcomes.parquet --less WITHOUT/outcomes.parquet    # what changes a difference

Of miniature_compute.yaml these strata are post hoc; miniature_mechanism.yaml registered two of them. Intervals are 95% t
intervals over the seeds' paired differences; unlike the verdict's they leave out the sampling of problems. With `--less`
the last column is the difference of two studies' differences, paired by seed. Items are those of `name: worked`, test split.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from eval.tasks.task import item_id
from eval.verdict import stats
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
    parser.add_argument("--less", type=Path, help="outcomes of the study whose differences are taken away")
    args = parser.parse_args(argv)
    pair = (args.treated, args.control)
    items = {item_id(row["question"]): row for row in worked("test", ITEMS, 0)}
    studies = [read(path) for path in (args.outcomes, args.less) if path]
    for path, outcomes in zip((args.outcomes, args.less), studies):
        if unknown := {key for answers in outcomes.values() for key in answers} - items.keys():
            raise UserError(f"{path}: {len(unknown)} items are not those of the generated test split")
    seeds = sorted(
        seed
        for name, seed in studies[0]
        if name == args.treated and all((each, seed) in outcomes for outcomes in studies for each in pair)
    )
    if len(seeds) < 2:
        where = f"{args.outcomes} and {args.less}: share" if args.less else f"{args.outcomes}: has"
        raise UserError(f"{where} no two pairs of {args.treated} and {args.control}")
    print(
        f"| {len(seeds)} pairs | items | {args.treated} | {args.control} | points [95%] |"
        + " change |" * bool(args.less)
    )
    print("| --- | --- | --- | --- | --- |" + " --- |" * bool(args.less))
    for name, belongs in strata().items():
        keys = [key for key, row in items.items() if belongs(row)]
        right = [
            {
                each: 100 * np.array([np.mean([outcomes[each, s][key] for key in keys]) for s in seeds])
                for each in pair
            }
            for outcomes in studies
        ]
        differences = [accuracy[args.treated] - accuracy[args.control] for accuracy in right]
        accuracies = " | ".join(f"{right[0][each].mean():.1f}%" for each in pair)
        columns = [interval(differences[0])] + [interval(differences[0] - less) for less in differences[1:]]
        print(f"| {name} | {len(keys)} | {accuracies} | {' | '.join(columns)} |")


def interval(by_seed: np.ndarray, sign: str = "+") -> str:
    """A mean over seeds with its 95% t interval, in points."""
    low, high = stats.mean_interval(by_seed)
    return f"{by_seed.mean():{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


if __name__ == "__main__":
    cli(main)
