"""Does a program take its numbers from the question? By condition, of the programs that a study's models wrote.

    python -m scripts.copied experiments/results/miniature_programs/programs.parquet
    python -m scripts.copied NEW.parquet --of experiments/miniature_programs.yaml sft_programs word_problems

With `--of` the programs are first gathered from the study's finished runs and written. A program of the generated world
begins with the numbers of the question, each given a name (`boxes = 8`). Copied: the share of these numbers that stand in
the question. Other numbers by chance: the same share, held against the question of the next problem. Post hoc: not registered.
Intervals are 95% t intervals over seeds, or over the seeds' paired differences.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from pipeline.errors import UserError, cli
from pipeline.experiment import load
from pipeline.identity import stage_dir
from scripts.strata import interval

GIVEN = re.compile(r"^\s*\w+ = (\d+)$", re.MULTILINE)  # a number with a name
NUMBER = re.compile(r"\d+")
Share = tuple[int, int]  # so many of so many


def gather(experiment_file: str, stage: str, set_name: str) -> pa.Table:
    """{condition, seed, id, question, program} of every finished run. Raises UserError where there is none."""
    experiment, rows = load(experiment_file), []
    for condition, seed in experiment.arms():
        path = stage_dir(experiment, condition, seed, f"eval_{stage}") / "outcomes.parquet"
        if path.exists():
            asked = parquet.read_table(
                path, ["id", "question", "completion"], filters=[("set", "=", set_name)]
            )
            asked = asked.rename_columns(["id", "question", "program"])
            rows += [{"condition": condition, "seed": seed, **row} for row in asked.to_pylist()]
    if not rows:
        raise UserError(
            f"{experiment_file}: no run has answers to '{set_name}' after {stage}; run the study first"
        )
    return pa.Table.from_pylist(rows)


def copied(program: str, question: str) -> Share:
    """How many of a program's given numbers stand in a question, and how many it gives."""
    given, there = GIVEN.findall(program), set(NUMBER.findall(question))
    return sum(number in there for number in given), len(given)


def shares(table: pa.Table) -> dict[str, dict[int, tuple[float, float]]]:
    """Condition → seed → (share copied, share by chance), of all given numbers."""
    arms: dict[tuple[str, int], list[dict]] = defaultdict(list)
    for row in table.to_pylist():
        arms[row["condition"], row["seed"]].append(row)
    result: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for (condition, seed), rows in arms.items():
        own = [copied(row["program"], row["question"]) for row in rows]
        other = [copied(row["program"], after["question"]) for row, after in zip(rows, rows[1:] + rows[:1])]
        result[condition][seed] = (_share(own), _share(other))
    return result


def _share(counts: list[Share]) -> float:
    some, given = map(sum, zip(*counts))
    return some / given if given else float("nan")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.copied",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("programs", type=Path)
    parser.add_argument("--of", nargs=3, metavar=("EXPERIMENT", "STAGE", "SET"), help="gather them first")
    args = parser.parse_args(argv)
    if args.of:
        parquet.write_table(gather(*args.of), args.programs, compression="zstd")
    by_condition = shares(parquet.read_table(args.programs))
    print("| condition | seeds | copied [95%] | other numbers by chance |")
    print("| --- | --- | --- | --- |")
    for condition, by_seed in by_condition.items():
        own, other = 100 * np.array(list(by_seed.values())).T
        mean = interval(own, "") if len(own) > 1 else f"{own[0]:.1f}"
        print(f"| {condition} | {len(by_seed)} | {mean} | {other.mean():.1f} |")
    first, *others = by_condition
    for condition in others:
        seeds = sorted(by_condition[first].keys() & by_condition[condition].keys())
        if len(seeds) > 1:
            differences = [by_condition[condition][s][0] - by_condition[first][s][0] for s in seeds]
            print(f"| {condition} − {first} | {len(seeds)} | {interval(100 * np.array(differences))} | |")


if __name__ == "__main__":
    cli(main)
