"""Programs to plain-text steps, without a language model: every arithmetic operation that a program ran, in
exact rational arithmetic, with the name of the variable that took its value.

    1. trays = 6 * 9 = 54           one operation a step; of a product the smaller factor comes first
    2. cookies = 12 * 54            where the vocabulary has something to add, its working lines follow,
    2 * 4 = 8
    2 * 5 = 10
    1 * 4 = 4
    1 * 5 = 5
    500 + 40 = 540
    540 + 100 = 640
    640 + 8 = 648
    12 * 54 = 648                   and the operation is said again, with its result
    3. boxes = 648 / 5 = 129.6
    4. boxes needed = ceil(129.6) = 130
    #### 130

Numbers are written exactly: as decimals where those end, else as fractions, `2 / 3 = 2/3`, `(2/3) * 36 =
24`. A row converts only where this exact reading agrees with the floats that ran, at every step and in the
answer, to within TOLERANCE, and where the answer ends as a decimal; nothing is rounded that the program
does not round. So the answer is always the executed result, less the dust of binary floats
(8.000000000000002 is written 8). Rows that do not convert are counted by reason.
"""

import math
import multiprocessing
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from eval.programs.interpreter import run
from eval.programs.machine import Step

STEPS = 40  # of a trace, working lines not counted
DIGITS = 12  # of a number
BITS = 512  # of an exact number on its way; p * p / q doubles them each time
TOLERANCE = 1e-9  # relative to a value, or to 1 where that is larger

Work = Callable[[int, str, int], list[str] | None]
Number = int | Fraction


class Trace(NamedTuple):
    """`text` ends in `#### answer`; `answer` is `value`, what the program returned, as an exact decimal."""

    text: str
    answer: str
    value: int | float


class Line(NamedTuple):
    """One step to be written; `exact` is its result, `pair` the operands of a binary operator, else None."""

    expression: str
    exact: Number
    pair: tuple[Number, str, Number] | None
    name: str | None


class Unfit(Exception):
    """Why a row does not convert, in words that are counted."""


def steps(code: str, work: Work) -> Trace | str:
    """The trace of a program, or the reason why it has none. `work` is a vocabulary's."""
    status, value, trace = run(code, trace=True)
    if value is None:
        return "not a number" if status == "ok" else status
    try:
        lines, exact = replay(trace)
        answer = spell(exact_of(value, exact))
        if "/" in answer:
            return "endless decimal"
        return Trace("\n".join([*write(lines, work), f"#### {answer}"]), answer, value)
    except Unfit as reason:
        return str(reason)


# --- from what ran to exact lines ---------------------------------------------------------------------------


def replay(trace: list[Step]) -> tuple[list[Line], dict[int, Number]]:
    """The steps again, in exact arithmetic: the lines to write, and every float's exact value by its id()."""
    exact: dict[int, Number] = {}
    lines: list[Line] = []
    for step in trace:
        if step.op == "sum":
            found = add_up(step, exact, lines)
        elif len(step.operands) == 2 and step.op in BINARY:
            found = binary(step, exact, lines)
        else:
            found = function(step, exact, lines)
        agree(found, step.value)
        if step.value.__class__ is float:
            exact[id(step.value)] = found
        if len(lines) > STEPS:
            raise Unfit("too many steps")
    return lines, exact


def exact_of(value: object, exact: dict[int, Number]) -> Number:
    """An operand: an integer, a float that an earlier step made, or a float that stands in the program."""
    if value.__class__ is int or value.__class__ is bool:
        return int(value)
    if value.__class__ is not float or not math.isfinite(value):
        raise Unfit("not a number inside")
    known = exact.get(id(value))
    return Fraction(repr(value)) if known is None else known


def agree(exact: Number, value: int | float) -> None:
    """The exact result is the one that ran."""
    if max(abs(exact.numerator), exact.denominator) >> BITS:
        raise Unfit("long number")
    if exact != value and not (
        value.__class__ is float and math.isclose(exact, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ):
        raise Unfit("float rounding")


def power(a: Number, b: Number) -> Number:
    if b == Fraction(1, 2):
        return root(a)
    if b.denominator != 1 or abs(b) > 64:
        raise Unfit("irrational")
    return Fraction(a) ** int(b)


def root(a: Number) -> Number:
    a = Fraction(a)
    found = Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))
    if found * found != a:
        raise Unfit("irrational")
    return found


BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: Fraction(a) / b,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": power,
}
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "-": operator.neg,
    "abs": abs,
    "fabs": abs,
    "int": int,
    "trunc": int,
    "float": lambda a: a,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "max": max,
    "min": min,
    "sqrt": root,
    "pow": power,
    "gcd": math.gcd,
    "lcm": math.lcm,
    "comb": math.comb,
    "perm": math.perm,
    "factorial": math.factorial,
    "isqrt": math.isqrt,
}


def binary(step: Step, exact: dict[int, Number], lines: list[Line]) -> Number:
    a, b = (exact_of(operand, exact) for operand in step.operands)
    try:
        found = BINARY[step.op](a, b)
    except ZeroDivisionError:
        raise Unfit("float rounding") from None
    add_line(lines, a, step.op, b, found, step.name)
    return found


def add_line(lines: list[Line], a: Number, op: str, b: Number, found: Number, name: str | None) -> None:
    if op == "*" and b < a:
        a, b = b, a
    lines.append(Line(f"{term(a)} {op} {term(b)}", found, (a, op, b), name))


def add_up(step: Step, exact: dict[int, Number], lines: list[Line]) -> Number:
    """sum(...) as additions; the name goes to the last."""
    values, *start = step.operands
    first, *rest = [exact_of(value, exact) for value in (*start, *values)] or [0]
    total = first
    for left, number in zip(range(len(rest) - 1, -1, -1), rest):
        add_line(lines, total, "+", number, total + number, None if left else step.name)
        total += number
        if len(lines) > STEPS:
            raise Unfit("too many steps")
    return total


def function(step: Step, exact: dict[int, Number], lines: list[Line]) -> Number:
    if step.op not in FUNCTIONS:
        raise Unfit(f"nothing exact for {step.op}")
    operands = step.operands
    if len(operands) == 1 and operands[0].__class__ is tuple:  # max([...])
        operands = operands[0]
    operands = [exact_of(value, exact) for value in operands]
    try:
        found = FUNCTIONS[step.op](*operands)
    except (TypeError, ValueError):
        raise Unfit("float rounding") from None
    if step.op == "-" or (len(operands) == 1 and found == operands[0]):  # int(5.0) has nothing to say
        if step.name and lines and lines[-1].exact == abs(found) and lines[-1].name is None and found >= 0:
            lines[-1] = lines[-1]._replace(name=step.name)
        return found
    lines.append(Line(f"{step.op}({', '.join(map(spell, operands))})", found, None, step.name))
    return found


# --- from lines to text -------------------------------------------------------------------------------------


def write(lines: list[Line], work: Work) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        head = f"{number}. {words(line.name)} = " if line.name else f"{number}. "
        equation = f"{line.expression} = {spell(line.exact)}"
        working = worked(line, work)
        if working:
            yield head + line.expression
            yield from working
            yield equation
        else:
            yield head + equation


def worked(line: Line, work: Work) -> list[str] | None:
    """What a vocabulary has to say on the way to a result; on decimals, about their digits."""
    if line.pair is None:
        return None
    a, op, b = line.pair
    if a.denominator == b.denominator == 1:
        return work(int(a), op, int(b))
    if op != "*" or "/" in spell(a) + spell(b):
        return None
    a, b = (int(spell(n).replace(".", "")) for n in (a, b))
    return work(a, op, b) or [f"{min(a, b)} * {max(a, b)} = {a * b}"]


def words(name: str) -> str:
    """total_eggs and totalEggs are both "total eggs"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("_", " ").strip().lower()


def spell(number: Number) -> str:
    """A decimal where it ends, else p/q in lowest terms."""
    top, bottom = number.numerator, number.denominator
    places = 0
    if bottom != 1:
        rest, twos, fives = bottom, 0, 0
        while rest % 2 == 0:
            rest, twos = rest // 2, twos + 1
        while rest % 5 == 0:
            rest, fives = rest // 5, fives + 1
        places = max(twos, fives) if rest == 1 else 0
        if rest != 1:
            text = f"{top}/{bottom}"
            if len(text) > DIGITS + 1:
                raise Unfit("long number")
            return text
    digits = str(abs(top) * 10**places // bottom).rjust(places + 1, "0")
    if len(digits) > DIGITS:
        raise Unfit("long number")
    return ("-" if top < 0 else "") + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def term(number: Number) -> str:
    text = spell(number)
    return f"({text})" if "/" in text or number < 0 else text


# --- many rows ----------------------------------------------------------------------------------------------


def convert(codes: Iterable[str], work: Work, processes: int = 2) -> Iterator[Trace | str]:
    """`steps` of every program, in order, on several processes."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(partial(steps, work=work), codes, chunksize=200)
