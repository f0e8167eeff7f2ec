"""The 45 facts of the times table, `<MUL_a_b_c>` with 1 ≤ a ≤ b ≤ 9: the vocabulary of the hypothesis.

A vocabulary is one file with the six names below. Everything else (ids, conditions, renderers, probes, strata,
heat maps, digit-wise working) asks it; nothing outside this folder knows multiplication.
"""

from tokenizer.lexer import equations

_PAIRS = [(a, b) for a in range(1, 10) for b in range(a, 10)]
_INDEX = {frozenset(pair): index for index, pair in enumerate(_PAIRS)}

FACTS = tuple(f"<MUL_{a}_{b}_{a * b}>" for a, b in _PAIRS)
"""Token names, in the order of their ids."""


def spell(index: int) -> tuple[str, str]:
    """A fact's expression and value in the canonical spelling, ("6 * 9", "54"): smaller factor first."""
    a, b = _PAIRS[index]
    return f"{a} * {b}", str(a * b)


def find(text: str, weak: bool = False) -> list[tuple[int, int, int]]:
    """(start, end, index) of every true fact in `text`, in order. `weak` also takes a bare `6*9`."""
    spans = []
    for found in equations(text, "*", bare=weak):
        # Compared as written: `06 * 9` and `6 * 9 = 054` are not facts.
        index = _INDEX.get(frozenset((int(found.a), int(found.b))))
        if index is not None and len(found.a) == len(found.b) == 1 and found.c in (None, spell(index)[1]):
            spans.append((found.start, found.end, index))
    return spans


def work(a: int, op: str, b: int) -> list[str] | None:
    """The steps of `a op b` through single-digit facts, as text; None where there is nothing to work through.

    work(47, "*", 6) is ["6 * 7 = 42", "6 * 4 = 24", "240 + 42 = 282"]: place by place, zeros put on in the sum.
    """
    if op != "*" or min(a, b) < 2 or max(a, b) < 10:
        return None
    lines, terms = [], []
    for i, x in enumerate(reversed(str(a))):
        for j, y in enumerate(reversed(str(b))):
            if x != "0" and y != "0":
                index = _INDEX[frozenset((int(x), int(y)))]
                lines.append(" = ".join(spell(index)))
                terms.append(int(x) * int(y) * 10 ** (i + j))
    total = terms.pop()
    while terms:
        term = terms.pop()
        lines.append(f"{total} + {term} = {total + term}")
        total += term
    return lines


def probes() -> dict[str, list[tuple[str, str]]]:
    """Questions that the facts bear on, as (expression, value): the whole table, and two-digit × one-digit."""
    table = [(f"{a} * {b}", str(a * b)) for a in range(1, 10) for b in range(1, 10)]
    two_digit = [(f"{a} * {b}", str(a * b)) for a in range(12, 100) for b in range(2, 10)]
    return {"table": table, "two_digit": two_digit[3::7][:100]}


def cell(index: int) -> tuple[int, int]:
    """(row, column) of a fact in a heat map."""
    return _PAIRS[index]
