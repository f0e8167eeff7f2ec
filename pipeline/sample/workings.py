"""Arithmetic, written out line by line."""

import random

OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


def pick(rng: random.Random, items):
    return items[int(rng.random() * len(items))]


def between(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def shuffled(rng: random.Random, items) -> list:
    return [item for _, item in sorted((rng.random(), item) for item in items)]


def working(a: int, operator: str, b: int) -> list[str]:
    """The lines that a pupil writes for one operation, the last of which ends with its value.

    A two-digit number times a digit goes through single-digit products, ones first: working(47, "*", 6) is
    6 * 7 = 42, 4 * 6 = 24, 240 + 42 = 282. A sum of two two-digit numbers goes through tens and ones.
    """
    value = f"{a} {operator} {b} = {OPERATIONS[operator](a, b)}"
    (low, high), lines = sorted((a, b)), []
    if operator == "*" and low < 10 <= high < 100:
        tens, ones = divmod(high, 10)
        lines = [f"{min(low, digit)} * {max(low, digit)} = {low * digit}" for digit in (ones, tens) if digit]
        return [*lines, f"{low * tens * 10} + {low * ones} = {a * b}"] if ones else [*lines, value]
    if operator == "+" and low > 9 and a % 10 and b % 10:
        tens, ones = high // 10 * 10 + low // 10 * 10, high % 10 + low % 10
        split = [f"{a - a % 10} + {b - b % 10} = {tens}", f"{a % 10} + {b % 10} = {ones}"]
        return [*split, f"{tens} + {ones} = {a + b}"]
    return [value]


def schoolbook(a: int, b: int) -> list[str]:
    """The lines of a long multiplication of `a` by a digit, digit by digit from the ones, carrying.

    schoolbook(47, 6) is 6 * 7 = 42: 2 / 4 * 6 = 24, 24 + 4 = 28: 282. Behind each colon stands what has been
    written of the product so far.
    """
    lines, carry, written = [], 0, ""
    digits = [int(digit) for digit in reversed(str(a))]
    for place, digit in enumerate(digits, 1):
        product = digit * b
        line = f"{min(digit, b)} * {max(digit, b)} = {product}"
        if carry:
            line += f", {product} + {carry} = {product + carry}"
        carry, last = divmod(product + carry, 10)
        written = f"{last}{written}" if place < len(digits) or not carry else f"{carry}{last}{written}"
        lines.append(f"{line}: {written}")
    return lines
