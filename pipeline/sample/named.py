"""Generated questions with answers that an experiment asks for by `name`: `worked`, or `worked_10`."""

import re
from collections.abc import Iterator

from pipeline.sample.worked import worked


def answered(name: str, split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` rows of "train" or "test", {question, answer, …}; negative `n`: without end.

    `worked_10` are the worked answers with a tenth of their products in signs. Raises ValueError for a name that
    stands for nothing.
    """
    if found := re.fullmatch(r"worked(?:_([1-9][0-9]?))?", name):
        return worked(split, n, seed, int(found[1] or 100) / 100)
    raise ValueError(
        f"there are none named '{name}'; there are worked, and worked_10 with 10% of its products in signs"
    )


def nameless(name: str | None) -> None:
    """Raises ValueError where rows that have no names are asked for by one."""
    if name:
        raise ValueError(f"there are none named '{name}'; remove the name")
