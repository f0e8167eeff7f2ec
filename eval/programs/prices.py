"""The wall before every operation: what its result will hold and how long it will take, in units of fuel.

An operation whose size and time grow with the size of its arguments is paid for by reading them
(`Machine.weigh`). Every other one has a price here: a function of the same arguments that gives an upper bound
of what the operation is about to make, NEVER where no program may have it. A price accepts what Python accepts
and raises TypeError for anything else, so that no kind of argument passes by unpriced.
"""

import math
import re
import string
from typing import Any

from eval.programs.machine import BITS, deny

NEVER = math.inf


def whole(value: Any) -> int:
    """An integer, as Python takes one: True is 1, and None is none."""
    if value.__class__ is not int and value.__class__ is not bool:
        raise TypeError("not an integer")
    return int(value)


def integer(bits: float) -> float:
    """Of an integer that may have so many bits."""
    return NEVER if bits > BITS else max(bits, 0) // 64


# --- numbers ------------------------------------------------------------------------------------------------


def factorial(n: Any) -> float:
    return _factors(whole(n), whole(n))


def perm(n: Any, k: Any = None) -> float:
    return _factors(whole(n), whole(n) if k is None else whole(k))


def comb(n: Any, k: Any) -> float:
    return _factors(whole(n), min(whole(k), whole(n) - whole(k)))


def _factors(largest: int, count: int) -> float:
    """Of a product of `count` factors up to `largest`; it is often shorter than this bound, by up to a half."""
    return integer(max(count, 0) * largest.bit_length() / 4)


def power_modulo(base: Any, exponent: Any, modulus: Any) -> float:
    return whole(exponent).bit_length() * whole(modulus).bit_length() ** 2 >> 19  # 0.8 microseconds a unit


def rounded(number: Any, ndigits: Any = None) -> float:
    """Python computes 10 ** -ndigits, whatever the size of an integer `number`."""
    return 0 if ndigits is None or number.__class__ is float else integer(-4 * whole(ndigits))


def parsed(value: Any = 0, base: Any = 10) -> float:
    """int(text): time is quadratic where the base is not a power of two."""
    return integer(len(value)) if value.__class__ is str else 0


# --- sequences ----------------------------------------------------------------------------------------------


def repeated(sequence: Any, times: Any) -> float:
    return len(sequence) * max(whole(times), 0)


def ordered(units: float, count: int) -> float:
    """Of sorting `count` values that take `units` to read: log2(count) comparisons of each."""
    return int(units) * count.bit_length() >> 4


# --- text ---------------------------------------------------------------------------------------------------


def search(value: str, *patterns: Any, **options: Any) -> float:
    """Of str.find and its like, in the worst case of every Python: each pattern compared at each place."""
    patterns = [p for p in (*patterns, *options.values()) if p.__class__ is str or p.__class__ is tuple]
    sizes = (sum(map(len, p)) if p.__class__ is tuple else len(p) for p in patterns)
    return (len(value) + 1) * sum(sizes) >> 4


def replaced(value: str, old: str, new: str, count: Any = -1) -> float:
    return search(value, old) + (len(value) + 1) * (len(new) + 1)


def joined(separator: str, values: list) -> float:
    return len(separator) * len(values)


def field(spec: str) -> float:
    """Of a format() by `spec`: no field is wider, or more precise, than all the numbers in it together."""
    return 10 + sum(map(_number, re.findall(r"\d+", spec)))


def percent(template: str, values: Any, units: float) -> float:
    """Of template % values, where `values` take `units` to read: each field may write all of them.

    Widths and precisions stand behind a %, or behind the bracket that ends a %(key); a * takes them from the values.
    """
    parts = " ".join(re.findall(r"[%)][-+ #*.\d]*", template))
    widths = sum(map(_number, re.findall(r"\d+", parts)))
    if "*" in parts:
        values = values if values.__class__ is tuple else (values,)
        widths += sum(abs(value) for value in values if value.__class__ in (int, bool))
    return len(template) + (10 + units) * template.count("%") + widths


def fields(template: str, units: float) -> float:
    """Of template.format(...) with arguments that take `units` to read."""
    price = len(template)
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is not None:
            if re.search(r"[.[]", name) or "{" in spec:  # {0.__class__}, {:{width}}
                deny()
            price += units + field(spec)
    return price


def _number(digits: str) -> float:
    return int(digits) if len(digits) < 10 else NEVER
