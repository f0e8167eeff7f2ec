"""A grid of direct arithmetic: operation × digits of either operand × carries, exact.

| operation | asked                          | carries                                      |
| --------- | ------------------------------ | -------------------------------------------- |
| add       | What is 4807 + 96?             | columns that carry                           |
| subtract  | What is 4807 - 96?             | columns that borrow; the result is never < 0 |
| multiply  | What is 4807 * 96?             | in the rows of a long multiplication         |
| compare   | Which is larger, 3.25 or 3.4?  | none; digits are those behind the point      |

Lengths are drawn evenly, then, for sums and differences, how many columns carry: with digits drawn at random a
long sum without a carry would hardly ever come. Both operands of up to TRAINED digits: training knows such
lengths, and one pair in five of them is kept for the test (single digits apart, which are a table to be known).
Other generated text (documents, `worked`) keeps no such pairs apart: mixed in, it shows some of the test's.
In the test, half of the problems have an operand that is longer than any in training (`seen` is False).
"""

import random
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.sample.workings import between, pick, schoolbook, shuffled

OPERATIONS = {"add": "+", "subtract": "-", "multiply": "*", "compare": ">"}
LONGEST = 8  # digits of an operand
TRAINED = 6  # digits of the longest operand in training
LISTED = 9  # problems of a document where a name says `_listed`: a list of equations, and a conversation
DRAWS = 50  # of operands for lengths, until one belongs to the split and has not been asked
TRIES = 500  # lengths in a row that give none: a test has no more


class Grid(NamedTuple):
    """A part of the grid, as an experiment names it."""

    operations: tuple[str, ...] = tuple(OPERATIONS)
    low: int = 1  # digits of either operand
    high: int = LONGEST
    unequal: bool = False  # only operands of different lengths
    worked: bool = False  # answers show their working, digit by digit
    listed: bool = False  # as documents: equations in lists of LISTED, before each conversation


NAME = re.compile(
    rf"""arithmetic (?:_(?P<op>{"|".join(OPERATIONS)}))? (?:_(?P<low>[1-{LONGEST}])-(?P<high>[1-{LONGEST}]))?
    (?P<unequal>_unequal)? (?P<worked>_worked)? (?P<listed>_listed)?""",
    re.VERBOSE,
)


def named(name: str) -> Grid | None:
    """The part of the grid that a name stands for: `arithmetic`, `arithmetic_add_2-6_unequal_worked`; None if none."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    low, high, unequal = int(match["low"] or 1), int(match["high"] or LONGEST), bool(match["unequal"])
    if low + unequal > high:
        return None
    operations = (match["op"],) if match["op"] else tuple(OPERATIONS)
    return Grid(operations, low, high, unequal, bool(match["worked"]), bool(match["listed"]))


def grid(part: Grid, split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` problems of "train" or "test": {question, answer, op, digits_a, digits_b, carries, seen}.

    Negative `n`: without end. In "test" no question comes twice, so there are fewer where there are no more.
    Raises ValueError for a part that training does not know at all.
    """
    test = split == "test"
    if not test and part.low + part.unequal > TRAINED:
        raise ValueError(f"training has operands of up to {TRAINED} digits, none of {part.low} and more")
    return _grid(part, test, n, random.Random(f"arithmetic {split} {seed}"))


def _grid(part: Grid, test: bool, n: int, rng: random.Random) -> Iterator[dict]:
    asked: set[str] = set()
    tries = 0
    while n and tries < TRIES:
        op = pick(rng, part.operations)
        lengths = _lengths(rng, part, op, test, len(asked) % 2 == 1)
        tries += 1
        for row in (_problem(rng, part, op, lengths) for _ in range(DRAWS)):
            if row["question"] in asked or row.pop("apart") not in (None, test):
                continue
            if test:
                asked.add(row["question"])
            n, tries = n - 1, 0
            yield row
            break


def _lengths(rng: random.Random, part: Grid, op: str, test: bool, odd: bool) -> tuple[int, int]:
    """Digits of both operands, of a training length or, for every odd problem of a test, of an unseen one."""
    unseen = test and part.high > TRAINED and (odd or part.low + part.unequal > TRAINED)
    high = part.high if unseen else min(part.high, TRAINED)
    while True:
        a, b = between(rng, part.low, high), between(rng, part.low, high)
        if op == "subtract":
            a, b = max(a, b), min(a, b)
        if (max(a, b) > TRAINED) == unseen and not (part.unequal and a == b):
            return a, b


def _problem(rng: random.Random, part: Grid, op: str, lengths: tuple[int, int]) -> dict:
    """A problem; `apart`: whether it is for the test alone, None where both splits may have it."""
    a, b, places = _operands(rng, op, *lengths)
    question, answer, carried = _written(op, a, b, places, part.worked)
    seen = max(lengths) <= TRAINED
    apart = None if max(lengths) == 1 else not seen or _for_test(op, a, b, places)
    cell = {"op": op, "digits_a": lengths[0], "digits_b": lengths[1], "carries": carried, "seen": seen}
    return {"question": question, "answer": answer, **cell, "apart": apart}


def _for_test(op: str, a: int, b: int, places: tuple[int, int]) -> bool:
    """Whether a pair, in either order, is kept for the test."""
    return zlib.crc32(f"{op} {sorted(((a, places[0]), (b, places[1])))}".encode()) % 5 == 0


# --- operands -------------------------------------------------------------------------------------------------


def _operands(rng: random.Random, op: str, digits_a: int, digits_b: int) -> tuple[int, int, tuple[int, int]]:
    """Two numbers, and how many of each one's digits stand behind the point."""
    if op == "compare":
        return _decimals(rng, digits_a, digits_b)
    if op == "multiply":
        a, b = (between(rng, 10 ** (n - 1) if n > 1 else 2, 10**n - 1) for n in (digits_a, digits_b))
        return a, b, (0, 0)
    shared = min(digits_a, digits_b)
    top = op == "subtract" and digits_a == digits_b  # whose first column cannot borrow
    carrying = set(shuffled(rng, range(shared - top))[: between(rng, 0, shared - top)])
    first, second, carry = "", "", 0  # written from the last digit on
    for column in range(max(digits_a, digits_b)):
        x, y = _column(rng, op, column, digits_a, digits_b, column in carrying, carry)
        first, second = f"{x}{first}", f"{y}{second}"
        carry = _carry(op, x, y, carry)
    return int(first), int(second), (0, 0)


def _column(
    rng: random.Random, op: str, column: int, digits_a: int, digits_b: int, carries: bool, carry: int
) -> tuple[int, int]:
    """Two digits that carry or do not, as far as they can: none of a number begins with 0."""
    while True:
        x, y = (between(rng, int(column == n - 1), 9) if column < n else 0 for n in (digits_a, digits_b))
        if column >= min(digits_a, digits_b) or _carry(op, x, y, carry) == carries:
            return x, y


def _carry(op: str, x: int, y: int, carry: int) -> int:
    return int(x + y + carry > 9 if op == "add" else x - y - carry < 0)


def _decimals(rng: random.Random, digits_a: int, digits_b: int) -> tuple[int, int, tuple[int, int]]:
    """Two decimals that differ, of one digit before the point; their first digits agree as often as not."""
    while True:
        a, b = (str(between(rng, 10**n, 10 ** (n + 1) - 1)) for n in (digits_a, digits_b))
        same = between(rng, 0, min(digits_a, digits_b))
        b = a[:same] + b[same:]
        if a[-1] != "0" != b[-1] and int(a) * 10**digits_b != int(b) * 10**digits_a:
            return int(a), int(b), (digits_a, digits_b)


# --- in writing -----------------------------------------------------------------------------------------------


def _written(op: str, a: int, b: int, places: tuple[int, int], worked: bool) -> tuple[str, str, int | None]:
    """(question, answer, carries)"""
    if op == "compare":
        left, right = (f"{number / 10**n:.{n}f}" for number, n in zip((a, b), places))
        larger, smaller = (left, right) if a * 10 ** places[1] > b * 10 ** places[0] else (right, left)
        answer = f"{larger} > {smaller}\n#### {larger}"
        return f"Which is larger, {left} or {right}?", answer, None
    sign = OPERATIONS[op]
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    lines = _working(op, a, b) if worked else []
    answer = "\n".join([*lines, f"{a} {sign} {b} = {value}", f"#### {value}"])
    return f"What is {a} {sign} {b}?", answer, carries(op, a, b)


def carries(op: str, a: int, b: int) -> int:
    """How often one has to carry or borrow; for products, in the rows of a long multiplication by each digit of b."""
    if op == "multiply":
        return sum(_row_carries(a, int(digit)) for digit in str(b))
    count = carry = 0
    while a or b:
        (a, x), (b, y) = divmod(a, 10), divmod(b, 10)
        carry = _carry(op, x, y, carry)
        count += carry
    return count


def _row_carries(a: int, digit: int) -> int:
    count = carry = 0
    for x in reversed(str(a)):
        carry = (int(x) * digit + carry) // 10
        count += carry > 0
    return count


def _working(op: str, a: int, b: int) -> list[str]:
    """Column by column from the ones, with what has been written of the result behind each colon."""
    if op == "multiply":
        return _long_multiplication(a, b)
    lines, carry, written = [], 0, ""
    (columns_a, columns_b), sign = (str(n)[::-1] for n in (a, b)), OPERATIONS[op]
    for column in range(max(len(columns_a), len(columns_b))):
        x, y = (int(digits[column]) if column < len(digits) else 0 for digits in (columns_a, columns_b))
        raised = 10 * _carry(op, x, y, carry) if op == "subtract" else 0
        line = f"{x + raised} {sign} {y}" + f" {sign} 1" * carry
        result = x + raised + (y + carry if op == "add" else -y - carry)
        carry = _carry(op, x, y, carry)
        written = f"{result % 10}{written}"
        lines.append(f"{line} = {result}: {written}")
    return lines


def _long_multiplication(a: int, b: int) -> list[str]:
    """A row for each digit of b, and the sum of the rows."""
    lines, total = [], 0
    for place, digit in enumerate(reversed(str(b))):
        if int(digit):
            lines += schoolbook(a, int(digit))
            row = a * int(digit) * 10**place
            lines += [f"{total} + {row} = {total + row}"] if total else []
            total += row
    return lines
