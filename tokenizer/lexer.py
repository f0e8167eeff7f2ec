"""Find equations `a op b = c` of integers whose numbers stand alone: the lexer under every vocabulary's `find`.

A regex over digits sees `6*9` inside `106*9`, `6*9.5` and `2**6*9`; the exploration's corrupted 332 of its
4,534 injections that way. Here an equation is `a * b = c` (or, when asked, a bare `a * b`) on one line where

- a, b and c are plain integers that stand alone: no letter, digit, `_`, decimal or thousands part touches them;
- the operator is one sign in one of its spellings, as OPERATORS has them;
- no arithmetic operator touches either end, spaces skipped (`1*2*5=10`, `25/5*3=15`, `6*9=54*2`): precedence
  would give the middle another meaning. A preceding `=` is fine, and so is the bullet of a list;
- nothing stands inside: with a currency sign or a unit there (`3*$2=$6`) it is about quantities.

Whether the equation is true is the vocabulary's business.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_SPACES, _DIGITS = " \t\u00a0", "0123456789"
_SPACE = f"[{_SPACES}]"
OPERATORS = {  # sign: (what stands between two numbers, what one of its spellings begins with)
    "*": (rf"(?:{_SPACE}*(?:[*×·]|\\times(?![A-Za-z])){_SPACE}*|{_SPACE}+x{_SPACE}+)", r"[*×·x\\]"),
    "+": (rf"{_SPACE}*\+{_SPACE}*", r"\+"),
    "-": (rf"{_SPACE}*[-−]{_SPACE}*", r"[-−]"),
    "/": (rf"{_SPACE}*(?:[/÷]|\\div(?![A-Za-z])){_SPACE}*", r"[/÷\\]"),
}
# An operator before (perhaps at the end of the line above), or a number on the same line.
# The em dash is punctuation; the en dash may be a minus.
_OPERATOR = r"[-+*/^×·÷−–√∗⋅%]"
_BEFORE = re.compile(rf"(?:{_OPERATOR}|\bx|\\(?:times|cdot|div|pm|mp))\s*\Z|\d{_SPACE}*\Z")
_BULLET = re.compile(rf"(?:^|\n){_SPACE}*[-*+]{_SPACE}+\Z")
# An operator or another number after, on the same line, or something that makes c part of a longer number or word.
_AFTER = re.compile(rf"\w|[.,:]\d|{_SPACE}*(?:{_OPERATOR}|x{_SPACE}|\\(?:times|cdot|div|pm|mp|%)|\d)")
_EQUALS = re.compile(rf"={_SPACE}*[0-9]")  # with a digit before it as well, an equation's
_REACH = 80  # characters looked at on the left; spaces between an operator and its number are few


class Span(NamedTuple):
    """Characters [start, end) of the text read `a op b = c`, the numbers as written; c is None for a bare `a op b`."""

    start: int
    end: int
    a: str
    b: str
    c: str | None


@cache
def _patterns(op: str) -> tuple[re.Pattern, re.Pattern]:
    """(an equation of this sign, what begins the sign)."""
    between, sign = OPERATORS[op]
    left, right = rf"(?<![\w.,])(?<!\d:)([0-9]+){between}([0-9]+)", rf"(?:{_SPACE}*={_SPACE}*([0-9]+))?"
    return re.compile(left + right), re.compile(sign)


def equations(text: str, op: str, bare: bool = False) -> Iterator[Span]:
    """Every stand-alone equation of two integers and the sign `op` in `text`, in order, without overlaps.

    `bare` also yields `a op b` without `= c`, unless a number follows its equals sign: then the equation is
    false or its c does not stand alone.
    """
    equation, sign = _patterns(op)
    for start, end in [(0, len(text))] if bare else _lines(text, sign):
        while match := equation.search(text, start, end):
            a, b, c = match.groups()
            head = text[max(0, match.start() - _REACH) : match.start()]
            stands = (
                (c is not None or bare)
                and not _AFTER.match(text, match.end())
                and (not _BEFORE.search(head) or _BULLET.search(head))
            )
            if stands:
                yield Span(match.start(), match.end(), a, b, c)
            start = match.end() if stands else match.end(1)


def _lines(text: str, sign: re.Pattern) -> Iterator[tuple[int, int]]:
    """(start, end) of every line that may hold an equation: looking for one is slow on prose, where few do."""
    end = 0
    for equals in _EQUALS.finditer(text):
        at = last = equals.start()
        while last > end and text[last - 1] in _SPACES:
            last -= 1
        if last > end and text[last - 1] in _DIGITS:
            start = text.rfind("\n", end, at) + 1 or end
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            if sign.search(text, start, end):
                yield start, end
