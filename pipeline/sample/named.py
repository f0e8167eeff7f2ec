"""Generated questions with answers that an experiment asks for by `name`, or mixes into a text by `drills_name`.

worked          products digit by digit and word problems; worked_10: with a tenth of the products in signs
arithmetic      the grid of pipeline/sample/arithmetic.py; or a part of it, arithmetic[_OP][_LOW-HIGH][_unequal],
                such as arithmetic_add_2-6_unequal: sums of 2 to 6 digits of different lengths. With _worked
                behind it the answers show their working; with _listed, documents hold eight bare solutions
                before each conversation, four times the sums in the same tokens

For example, a text of which a fifth is sums without a product, counted in baseline tokens:

    prepare: {run: prepare, data: sample, name: worked, drills: 0.2, drills_name: arithmetic_add_2-6_worked, …}
"""

import re
from collections.abc import Iterator

from pipeline.sample import arithmetic
from pipeline.sample.worked import worked

NAMES = "worked, worked_10 with 10% of its products in signs, arithmetic, arithmetic_add_2-6_unequal_worked"


def answered(name: str, split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` rows of "train" or "test", {question, answer, …}; negative `n`: without end.

    Raises ValueError for a name that stands for nothing.
    """
    if match := re.fullmatch(r"worked(?:_([1-9][0-9]?))?", name):
        return worked(split, n, seed, int(match[1] or 100) / 100)
    if part := arithmetic.named(name):
        return arithmetic.grid(part, split, n, seed)
    raise ValueError(f"there are none named '{name}'; there are {NAMES}")


def nameless(name: str | None) -> None:
    """Raises ValueError where rows that have no names are asked for by one."""
    if name:
        raise ValueError(f"there are none named '{name}'; remove the name")
