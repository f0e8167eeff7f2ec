"""What the programs of eval/programs/interpreter.py compute with: operators, functions, methods, and what each costs.

Values are plain Python objects. A program meets them only through `arithmetic`, `compare`, BUILTINS, MATH
and METHODS, so that a thing which is not listed here does not exist. What an operation may cost in time or
memory is paid from the run's budget before it is done: reading or making n elements costs n, a large
integer its length, and one unit buys at most about 100 bytes. Results whose size is not bounded by that are
checked beforehand.
"""

import ast
import math
import operator
import re
import string
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

FUEL = 300_000  # statements + calls + iterations + stored elements
SECONDS = 1.5  # should the fuel burn slowly
CALLS = 64  # deep
NESTING = 20  # containers in containers
BITS = 8_192  # of an integer: 2,466 digits
LAZY = 60  # units for an iterator: Python frees chains of them recursively, 5,000 links are safe

NUMBERS = frozenset({int, float, bool})
ATOMS = NUMBERS | {complex, type(None), type(...)}  # nothing inside: free to hash, compare and print
LITERALS = ATOMS | {str}
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
CONTAINERS = frozenset({list, tuple, set, dict}) | VIEWS


class Stop(Exception):
    """Ends a run with a status."""


class Step(NamedTuple):
    """One arithmetic operation of a run. `operands` are the very objects that went in and `value` the one
    that came out: identity tells where a float came from. `name`: the variable that took it, if one did."""

    op: str
    operands: tuple
    value: int | float
    name: str | None = None


class Builtin:
    """A function for programs to call: `call(run, *arguments)`; `type`: the class it stands for, if any."""

    __slots__ = ("name", "call", "type", "traced")

    def __init__(self, name: str, call: Callable, type: type | None = None, traced: bool = False):
        self.name, self.call, self.type, self.traced = name, call, type, traced


class Module:
    __slots__ = ("names",)

    def __init__(self, names: dict[str, Any]):
        self.names = names


class Run:
    """What one run has left; `invoke(run, function, arguments, keywords)` calls any function of the program.
    `trace` takes the steps unless it is None."""

    __slots__ = ("invoke", "trace", "fuel", "next_check", "deadline", "depth")

    def __init__(self, invoke: Callable):
        self.invoke, self.trace = invoke, None
        self.fuel, self.next_check = FUEL, FUEL - 20
        self.deadline = time.perf_counter() + SECONDS
        self.depth = 0

    def spend(self, units: int) -> None:
        self.fuel -= units
        if self.fuel < self.next_check:
            self.check()

    def check(self) -> None:
        if self.fuel < 0 or time.perf_counter() > self.deadline:
            raise Stop("limit")
        self.next_check = max(self.fuel - 20, 0)

    def weigh(self, value: Any, depth: int = 0) -> None:
        """Pay for reading all of `value`: shared parts as often as they occur, hashes as if all collided."""
        kind = value.__class__
        if kind is str:
            self.spend(len(value))
        elif kind is range:
            self.spend((value[-1] - value[0]) // value.step + 1 if value else 0)
        elif kind in CONTAINERS:
            if depth > NESTING:
                raise Stop("limit")
            size = len(value)
            self.spend(size + 1 if kind is list or kind is tuple else size + 1 + (size * size >> 8))
            for item in value.items() if kind is dict else value:
                if item.__class__ not in ATOMS:
                    self.weigh(item, depth + 1)

    def metered(self, values: Any) -> Iterator:
        """The items of `values`, each paid for when it is taken."""
        for value in values:
            self.spend(1)
            yield value

    def hashable(self, values: Any) -> Iterator:
        """`metered` items that are going to be hashed."""
        for value in self.metered(values):
            self.weigh(value)
            yield value

    def bounded(self, value: Any) -> Any:
        """`value`, paid for where it is a large integer."""
        if value.__class__ is int and not -(2**64) < value < 2**64:
            if value.bit_length() > BITS:
                raise Stop("limit")
            self.spend(value.bit_length() >> 6)
        return value

    def record(self, op: str, operands: tuple, value: Any) -> None:
        if self.trace is not None and value.__class__ in NUMBERS:
            self.spend(2)
            self.trace.append(Step(op, operands, value))


# --- operators ----------------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: ("+", operator.add, operator.iadd),
    ast.Sub: ("-", operator.sub, operator.isub),
    ast.Mult: ("*", operator.mul, operator.imul),
    ast.Div: ("/", operator.truediv, operator.itruediv),
    ast.FloorDiv: ("//", operator.floordiv, operator.ifloordiv),
    ast.Mod: ("%", operator.mod, operator.imod),
    ast.Pow: ("**", operator.pow, operator.ipow),
    ast.LShift: ("<<", operator.lshift, operator.ilshift),
    ast.RShift: (">>", operator.rshift, operator.irshift),
    ast.BitOr: ("|", operator.or_, operator.ior),
    ast.BitAnd: ("&", operator.and_, operator.iand),
    ast.BitXor: ("^", operator.xor, operator.ixor),
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


def arithmetic(run: Run, kind: type, a: Any, b: Any, in_place: bool = False) -> Any:
    symbol, function, assigning = OPERATORS.get(kind) or deny()
    if a.__class__ not in NUMBERS or b.__class__ not in NUMBERS:
        _pay_for_operator(run, symbol, a, b, in_place)
        return (assigning if in_place else function)(a, b)
    if a.__class__ is not float and b.__class__ is not float:
        if symbol == "*":
            bits = a.bit_length() + b.bit_length() - 1
        elif symbol == "**":
            bits = (a.bit_length() - 1) * b
        else:
            bits = a.bit_length() + b if symbol == "<<" else 0
        if bits > BITS:
            raise Stop("limit")
    value = run.bounded(function(a, b))
    if run.trace is not None:
        run.record(symbol, (a, b), value)
    return value


def _pay_for_operator(run: Run, symbol: str, a: Any, b: Any, in_place: bool) -> None:
    """For operands that are not both real numbers."""
    if symbol == "+" and a.__class__ is b.__class__ is str:
        return run.spend(len(a) + len(b) >> 4)
    if symbol == "%" and a.__class__ is str:
        if re.search(r"%[^a-zA-Z%]*(\*|\d{3})", a):
            raise Stop("limit")
        run.spend(len(a) + 10 * a.count("%"))
    if symbol == "*":
        sequence, times = (b, a) if a.__class__ in NUMBERS else (a, b)
        if sequence.__class__ in (str, list, tuple) and times.__class__ in (int, bool):
            run.spend(len(sequence) * max(times, 0))
    run.weigh(b)
    if not (in_place and a.__class__ is list):
        run.weigh(a)


def compare(run: Run, kind: type, a: Any, b: Any) -> Any:
    if kind is ast.Is or kind is ast.IsNot:
        if a.__class__ in CACHED and b.__class__ in CACHED:
            deny()
    elif a.__class__ not in NUMBERS or b.__class__ not in NUMBERS:
        run.weigh(a)
        looked_up = b.__class__ in (dict, set) or b.__class__ is range and a.__class__ is int
        if not (looked_up and kind in (ast.In, ast.NotIn)):
            run.weigh(b)
    return COMPARISONS[kind](a, b)


def deny() -> Any:
    raise Stop("rejected")


# --- functions: each takes the run first --------------------------------------------------------------------


def _plain(function: Callable) -> Callable:
    """One of Python's own, with every argument paid for."""

    def call(run: Run, *arguments: Any, **keywords: Any) -> Any:
        for value in (*arguments, *keywords.values()):
            if value.__class__ not in ATOMS:
                run.weigh(value)
        if "key" in keywords:
            keywords["key"] = _callback(run, keywords["key"])
        return function(*arguments, **keywords)

    return call


def _callback(run: Run, function: Any) -> Callable | None:
    return function and (lambda *arguments: run.invoke(run, function, list(arguments), {}))


def _collect(kind: type) -> Callable:
    return lambda run, *sources: kind(*(run.metered(source) for source in sources))


def make_set(run: Run, values: Any = ()) -> set:
    return set(run.hashable(values))


def _lazy(function: Callable) -> Callable:
    """zip and its like: items are paid for on their way in and on their way out."""

    def call(run: Run, *sources: Any, **keywords: Any) -> Iterator:
        run.spend(LAZY)
        return run.metered(function(*(run.metered(source) for source in sources), **keywords))

    return call


def _map(run: Run, function: Any, *sources: Any) -> Iterator:
    return _lazy(partial(map, _callback(run, function)))(run, *sources)


def _filter(run: Run, function: Any, source: Any) -> Iterator:
    return _lazy(partial(filter, _callback(run, function)))(run, source)


def _reversed(run: Run, sequence: Any) -> Iterator:
    return _lazy(iter)(run, reversed(sequence))


def _dict(run: Run, source: Any = (), **items: Any) -> dict:
    made = dict(items)
    _update(run, made, source)
    return made


def _update(run: Run, target: dict, source: Any) -> None:
    for pair in run.metered(list(source.items()) if source.__class__ is dict else source):
        key, value = run.metered(pair)
        run.weigh(key)
        target[key] = value


def _sum(run: Run, values: Any, start: Any = 0) -> Any:
    values = list(run.metered(values))
    if start.__class__ in NUMBERS and all(value.__class__ in NUMBERS for value in values):
        return sum(values, start)
    if start.__class__ is str:
        raise TypeError("sum() can't sum strings")
    for value in values:
        start = arithmetic(run, ast.Add, start, value)
    return start


def _product(run: Run, values: Any, *, start: Any = 1) -> Any:
    for value in run.metered(values):
        start = arithmetic(run, ast.Mult, start, value)
    return start


def _power(run: Run, base: Any, exp: Any, mod: Any = None) -> Any:
    if mod is None:
        return arithmetic(run, ast.Pow, base, exp)
    run.spend(exp.bit_length() * mod.bit_length() >> 8 if exp.__class__ is mod.__class__ is int else 1)
    return pow(base, exp, mod)


def _round(run: Run, number: Any, ndigits: Any = None) -> Any:
    if number.__class__ is int and ndigits.__class__ is int and abs(ndigits) > BITS:
        raise Stop("limit")
    return round(number, ndigits)


def _count(function: Callable, factors: Callable) -> Callable:
    """math.comb and its like, after a look at how many factors the result has."""

    def call(run: Run, *numbers: Any) -> int:
        if all(n.__class__ is int for n in numbers) and numbers:
            if factors(*numbers) * numbers[0].bit_length() > 4 * BITS:
                raise Stop("limit")
        return function(*numbers)

    return call


def _lcm(run: Run, *numbers: Any) -> int:
    least = 1
    for number in numbers:
        least = run.bounded(math.lcm(least, number))
    return least


def _isinstance(run: Run, value: Any, kinds: Any) -> bool:
    kinds = kinds if kinds.__class__ is tuple else (kinds,)
    if not all(kind.__class__ is Builtin and kind.type for kind in kinds):
        raise TypeError("isinstance() arg 2 must be a type or tuple of types")
    return isinstance(value, tuple(kind.type for kind in kinds))


def _type(run: Run, value: Any) -> Builtin:
    return next((found for found in BUILTINS.values() if found.type is value.__class__), None) or deny()


def text(run: Run, value: Any = "", spec: str = "") -> str:
    """`value` as str(), or as a format() of a bounded width."""
    if value.__class__ not in LITERALS | CONTAINERS | {range}:
        deny()
    if re.search(r"\d{3}", spec):
        raise Stop("limit")
    run.weigh(value)
    run.spend(10)
    return format(value, spec) if spec else str(value)


def _format(run: Run, value: str, *arguments: Any, **keywords: Any) -> str:
    for _, field, spec, _ in string.Formatter().parse(value):
        if field is not None:
            if re.search(r"[.[]", field) or re.search(r"\d{3}|{", spec):  # {0.__class__}, {:{width}}
                deny()
            for argument in (*arguments, *keywords.values()):
                text(run, argument)
    return value.format(*arguments, **keywords)


def _join(run: Run, separator: str, values: Any) -> str:
    values = list(run.metered(values))
    run.weigh(values)
    run.spend(len(separator) * len(values))
    return separator.join(values)


def _replace(run: Run, value: str, old: str, new: str, count: int = -1) -> str:
    run.spend((len(value) + 1) * (len(new) + 1))
    return value.replace(old, new, count)


def _sort(run: Run, values: list, *, key: Any = None, reverse: Any = False) -> None:
    run.weigh(values)
    values.sort(key=_callback(run, key), reverse=reverse)


def _extend(run: Run, values: list, more: Any) -> None:
    values.extend(list(run.metered(more)))


# --- what there is ------------------------------------------------------------------------------------------

BUILTINS: dict[str, Builtin] = {
    function.name: function
    for function in (
        *(Builtin(f.__name__, _plain(f), traced=True) for f in (abs, max, min)),
        *(Builtin(f.__name__, _plain(f)) for f in (all, any, bin, chr, divmod, hex, next, oct, ord, sorted)),
        *(Builtin(f.__name__, _lazy(f)) for f in (enumerate, iter, zip)),
        *(Builtin(t.__name__, _plain(t), t, traced=True) for t in (int, float)),
        *(Builtin(t.__name__, _plain(t), t) for t in (bool, complex, range)),
        *(Builtin(t.__name__, _collect(t), t) for t in (list, tuple)),
        Builtin("set", make_set, set),
        Builtin("dict", _dict, dict),
        Builtin("filter", _filter),
        Builtin("isinstance", _isinstance),
        Builtin("len", lambda run, value: len(value)),
        Builtin("map", _map),
        Builtin("pow", _power),
        Builtin("print", lambda run, *values, **options: None),
        Builtin("reversed", _reversed),
        Builtin("round", _round, traced=True),
        Builtin("str", lambda run, value="": text(run, value), str),
        Builtin("sum", _sum, traced=True),
        Builtin("type", _type),
    )
}

OWN_MATH = {
    "comb": _count(math.comb, lambda n, k=0, *_: min(k, n - k)),
    "factorial": _count(math.factorial, lambda n, *_: n),
    "lcm": _lcm,
    "perm": _count(math.perm, lambda n, k=None, *_: n if k is None else k),
    "prod": _product,
}
MATH = Module(
    {
        name: Builtin(name, OWN_MATH.get(name) or _plain(value), traced=name != "prod")
        if callable(value)
        else value
        for name, value in vars(math).items()
        if not name.startswith("_")
    }
)


def _of_sets(method: Callable) -> Callable:
    def call(run: Run, value: set, *others: Any) -> Any:
        run.weigh(value)
        return method(value, *(run.hashable(other) for other in others))

    return call


def _methods(kind: type, partly: str = "", whole: str = "", **own: Callable) -> dict[str, Callable]:
    """Methods that read an object `partly` cost their arguments, those that read the `whole` its size too."""

    def skipping_self(method: Callable) -> Callable:
        return lambda run, value, *arguments: _plain(partial(method, value))(run, *arguments)

    return (
        {name: skipping_self(getattr(kind, name)) for name in partly.split()}
        | {name: _plain(getattr(kind, name)) for name in whole.split()}
        | own
    )


METHODS: dict[type, dict[str, Callable]] = {
    float: _methods(float, "is_integer"),
    list: _methods(
        list, "append clear insert pop", "copy count index remove reverse", extend=_extend, sort=_sort
    ),
    tuple: _methods(tuple, "", "count index"),
    dict: _methods(dict, "clear get items keys pop setdefault values", "copy", update=_update),
    set: _methods(
        set,
        "add clear discard remove",
        "copy",
        difference=_of_sets(set.difference),
        intersection=_of_sets(set.intersection),
        union=_of_sets(set.union),
    ),
    str: _methods(
        str,
        "",
        "count endswith find index isdigit lower lstrip rstrip split startswith strip title upper",
        format=_format,
        join=_join,
        replace=_replace,
    ),
}
