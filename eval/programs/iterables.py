"""What programs call on iterables: every item is paid for as it is taken, so that none of these can run away."""

import ast
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from eval.programs import prices
from eval.programs.machine import LAZY, NUMBERS, Machine, Stop
from eval.programs.operators import arithmetic

# --- iterators: items are paid for on their way in and on their way out ---------------------------------------


def callback(machine: Machine, function: Any) -> Callable | None:
    return function and (lambda *args: machine.invoke(machine, function, list(args), {}))


def lazy(function: Callable) -> Callable:
    def call(machine: Machine, *sources: Any, **kwargs: Any) -> Iterator:
        machine.spend(LAZY)
        return machine.metered(function(*map(machine.metered, sources), **kwargs))

    return call


def mapped(machine: Machine, function: Any, *sources: Any) -> Iterator:
    return lazy(partial(map, callback(machine, function)))(machine, *sources)


def filtered(machine: Machine, function: Any, source: Any) -> Iterator:
    return lazy(partial(filter, callback(machine, function)))(machine, source)


def backwards(machine: Machine, sequence: Any) -> Iterator:
    return lazy(iter)(machine, reversed(sequence))


def numbered(machine: Machine, iterable: Any, start: Any = 0) -> Iterator:
    numbers = map(machine.bounded, itertools.count(prices.whole(start)))
    return machine.metered(zip(numbers, lazy(iter)(machine, iterable)))


def make_range(machine: Machine, *args: Any) -> range:
    """Of integers that take no more than a word, because its items are made for one unit each."""
    return small_range(range(*args))


def small_range(value: range) -> range:
    if any(not -(2**63) <= n < 2**63 for n in (value.start, value.stop, value.step)):
        raise Stop("limit")
    return value


# --- functions that read all of an iterable -------------------------------------------------------------------


def until(function: Callable) -> Callable:
    """all and any, which need not read to the end."""
    return lambda machine, values: function(machine.metered(values))


def collect(kind: type) -> Callable:
    return lambda machine, *sources: kind(*map(machine.metered, sources))


def make_set(machine: Machine, values: Any = ()) -> set:
    return set(machine.hashable(values))


def make_dict(machine: Machine, source: Any = (), **items: Any) -> dict:
    result = dict(items)
    update(machine, result, source)
    return result


def update(machine: Machine, target: dict, source: Any) -> None:
    for pair in machine.metered(list(source.items()) if source.__class__ is dict else source):
        key, value = machine.metered(pair)
        machine.weigh(key)
        target[key] = value


def total(machine: Machine, values: Any, start: Any = 0) -> Any:
    values = list(machine.metered(values))
    machine.weigh(values)
    if start.__class__ in NUMBERS and all(value.__class__ in NUMBERS for value in values):
        return sum(values, start)
    if start.__class__ is str:
        raise TypeError("sum() can't sum strings")
    for value in values:
        start = arithmetic(machine, ast.Add, start, value)
    return start


def product(machine: Machine, values: Any, *, start: Any = 1) -> Any:
    for value in machine.metered(values):
        start = arithmetic(machine, ast.Mult, start, value)
    return start


def sort_keys(machine: Machine, values: list, key: Any) -> list:
    """What values are compared by; a program's own `key` may give anything."""
    keys = values if key is None else [machine.invoke(machine, key, [value], {}) for value in list(values)]
    machine.spend(prices.ordered(machine.weigh(keys), len(keys)))
    return keys


def extreme(function: Callable) -> Callable:
    """max and min."""

    def call(machine: Machine, *args: Any, key: Any = None, **default: Any) -> Any:
        values = list(machine.metered(args[0])) if len(args) == 1 else args
        if not values or (default and len(args) > 1):
            return function(*args, **default) if len(args) > 1 else function(values, **default)
        keys = sort_keys(machine, values, key)
        return values[function(range(len(keys)), key=keys.__getitem__)]

    return call


def in_order(machine: Machine, values: Any, /, *, key: Any = None, reverse: Any = False) -> list:
    values = list(machine.metered(values))
    sort(machine, values, key=key, reverse=reverse)
    return values


def sort(machine: Machine, values: list, *, key: Any = None, reverse: Any = False) -> None:
    keys = sort_keys(machine, values, key)
    if key is None:
        values.sort(reverse=reverse)
    else:
        values[:] = [values[i] for i in sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)]


def extend(machine: Machine, values: list, more: Any) -> None:
    values.extend(list(machine.metered(more)))
