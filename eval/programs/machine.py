"""What one program runs on: its fuel, its clock, the depth of its calls, and its trace.

Everything that a program does is paid from one budget *before* it is done: a statement, a call or a turn of a loop
costs 1, reading or making n elements n, and what can grow faster than that the price in eval/programs/prices.py.
One unit buys at most about 100 bytes and a microsecond. So a program that would not end, or would fill the memory,
ends as "limit", everywhere at the same place.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

FUEL = 300_000  # units of a run
SECONDS = 1.5  # of processor time, should the fuel burn slowly
CHECK = 100  # units between two looks at the clock
CALLS = 64  # deep
NESTING = 20  # containers in containers
BITS = 8_192  # of an integer: 2,466 digits
LAZY = 60  # units for an iterator: Python frees chains of them recursively, 5,000 links are safe

NUMBERS = frozenset({int, float, bool})
FREE = frozenset({float, bool, complex, type(None), type(...)})  # nothing inside, and never large
ATOMS = FREE | {int}
LITERALS = ATOMS | {str}
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
CONTAINERS = frozenset({list, tuple, set, dict}) | VIEWS
PRINTABLE = LITERALS | CONTAINERS | {range}  # the text of anything else would tell of addresses


class Stop(Exception):
    """Ends a run with a status."""


class Operation(NamedTuple):
    """One arithmetic operation of a run. `operands` are the very objects that went in and `value` the one that came
    out: identity tells where a float came from. `name`: the variable that took it, if one did."""

    op: str
    operands: tuple
    value: int | float
    name: str | None = None


class Machine:
    """What one run has left; `invoke(machine, function, args, kwargs)` calls any function of the program.
    `trace` takes the steps unless it is None."""

    __slots__ = ("deadline", "depth", "fuel", "invoke", "next_check", "trace")

    def __init__(self, invoke: Callable):
        self.invoke, self.trace = invoke, None
        self.fuel, self.next_check = FUEL, FUEL - CHECK
        self.deadline = time.thread_time() + SECONDS
        self.depth = 0

    def spend(self, units: float) -> None:
        self.fuel -= units
        if self.fuel < self.next_check:
            self.check()

    def check(self) -> None:
        if self.fuel < 0 or time.thread_time() > self.deadline:
            raise Stop("limit")
        self.next_check = max(self.fuel - CHECK, 0)

    def weigh(self, value: Any, printing: bool = False, depth: int = 0) -> float:
        """Pay for reading all of `value`, and return the price: shared parts as often as they occur, hashed ones as
        if all of them collided. `printing` refuses what has no text of its own."""
        kind, before = value.__class__, self.fuel
        if kind is int:
            if not -(2**64) < value < 2**64:
                self.spend(value.bit_length() >> 6)
        elif kind is str:
            self.spend(len(value))
        elif kind is range:
            self.spend((value[-1] - value[0]) // value.step + 1 if value else 0)
        elif kind in CONTAINERS:
            if depth > NESTING:
                raise Stop("limit")
            size = len(value)
            self.spend(size + 1)
            for item in itertools.chain(value, value.values()) if kind is dict else value:
                if item.__class__ not in FREE and (item.__class__ is not int or not -(2**64) < item < 2**64):
                    self.weigh(item, printing, depth + 1)
            if kind is not list and kind is not tuple:
                self.spend(size * int(before - self.fuel) >> 6)
        elif printing and kind not in PRINTABLE:
            deny()
        return before - self.fuel

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
        """`value`, paid for where it is a large integer: sums and negations outgrow BITS by one bit at a time."""
        if value.__class__ is int and not -(2**64) < value < 2**64:
            if value.bit_length() > BITS:
                raise Stop("limit")
            self.spend(value.bit_length() >> 6)
        return value

    def record(self, op: str, operands: tuple, value: Any) -> None:
        if self.trace is not None and value.__class__ in NUMBERS:
            self.spend(2)
            self.trace.append(Operation(op, operands, value))


def deny() -> Any:
    raise Stop("rejected")
