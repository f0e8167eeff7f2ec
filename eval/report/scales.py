"""Numbers as text, and the scales of an axis: from values to pixels, with the ticks to write beside it."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def minus(words: str) -> str:
    return words.replace("-", "−")


def short(x: float, digits: int = 3) -> str:
    """As few digits as say it: 0.25, 1.2e+06 never."""
    return minus(f"{float(f'{x:.{digits}g}'):.15g}")


def points(share: float, sign: str = "+", digits: int = 1) -> str:
    """A share of 1 in percentage points."""
    return minus(f"{100 * share:{sign}.{digits}f}")


def bits(value: float, sign: str = "+") -> str:
    return minus(f"{value:{sign}.3f}")


def difference(value: float, unit: str, sign: str = "+") -> str:
    """A difference in a metric's unit, without its name."""
    return points(value, sign) if unit == "points" else bits(value, sign)


def width(margin: float, unit: str) -> str:
    """A margin in a metric's unit, with as few digits as say it: ±2 points."""
    return f"±{short(100 * margin if unit == 'points' else margin)} {unit}"


def level(value: float, unit: str) -> str:
    """What a condition gets: 61.0%, or 0.712 bits per byte."""
    return f"{value:.1%}" if unit == "points" else f"{bits(value, '')} {unit}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def count(x: float) -> str:
    for size, unit in UNITS:
        if abs(x) >= size:
            return f"{short(x / size)} {unit}"
    return short(x)


def number(x: float) -> str:
    return minus(f"{x:,.0f}") if abs(x) >= 1000 else short(x)


FORMATS = {"percent": percent, "points": points, "bits per byte": bits, "number": number, "count": count}
TICKS: dict[str, Callable[[float], str]] = {
    "percent": lambda x: f"{short(100 * x)}%",
    "points": lambda x: ("+" if x > 0 else "") + short(100 * x),
    "bits per byte": lambda x: ("+" if x > 0 else "") + short(x),
    "number": number,
    "count": count,
}


class Scale(NamedTuple):
    at: Callable[[float], float]  # value → pixel
    ticks: list[float]


def linear(values: Sequence[float], start: float, end: float, zero: bool = False, wanted: int = 5) -> Scale:
    """From `start` to `end` pixels, with a little room beside the outermost values."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    room = (high - low or abs(high) or 1) * 0.04
    low -= 0 if zero and low == 0 else room
    high += room
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(times for times in (1, 2, 2.5, 5, 10) if times * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    return Scale(lambda x: start + (x - low) / (high - low) * (end - start), ticks)


def logarithmic(values: Sequence[float], start: float, end: float, wanted: int = 5) -> Scale:
    """Between powers of ten around the values, which are above 0."""
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    step = math.ceil((high - low) / wanted)
    ticks = [10.0**power for power in range(low, high + 1, step)]
    return Scale(lambda x: start + (math.log10(x) - low) / (high - low) * (end - start), ticks)


def doubling(values: Sequence[float], start: float, end: float) -> Scale:
    """Logarithmic with just the room that the values need, and a tick at the lowest and at each of its doublings."""
    low, high = math.log2(min(values)), math.log2(max(values))
    room = (high - low or 1) * 0.04
    ticks = [float(f"{2 ** (low + i):.6g}") for i in range(math.floor(high - low + 1e-9) + 1)]
    while len(ticks) > 6:
        ticks = ticks[::2]
    return Scale(
        lambda x: start + (math.log2(x) - low + room) / (high - low + 2 * room) * (end - start), ticks
    )
