"""Rows → what each step trains on, the same for every condition of a seed.

What the conditions share: the rows, their order (a seeded permutation, another one for each further epoch),
which of them are dropped, and which of them make up a batch. All of it is decided on a row's plain spelling,
the longest there is, and of several ways to split numbers on the longest too. A condition only writes the answers in its own way. A budget is filled in whole steps:
`examples` is the same rows for all, `tokens` and `flops` are what the condition itself spends, so that one
with shorter answers sees further rows of the same order.
"""

import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.world import cores
from sft.curriculum import Part
from tokenizer import chat
from tokenizer.encode import Encoder

POOL = 32  # batches sorted by length together: enough for little padding, few enough for mixed lengths
ALONE = 50_000  # rows that one process converts in seconds; more are shared out among the cores
CHUNK = 512  # rows that are converted together
BLOCK = 32  # chunks that the cores convert at a time


class Row(NamedTuple):
    ids: np.ndarray  # int32, prompt and answer
    labels: np.ndarray  # int32, IGNORE where nothing is learned
    length: int  # tokens of the row's longest plain spelling: the same in every condition
    facts: int  # fact tokens

    @property
    def supervised(self) -> int:
        return int((self.labels != chat.IGNORE).sum())


Unit = list[Row]  # what takes one line of a batch: a row, or several packed behind each other
Convert = Callable[[list[int]], Iterable[Row | str]]  # numbers of rows → each row, or why it is dropped


class Shape(NamedTuple):
    """What a model's FLOPs depend on."""

    layers: int
    width: int
    vocabulary: int

    def flops(self, row: Row) -> float:
        """Training FLOPs of a row, padding apart.

        6 for each weight that a token meets, the head's only where a label is, and 6·L·C·n² for causal
        attention (Kaplan et al. 2020, section 2.1, forward and backward).
        """
        n = len(row.ids)
        weights = 12 * self.layers * self.width**2 * n + self.vocabulary * self.width * row.supervised
        return 6 * weights + 6 * self.layers * self.width * n**2


def make_row(messages: Sequence[dict], encoder: Encoder, plain: Sequence[Encoder], longest: int) -> Row | str:
    """A conversation as ids and labels, or why it is dropped.

    Raises UserError where a spelling outgrows the plain one and the limit: only some conditions would drop it.
    """
    length = max(len(chat.example(each, messages)[0]) for each in plain)
    if length > longest:
        return f"longer than {longest} tokens"
    ids, labels = chat.example(encoder, messages)
    if len(ids) > longest:
        message = f"a row has {length} tokens in plain spelling and {len(ids)} in this one"
        raise UserError(f"{encoder.condition.name}: {message}; raise max_length above {longest}")
    return Row(np.array(ids, np.int32), np.array(labels, np.int32), length, encoder.count_facts(ids))


def draw(count: int, convert: Convert, seed: Sequence[int], tally: Counter, source: str) -> Iterator[Row]:
    """Rows without end: those of `count` in a seeded order, then again in another.

    `tally` counts, over the first epoch, `read`, and `kept` or the reason for dropping. Raises UserError,
    naming `source`, if none is kept.
    """
    kept = []
    for row in _converted(convert, np.random.default_rng([*seed, 0]).permutation(count)):
        tally["read"] += 1
        tally[row if isinstance(row, str) else "kept"] += 1
        if not isinstance(row, str):
            kept.append(row)
            yield row
    if not kept:
        dropped = ", ".join(f"{n} {reason}" for reason, n in tally.items() if reason != "read")
        raise UserError(
            f"{source}: no row can be trained on: {dropped}; mend the stage's section or its data"
        )
    for epoch in itertools.count(1):
        for i in np.random.default_rng([*seed, epoch]).permutation(len(kept)):
            yield kept[i]


def _converted(convert: Convert, order: np.ndarray) -> Iterator[Row | str]:
    chunks = (order[start : start + CHUNK].tolist() for start in range(0, len(order), CHUNK))
    if len(order) <= ALONE:
        yield from itertools.chain.from_iterable(map(convert, chunks))
        return
    workers = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    context = multiprocessing.get_context("fork")  # rows are not copied
    with context.Pool(workers, _adopt, (convert,)) as pool:
        while block := list(itertools.islice(chunks, BLOCK)):
            yield from itertools.chain.from_iterable(pool.imap(_apply, block))


def _adopt(convert: Convert) -> None:
    global _convert
    _convert = convert


def _apply(numbers: list[int]) -> list[Row | str]:
    return list(_convert(numbers))


def pack(rows: Iterator[Row], longest: int) -> Iterator[Unit]:
    """Neighbouring rows together, as many as fit into `longest` tokens of plain spelling."""
    unit, length = [], 0
    for row in rows:
        if length + row.length > longest:
            yield unit
            unit, length = [], 0
        unit.append(row)
        length += row.length


def take(
    units: Iterator[Unit], part: Part, batch: int, shape: Shape, spend: Callable[[float], None]
) -> list[Unit]:
    """The first units that fill the part's budget, up to a whole batch; `spend` is told what each of them
    takes.
    """
    cost = {"examples": lambda row: 1, "tokens": lambda row: len(row.ids), "flops": shape.flops}[part.budget]
    taken, spent = [], 0
    while spent < part.amount or len(taken) % batch:
        taken.append(next(units))
        spent += (more := sum(map(cost, taken[-1])))
        spend(more)
    return taken


def group(units: list[Unit], batch: int, seed: Sequence[int]) -> list[Unit]:
    """The units in the order of training: batches of like length, in random order within a pool of POOL
    batches.
    """
    rng, ordered = np.random.default_rng(seed), []
    for start in range(0, len(units), POOL * batch):
        pool = sorted(units[start : start + POOL * batch], key=lambda unit: sum(row.length for row in unit))
        for i in rng.permutation(len(pool) // batch):
            ordered += pool[i * batch : (i + 1) * batch]
    return ordered
