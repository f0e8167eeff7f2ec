"""Sorts wrong answers by reading the equations that a solution writes down.

    no answer   nothing that `eval.answers` reads as a final answer
    slip        some written equation is false: 6 * 9 = 56
    plan        every written equation is true (or there is none), and the answer is wrong all the same

An equation is `expression = number` in rendered text: integers and decimals joined by + - * × · x / ÷ − and
parentheses, with `$` and thousands commas left aside and `%` read as hundredths. Of a chain such as
`2 * 3 = 6 + 1 = 7` the links are judged one by one, as a pupil means it. A decimal may be rounded or cut to
the places that are written. What cannot be read (units inside, powers, unknowns) is no equation here, and equal
equations of one solution count once, so that neither an annotation `<<6*9=54>>` nor a loop counts twice. By
this reading 4,525 of the 4,527 equations in GSM8K's own test solutions are true, and the other two are its
slips.
"""

import ast
import operator
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

CLASSES = ("correct", "no answer", "slip", "plan")

_OPERATORS = {"×": "*", "·": "*", "x": "*", "÷": "/", "−": "-"}
_NUMBER = r"(?:[$€£][ ]?)?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)%?"
_OPERATOR = r"(?:[-+*/×·÷−]|(?<=[ ])x(?=[ ]))"
_EQUATION = re.compile(
    rf"(?<![\w.,:$])((?:[(][ ]*)*{_NUMBER}[) ]*(?:{_OPERATOR}[( ]*{_NUMBER}[) ]*)+)=[ ]*"
    rf"(?=((?>-?{_NUMBER}(?:[) ]*{_OPERATOR}[( ]*{_NUMBER})*))(?![ ]*\d))"  # 3 1/2 is not read
)
_JOINED = re.compile(
    rf"(?:{_OPERATOR}|[–^)\d]|\dx)[ (]*\Z"
)  # what makes the text before a part of the same expression
_BULLET = re.compile(r"(?:^|\n)[ ]*[-*+][ ]+\Z")
_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")
_LONGEST = 200  # characters of an expression: a parser's recursion is not for a model to choose
_APPLY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Equation(NamedTuple):
    left: str  # Python syntax, without spaces
    right: str


def equations(text: str) -> list[Equation]:
    """The different readable equations of a rendered text, in order."""
    bodies = [_ANNOTATION.sub("", text), *_ANNOTATION.findall(text)]
    return list(dict.fromkeys(equation for body in bodies for equation in _read(body)))


def _read(text: str) -> Iterator[Equation]:
    for match in _EQUATION.finditer(text):
        head = text[max(0, match.start() - 20) : match.start()]
        if _JOINED.search(head) and not _BULLET.search(head):
            continue
        equation = Equation(_python(match[1]), _python(match[2]))
        if evaluate(equation.left) is not None and evaluate(equation.right) is not None:
            yield equation


def _python(expression: str) -> str:
    spelled = "".join(_OPERATORS.get(c, c) for c in expression if c not in " ,$€£")
    return re.sub(r"((?:\d+\.?\d*|\.\d+))%", r"(\1/100)", spelled)


@lru_cache(4096)  # an equation is read, and then judged
def evaluate(expression: str) -> Fraction | None:
    """The exact value of an expression in Python syntax; None for anything but + - * / on numbers."""
    try:
        return _value(_parse(expression))
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _parse(expression: str) -> ast.expr:
    if len(expression) > _LONGEST:
        raise ValueError("too long")
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(int() | float() as number):
            return Fraction(str(number))  # 0.1 is a tenth
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand)
        case ast.BinOp(left, sign, right) if type(sign) in _APPLY:
            return _APPLY[type(sign)](_value(left), _value(right))
    raise ValueError("not an arithmetic expression")


def is_true(equation: Equation) -> bool:
    """Whether left has the value of right, or of the first number of right as far as its places go."""
    left, right = evaluate(equation.left), equation.right
    numeral = re.search(r"[\d.]+", right)
    if left is None or numeral is None:
        return False
    first = numeral[0]
    number = Fraction(first) * (-1 if right.startswith("-") else 1)
    places = len(first.partition(".")[2])
    place = Fraction(1, 10**places)
    rounded = abs(left - number) <= place / 2
    cut = 0 <= abs(left) - abs(number) < place and left * number >= 0
    return left == number or places > 0 and (rounded or cut) or left == evaluate(right)


def operations(text: str) -> list[tuple[int, str, int]]:
    """(a, sign, b) of every operation between non-negative integers within the equations of a text."""
    result = []
    for equation in equations(text):
        for node in ast.walk(_parse(equation.left)):
            if isinstance(node, ast.BinOp):
                a, b = _value(node.left), _value(node.right)
                if a.denominator == b.denominator == 1 and min(a, b) >= 0:
                    result.append((int(a), _SIGNS[type(node.op)], int(b)))
    return result


def fact_bearing(facts: ModuleType, solution: str) -> tuple[bool, bool]:
    """Whether a solution needs a fact of the vocabulary: (as written, after decomposing its operations)."""
    before = bool(facts.find(solution))
    return before, before or any(facts.find(line) for line in _decomposed(facts, solution))


def _decomposed(facts: ModuleType, solution: str) -> Iterator[str]:
    for a, sign, b in operations(solution):
        if sign == "/" and (b == 0 or a % b):
            continue
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[sign]
        yield from (f"{a} {sign} {b} = {value}", *(facts.work(a, sign, b) or ()))


def classify(written: list[Equation], answer: str | None, correct: bool) -> str:
    """One of CLASSES for a completion of these equations whose answer has been read and graded."""
    if correct:
        return "correct"
    if answer is None:
        return "no answer"
    return "plan" if all(map(is_true, written)) else "slip"
