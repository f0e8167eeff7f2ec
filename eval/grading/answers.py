r"""python -m eval.grading.answers rows.jsonl > answers.jsonl

Reads the final answer out of rendered text: the one place that does, for evaluation and rewards alike.
In: rows with "completion". Out, row by row: {"strict": …, "flexible": …, "answer": …}, null where none.

`strict` and `flexible` are lm-evaluation-harness's two GSM8K extractors, exactly; they exist to be checked
against it. `answer` is our own reading, and the one that scores: the first number on the line after the last
`####`, or after the last `=` of that line where it holds an equation.

    text                   answer      why
    ---------------------  ----------  ------------------------------------------------------------------
    #### 18                18
    ####18                 18          the space is optional
    #### 5\n#### 6         6           the last one counts, be it readable or not
    so it is 18            null        no ####, no final answer: a number in passing is not one
    #### \n18              null        the answer stands on the line of its ####
    #### 1,234,567         1234567     commas in groups of three
    #### 1,23              null        commas in any other place: not a number (nor is 1.2.3 or 10:30)
    #### $42    #### 42 €  42          a currency sign is a unit
    #### 42.               42          a full stop ends the sentence
    #### 18 eggs, 3 left   18          units follow, and the first number counts
    #### about 18          18          words may come before
    #### -5     #### −5    -5          hyphen, minus sign or en dash
    #### - 5               -5          a minus may stand apart, a dash not: `#### Total – 5` is 5
    #### -$5    #### $-5   -5
    #### +5                5
    #### .5     #### 0.50  0.5         equal values give equal strings
    #### 18.0   #### 018   18
    #### 1/2               0.5         a fraction is its value,
    #### 2/6               1/3         in lowest terms where it has no finite decimal
    #### 1 1/2             1.5         mixed number
    #### 1/0               null
    #### 50%               50          percent is a unit: GSM8K asks "what percentage" and its gold says 50
    #### 2 million         2           so are words of scale: its golds are written out in digits
    #### 3 * 6 = 18        18          the value of an equation; also <<3*6=18>>18 and x = 18
    #### 3 * 6             null        an expression is not worked out for its writer
    #### 1e3    #### 1 000 null        not how GSM8K writes numbers; a prefix of one is not read either
    (over 100 characters)  null        no answer is so long; keeps exact arithmetic cheap

Numbers are compared as exact fractions by `same`, never as floats or strings.
"""

import json
import re
import sys
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from pipeline.errors import UserError, cli

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

_NUMERAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""(?<![^\W_])(?<![.,])                                   # not inside a word or a longer number
    (?P<sign>[-−+]\s*|–)? [$€£¥]? (?P<inner>[-−–])?
    (?:(?P<whole>[0-9]+)\s+(?=[0-9]+\s*/))?                   # the 1 of 1 1/2
    (?P<top>{_NUMERAL}) (?:\s*/\s*(?P<bottom>{_NUMERAL}))?
    (?P<more>\s*[0-9] | [.,:][0-9] | [eE][-+]?[0-9]           # what makes it a part of something else
        | \s*[-−–+*/×·÷^x]\s*[-−$€£¥(]*\.?[0-9])?""",
    re.VERBOSE,
)
_MAX_CHARACTERS = 100


def strict(text: str) -> str | None:
    """The harness's `strict-match`: the first `#### ` with a numeral, as written; None is its "[invalid]"."""
    match = STRICT.search(text)
    return match[1] if match else None


def flexible(text: str) -> str | None:
    """The harness's `flexible-extract`: the last thing like a number, as written; None is its "[invalid]"."""
    last = None
    for last in FLEXIBLE.finditer(text):  # noqa: B007
        pass
    return last[0] if last else None


def answer(text: str) -> str | None:
    """The final answer by the table above, in a canonical spelling: equal strings for equal values."""
    _, mark, tail = text.rpartition("####")
    number = value(tail.split("\n", 1)[0].rpartition("=")[2]) if mark else None
    return None if number is None else _spell(number)


def same(a: str | None, b: str | None) -> bool:
    """Whether two numerals, as `answer` or a data set spells them, have exactly the same value.
    What is not a number equals nothing, itself included."""
    left, right = (None if numeral is None else value(numeral) for numeral in (a, b))
    return left is not None and left == right


@lru_cache(1024)  # three readings of an answer are held against the same reference
def value(text: str) -> Fraction | None:
    """The first number in `text`, exactly, by the table above; None where there is none."""
    match = _NUMBER.search(text)
    if match is None or match["more"] or len(match[0]) > _MAX_CHARACTERS:
        return None
    top, bottom = (Fraction((match[part] or "1").replace(",", "")) for part in ("top", "bottom"))
    if bottom == 0:
        return None
    number = int(match["whole"] or 0) + top / bottom
    minuses = sum(part is not None and "+" not in part for part in (match["sign"], match["inner"]))
    return -number if minuses == 1 else number


def _spell(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    places = number.denominator.bit_length()  # enough for any finite decimal
    scaled, rest = divmod(abs(number.numerator) * 10**places, number.denominator)
    if rest:
        return str(number)
    digits = str(scaled).rjust(places + 1, "0")
    return "-" * (number < 0) + digits[:-places] + "." + digits[-places:].rstrip("0")


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        raise UserError("usage: python -m eval.grading.answers rows.jsonl > answers.jsonl")
    for text in _completions(Path(arguments[0])):
        print(json.dumps({"strict": strict(text), "flexible": flexible(text), "answer": answer(text)}))


def _completions(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    completions = []
    with path.open("rb") as lines:  # json decodes: a line that is not UTF-8 is named as well
        for number, line in enumerate(lines, 1):
            try:
                completions.append(json.loads(line)["completion"])
            except (ValueError, TypeError, KeyError, RecursionError):
                raise UserError(f'{path}: line {number} is not a JSON row with "completion"') from None
            if not isinstance(completions[-1], str):
                raise UserError(f'{path}: line {number}: "completion" is not a string')
    return completions


if __name__ == "__main__":
    cli(main)
