"""A program's steps once more, in exact rational arithmetic: from what ran to lines that are true equations."""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from eval.programs.machine import Operation

STEPS = 40  # of a trace, working lines not counted
OPERANDS = 1_000  # of one step
DIGITS = 12  # of a number
BITS = 512  # of an exact number on its way; p * p / q doubles them each time
TOLERANCE = 1e-9  # relative to a value, or to 1 where that is larger

Number = int | Fraction


class TraceLine(NamedTuple):
    """One step to be written; `exact` is its result, `pair` the operands of a binary operator, else None."""

    expression: str
    exact: Number
    pair: tuple[Number, str, Number] | None
    name: str | None


class Unfit(Exception):
    """Why a row does not convert, in words that are counted."""


def replay(trace: list[Operation]) -> tuple[list[TraceLine], dict[int, Number]]:
    """The steps again, in exact arithmetic: the lines to write, and every float's exact value by its id()."""
    exact: dict[int, Number] = {}
    lines: list[TraceLine] = []
    for step in trace:
        if step.op == "sum":
            result = add_up(step, exact, lines)
        elif len(step.operands) == 2 and step.op in BINARY:
            result = binary(step, exact, lines)
        else:
            result = function(step, exact, lines)
        agree(result, step.value)
        if step.value.__class__ is float:
            exact[id(step.value)] = result
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


def few(operands: tuple) -> tuple:
    if len(operands) > OPERANDS:
        raise Unfit("too many numbers in one step")
    return operands


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
    result = Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))
    if result * result != a:
        raise Unfit("irrational")
    return result


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


def binary(step: Operation, exact: dict[int, Number], lines: list[TraceLine]) -> Number:
    a, b = (exact_of(operand, exact) for operand in step.operands)
    try:
        result = BINARY[step.op](a, b)
    except ZeroDivisionError:
        raise Unfit("float rounding") from None
    add_line(lines, a, step.op, b, result, step.name)
    return result


def add_line(lines: list[TraceLine], a: Number, op: str, b: Number, result: Number, name: str | None) -> None:
    if op == "*" and b < a:
        a, b = b, a
    lines.append(TraceLine(f"{term(a)} {op} {term(b)}", result, (a, op, b), name))


def add_up(step: Operation, exact: dict[int, Number], lines: list[TraceLine]) -> Number:
    """sum(...) as additions; the name goes to the last."""
    values, *start = step.operands
    few(values)
    first, *rest = [exact_of(value, exact) for value in (*start, *values)] or [0]
    total = first
    for left, number in zip(range(len(rest) - 1, -1, -1), rest):
        add_line(lines, total, "+", number, total + number, None if left else step.name)
        total += number
        if len(lines) > STEPS:
            raise Unfit("too many steps")
    return total


def function(step: Operation, exact: dict[int, Number], lines: list[TraceLine]) -> Number:
    if step.op not in FUNCTIONS:
        raise Unfit(f"nothing exact for {step.op}")
    operands = step.operands
    if len(operands) == 1 and operands[0].__class__ is tuple:  # max([...])
        operands = operands[0]
    operands = [exact_of(value, exact) for value in few(operands)]
    try:
        result = FUNCTIONS[step.op](*operands)
    except (TypeError, ValueError):
        raise Unfit("float rounding") from None
    if step.op == "-" or (len(operands) == 1 and result == operands[0]):  # int(5.0) has nothing to say
        if step.name and lines and lines[-1].exact == abs(result) and lines[-1].name is None and result >= 0:
            lines[-1] = lines[-1]._replace(name=step.name)
        return result
    lines.append(TraceLine(f"{step.op}({', '.join(map(spell, operands))})", result, None, step.name))
    return result


# --- numbers as text ---------------------------------------------------------------------------------------


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
