"""Operators, comparisons and the texts of values, each paid for before it is done."""

import ast
import operator
from collections.abc import Callable
from types import GeneratorType
from typing import Any, NamedTuple

from eval.programs import prices
from eval.programs.machine import BITS, CONTAINERS, NUMBERS, PRINTABLE, VIEWS, Machine, Stop, deny


class Operator(NamedTuple):
    symbol: str
    function: Callable
    in_place: Callable
    bits: Callable[[int, int], int] | None = None  # of the result, where two integers make a much larger one


OPERATORS = {
    ast.Add: Operator("+", operator.add, operator.iadd),
    ast.Sub: Operator("-", operator.sub, operator.isub),
    ast.Mult: Operator("*", operator.mul, operator.imul, lambda a, b: a.bit_length() + b.bit_length() - 1),
    ast.Div: Operator("/", operator.truediv, operator.itruediv),
    ast.FloorDiv: Operator("//", operator.floordiv, operator.ifloordiv),
    ast.Mod: Operator("%", operator.mod, operator.imod),
    ast.Pow: Operator("**", operator.pow, operator.ipow, lambda a, b: (a.bit_length() - 1) * b),
    ast.LShift: Operator("<<", operator.lshift, operator.ilshift, lambda a, b: a.bit_length() + b),
    ast.RShift: Operator(">>", operator.rshift, operator.irshift),
    ast.BitOr: Operator("|", operator.or_, operator.ior),
    ast.BitAnd: Operator("&", operator.and_, operator.iand),
    ast.BitXor: Operator("^", operator.xor, operator.ixor),
}
COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
UNARY = {ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}
CACHED = frozenset({int, float, complex, str, tuple})  # `is` would tell of Python's caches, not of values


def arithmetic(machine: Machine, kind: type, a: Any, b: Any, in_place: bool = False) -> Any:
    symbol, function, assigning, bits = OPERATORS.get(kind) or deny()
    if a.__class__ not in NUMBERS or b.__class__ not in NUMBERS:
        if b.__class__ is GeneratorType and (in_place or a.__class__ in VIEWS):  # += and | read any iterable
            b = list(machine.metered(b))
        _pay(machine, symbol, a, b, in_place)
        return (assigning if in_place else function)(a, b)
    if bits is not None and a.__class__ is not float and b.__class__ is not float and bits(a, b) > BITS:
        raise Stop("limit")
    value = machine.bounded(function(a, b))
    if machine.trace is not None:
        machine.record(symbol, (a, b), value)
    return value


def _pay(machine: Machine, symbol: str, a: Any, b: Any, in_place: bool) -> None:
    """For operands that are not both real numbers."""
    if a.__class__ is str:
        if symbol == "+" and b.__class__ is str:
            return machine.spend(len(a) + len(b) >> 4)
        if symbol == "%":
            return machine.spend(prices.percent(a, b, machine.weigh(b, printing=True)))
    if symbol == "*":
        sequence, times = (b, a) if a.__class__ in NUMBERS else (a, b)
        if sequence.__class__ in (str, list, tuple):
            machine.spend(prices.repeated(sequence, times))
    units = machine.weigh(b)
    if (
        symbol in "|&-^" and b.__class__ in CONTAINERS
    ):  # a list, too, is hashed where it meets a dict or its keys
        machine.spend(len(b) * int(units) >> 6)
    if not (in_place and a.__class__ is list):
        machine.weigh(a)


def unary(machine: Machine, kind: type, operand: Any) -> Any:
    return machine.bounded(UNARY[kind](operand))


def compare(machine: Machine, kind: type, a: Any, b: Any) -> Any:
    if kind is ast.Is or kind is ast.IsNot:
        if a.__class__ in CACHED and b.__class__ in CACHED:
            deny()
    elif a.__class__ not in NUMBERS or b.__class__ not in NUMBERS:
        machine.weigh(a)
        looked_up = b.__class__ in (dict, set) or (b.__class__ is range and a.__class__ is int)
        if not (looked_up and kind in (ast.In, ast.NotIn)):
            machine.weigh(b)
        if a.__class__ is b.__class__ is str:
            machine.spend(prices.search(b, a))
    return COMPARISONS[kind](a, b)


def text(machine: Machine, value: Any = "", spec: str = "", convert: Callable[[Any], str] = str) -> str:
    """`value` as str(), repr() or ascii(), or as format() has it."""
    if value.__class__ not in PRINTABLE:
        deny()
    machine.weigh(value, printing=True)
    machine.spend(prices.field(spec))
    return format(value, spec) if spec else convert(value)
