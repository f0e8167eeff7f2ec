"""The functions and methods that programs may call: what is not listed here does not exist.

Values are plain Python objects, and `priced` stands before each of Python's own functions: all its arguments
are read and paid for, then what it is about to make, and only then it runs. A function that reads an iterator
takes its items out first, so that they can be paid for.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from eval.programs import prices
from eval.programs.machine import ATOMS, LAZY, NUMBERS, Machine, Stop, deny
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


# --- iterators: items are paid for on their way in and on their way out ---------------------------------------


def _callback(machine: Machine, function: Any) -> Callable | None:
    return function and (lambda *args: machine.invoke(machine, function, list(args), {}))


def _lazy(function: Callable) -> Callable:
    def call(machine: Machine, *sources: Any, **kwargs: Any) -> Iterator:
        machine.spend(LAZY)
        return machine.metered(function(*map(machine.metered, sources), **kwargs))

    return call


def _map(machine: Machine, function: Any, *sources: Any) -> Iterator:
    return _lazy(partial(map, _callback(machine, function)))(machine, *sources)


def _filter(machine: Machine, function: Any, source: Any) -> Iterator:
    return _lazy(partial(filter, _callback(machine, function)))(machine, source)


def _reversed(machine: Machine, sequence: Any) -> Iterator:
    return _lazy(iter)(machine, reversed(sequence))


def _enumerate(machine: Machine, iterable: Any, start: Any = 0) -> Iterator:
    numbers = map(machine.bounded, itertools.count(prices.whole(start)))
    return machine.metered(zip(numbers, _lazy(iter)(machine, iterable)))


def _range(machine: Machine, *args: Any) -> range:
    """Of integers that take no more than a word, because its items are made for one unit each."""
    return small_range(range(*args))


def small_range(value: range) -> range:
    if any(not -(2**63) <= n < 2**63 for n in (value.start, value.stop, value.step)):
        raise Stop("limit")
    return value


# --- functions that read all of an iterable -------------------------------------------------------------------


def _until(function: Callable) -> Callable:
    """all and any, which need not read to the end."""
    return lambda machine, values: function(machine.metered(values))


def _collect(kind: type) -> Callable:
    return lambda machine, *sources: kind(*map(machine.metered, sources))


def make_set(machine: Machine, values: Any = ()) -> set:
    return set(machine.hashable(values))


def _dict(machine: Machine, source: Any = (), **items: Any) -> dict:
    result = dict(items)
    _update(machine, result, source)
    return result


def _update(machine: Machine, target: dict, source: Any) -> None:
    for pair in machine.metered(list(source.items()) if source.__class__ is dict else source):
        key, value = machine.metered(pair)
        machine.weigh(key)
        target[key] = value


def _sum(machine: Machine, values: Any, start: Any = 0) -> Any:
    values = list(machine.metered(values))
    machine.weigh(values)
    if start.__class__ in NUMBERS and all(value.__class__ in NUMBERS for value in values):
        return sum(values, start)
    if start.__class__ is str:
        raise TypeError("sum() can't sum strings")
    for value in values:
        start = arithmetic(machine, ast.Add, start, value)
    return start


def _product(machine: Machine, values: Any, *, start: Any = 1) -> Any:
    for value in machine.metered(values):
        start = arithmetic(machine, ast.Mult, start, value)
    return start


def _keys(machine: Machine, values: list, key: Any) -> list:
    """What values are compared by; a program's own `key` may give anything."""
    keys = values if key is None else [machine.invoke(machine, key, [value], {}) for value in list(values)]
    machine.spend(prices.ordered(machine.weigh(keys), len(keys)))
    return keys


def _extreme(function: Callable) -> Callable:
    """max and min."""

    def call(machine: Machine, *args: Any, key: Any = None, **default: Any) -> Any:
        values = list(machine.metered(args[0])) if len(args) == 1 else args
        if not values or (default and len(args) > 1):
            return function(*args, **default) if len(args) > 1 else function(values, **default)
        keys = _keys(machine, values, key)
        return values[function(range(len(keys)), key=keys.__getitem__)]

    return call


def _sorted(machine: Machine, values: Any, /, *, key: Any = None, reverse: Any = False) -> list:
    values = list(machine.metered(values))
    _sort(machine, values, key=key, reverse=reverse)
    return values


def _sort(machine: Machine, values: list, *, key: Any = None, reverse: Any = False) -> None:
    keys = _keys(machine, values, key)
    if key is None:
        values.sort(reverse=reverse)
    else:
        values[:] = [values[i] for i in sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)]


# --- the others -----------------------------------------------------------------------------------------------


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


def _extend(machine: Machine, values: list, more: Any) -> None:
    values.extend(list(machine.metered(more)))


BUILTINS: dict[str, Builtin] = {
    function.name: function
    for function in (
        Builtin("abs", priced(abs), traced=True),
        *(Builtin(f.__name__, _extreme(f), traced=True) for f in (max, min)),
        *(Builtin(f.__name__, _until(f)) for f in (all, any)),
        *(Builtin(f.__name__, priced(f)) for f in (bin, chr, divmod, hex, next, oct, ord)),
        *(Builtin(f.__name__, _lazy(f)) for f in (iter, zip)),
        *(Builtin(t.__name__, priced(t), t) for t in (bool, complex)),
        *(Builtin(t.__name__, _collect(t), t) for t in (list, tuple)),
        Builtin("dict", _dict, dict),
        Builtin("enumerate", _enumerate),
        Builtin("filter", _filter),
        Builtin("float", priced(float), float, traced=True),
        Builtin("int", priced(int, prices.parsed), int, traced=True),
        Builtin("isinstance", _isinstance),
        Builtin("len", lambda machine, value: len(value)),
        Builtin("map", _map),
        Builtin("pow", _power),
        Builtin("print", lambda machine, *values, **options: None),
        Builtin("range", _range, range),
        Builtin("reversed", _reversed),
        Builtin("round", priced(round, prices.rounded), traced=True),
        Builtin("set", make_set, set),
        Builtin("sorted", _sorted),
        Builtin("str", lambda machine, value="": text(machine, value), str),
        Builtin("sum", _sum, traced=True),
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
    "prod": _product,
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
    str: _methods(str, "", "isdigit lower title upper", format=_format, join=_join)
    | _searching("count endswith find index lstrip rstrip split startswith strip")
    | {"replace": priced(str.replace, prices.replaced)},
}
