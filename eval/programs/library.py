"""The functions and methods that programs may call: what is not listed here does not exist.

Values are plain Python objects, and `priced` stands before each of Python's own functions: all its arguments
are read and paid for, then what it is about to make, and only then it runs. A function that reads an iterator
takes its items out first, so that they can be paid for.
"""

import ast
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from eval.programs import iterables, prices
from eval.programs.machine import ATOMS, Machine, deny
from eval.programs.operators import arithmetic, text


class Builtin:
    """A function for programs to call: `call(machine, *args)`; `type`: the class it stands for, if any."""

    __slots__ = ("call", "name", "traced", "type")

    def __init__(self, name: str, call: Callable, type: type | None = None, traced: bool = False):
        self.name, self.call, self.type, self.traced = name, call, type, traced


class Module:
    __slots__ = ("names",)

    def __init__(self, names: dict[str, Any]):
        self.names = names


def priced(function: Callable, price: Callable[..., float] | None = None) -> Callable:
    def call(machine: Machine, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            machine.weigh(value)
        if price is not None:
            machine.spend(price(*args, **kwargs))
        return function(*args, **kwargs)

    return call


def _reading(function: Callable) -> Callable:
    """`priced`, of a function whose arguments are all iterables or atoms."""

    def call(machine: Machine, *args: Any) -> Any:
        args = [arg if arg.__class__ in ATOMS else list(machine.metered(arg)) for arg in args]
        return priced(function)(machine, *args)

    return call


# --- functions ------------------------------------------------------------------------------------------------


def _power(machine: Machine, base: Any, exp: Any, mod: Any = None) -> Any:
    if mod is None:
        return arithmetic(machine, ast.Pow, base, exp)
    return priced(pow, prices.power_modulo)(machine, base, exp, mod)


def _lcm(machine: Machine, *numbers: Any) -> int:
    least = 1
    for number in numbers:
        least = machine.bounded(math.lcm(least, number))
    return least


def _isinstance(machine: Machine, value: Any, kinds: Any) -> bool:
    kinds = kinds if kinds.__class__ is tuple else (kinds,)
    if not all(kind.__class__ is Builtin and kind.type for kind in kinds):
        raise TypeError("isinstance() arg 2 must be a type or tuple of types")
    return isinstance(value, tuple(kind.type for kind in kinds))


def _type(machine: Machine, value: Any) -> Builtin:
    return next((f for f in BUILTINS.values() if f.type is value.__class__), None) or deny()


def _format(machine: Machine, value: str, *args: Any, **kwargs: Any) -> str:
    units = machine.weigh([*args, *kwargs.values()], printing=True)
    machine.spend(prices.fields(value, units))
    return value.format(*args, **kwargs)


def _join(machine: Machine, separator: str, values: Any) -> str:
    return priced(str.join, prices.joined)(machine, separator, list(machine.metered(values)))


BUILTINS: dict[str, Builtin] = {
    function.name: function
    for function in (
        Builtin("abs", priced(abs), traced=True),
        *(Builtin(f.__name__, iterables.extreme(f), traced=True) for f in (max, min)),
        *(Builtin(f.__name__, iterables.until(f)) for f in (all, any)),
        *(Builtin(f.__name__, priced(f)) for f in (bin, chr, divmod, hex, next, oct, ord)),
        *(Builtin(f.__name__, iterables.lazy(f)) for f in (iter, zip)),
        *(Builtin(t.__name__, priced(t), t) for t in (bool, complex)),
        *(Builtin(t.__name__, iterables.collect(t), t) for t in (list, tuple)),
        Builtin("dict", iterables.make_dict, dict),
        Builtin("enumerate", iterables.numbered),
        Builtin("filter", iterables.filtered),
        Builtin("float", priced(float), float, traced=True),
        Builtin("int", priced(int, prices.parsed), int, traced=True),
        Builtin("isinstance", _isinstance),
        Builtin("len", lambda machine, value: len(value)),
        Builtin("map", iterables.mapped),
        Builtin("pow", _power),
        Builtin("print", lambda machine, *values, **options: None),
        Builtin("range", iterables.make_range, range),
        Builtin("reversed", iterables.backwards),
        Builtin("round", priced(round, prices.rounded), traced=True),
        Builtin("set", iterables.make_set, set),
        Builtin("sorted", iterables.in_order),
        Builtin("str", lambda machine, value="": text(machine, value), str),
        Builtin("sum", iterables.total, traced=True),
        Builtin("type", _type),
    )
}

OWN_MATH = {
    "comb": priced(math.comb, prices.comb),
    "dist": _reading(math.dist),
    "factorial": priced(math.factorial, prices.factorial),
    "fsum": _reading(math.fsum),
    "lcm": _lcm,
    "perm": priced(math.perm, prices.perm),
    "prod": iterables.product,
    "sumprod": _reading(getattr(math, "sumprod", None)),  # Python 3.12
}
MATH = Module(
    {
        name: value
        if value.__class__ is float
        else Builtin(name, OWN_MATH.get(name) or priced(value), traced=name != "prod")
        for name, value in vars(math).items()
        if not name.startswith("_") and (value.__class__ is float or callable(value))
    }
)


# --- methods --------------------------------------------------------------------------------------------------


def _of_sets(method: Callable) -> Callable:
    def call(machine: Machine, value: set, *others: Any) -> Any:
        machine.weigh(value)
        return method(value, *map(machine.hashable, others))

    return call


def _methods(kind: type, partly: str = "", whole: str = "", **own: Callable) -> dict[str, Callable]:
    """Methods that read an object `partly` cost their arguments, those that read the `whole` its size too."""

    def skipping_self(method: Callable) -> Callable:
        return lambda machine, value, *args: priced(partial(method, value))(machine, *args)

    return (
        {name: skipping_self(getattr(kind, name)) for name in partly.split()}
        | {name: priced(getattr(kind, name)) for name in whole.split()}
        | own
    )


def _searching(names: str) -> dict[str, Callable]:
    return {name: priced(getattr(str, name), prices.search) for name in names.split()}


METHODS: dict[type, dict[str, Callable]] = {
    float: _methods(float, "is_integer"),
    list: _methods(
        list,
        "append clear insert pop",
        "copy count index remove reverse",
        extend=iterables.extend,
        sort=iterables.sort,
    ),
    tuple: _methods(tuple, "", "count index"),
    dict: _methods(dict, "clear get items keys pop setdefault values", "copy", update=iterables.update),
    set: _methods(
        set,
        "add clear discard remove",
        "copy",
        difference=_of_sets(set.difference),
        intersection=_of_sets(set.intersection),
        union=_of_sets(set.union),
    ),
    str: _methods(str, "", "isdigit lower title upper", format=_format, join=_join)
    | _searching("count endswith find index lstrip rstrip split startswith strip")
    | {"replace": priced(str.replace, prices.replaced)},
}
