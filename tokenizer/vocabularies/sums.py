"""The 45 sums of two digits, `<ADD_6_9_15>` with 1 ≤ a ≤ b ≤ 9: a third vocabulary, worked from first line to verdict.

To try it, write `vocabulary: sums` into an experiment and look at what its texts become:
python -m tokenizer.show --vocabulary sums "6 + 9 = 15"
"""

from tokenizer.lexer import equations

_PAIRS = [(a, b) for a in range(1, 10) for b in range(a, 10)]
_INDEX = {frozenset(pair): index for index, pair in enumerate(_PAIRS)}

FACTS = tuple(f"<ADD_{a}_{b}_{a + b}>" for a, b in _PAIRS)


def spell(index: int) -> tuple[str, str]:
    """("6 + 9", "15")"""
    a, b = _PAIRS[index]
    return f"{a} + {b}", str(a + b)


def find(text: str, weak: bool = False) -> list[tuple[int, int, int]]:
    """(start, end, index) of every true sum `6 + 9 = 15` in `text`. `weak` also takes a bare `6 + 9`."""
    spans = []
    for found in equations(text, "+", bare=weak):
        index = _INDEX.get(frozenset((int(found.a), int(found.b))))
        one_digit = len(found.a) == len(found.b) == 1  # as written: `06 + 9` is no fact
        if index is not None and one_digit and found.c in (None, spell(index)[1]):
            spans.append((found.start, found.end, index))
    return spans


def work(a: int, op: str, b: int) -> list[str] | None:
    """The steps of a sum, place by place, then all together: 47 + 86 is 6 + 7 = 13, 4 + 8 = 12, 120 + 13 = 133."""
    if op != "+" or max(a, b) < 10:
        return None
    lines, total = [], 0
    for place, (x, y) in enumerate(
        zip(reversed(str(a).zfill(len(str(b)))), reversed(str(b).zfill(len(str(a)))))
    ):
        if x != "0" and y != "0":
            lines.append(" = ".join(spell(_INDEX[frozenset((int(x), int(y)))])))
        part = (int(x) + int(y)) * 10**place
        if part and total:
            lines.append(f"{part} + {total} = {part + total}")
        total += part
    return lines or None


def probes() -> dict[str, list[tuple[str, str]]]:
    """The whole table, and two digits and one, with and without a carry."""
    table = [(f"{a} + {b}", str(a + b)) for a in range(1, 10) for b in range(1, 10)]
    longer = [(f"{a} + {b}", str(a + b)) for a in range(12, 100) for b in range(2, 10)]
    return {"table": table, "two_digit": longer[3::7][:100]}


def cell(index: int) -> tuple[int, int]:
    """(row, column) of a fact in a heat map."""
    return _PAIRS[index]
