"""What a row must be: its columns, and which of their values can be used.

A `Format` lives with what reads its rows: a benchmark, a source of training data, the documents of pretraining.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Unusable(ValueError):
    """Why a value cannot be used, in words that follow its column's name."""


class Format(NamedTuple):
    name: str
    columns: dict[
        str, Callable[[Any], Any]
    ]  # every row has them: a value → as it is used, or raises Unusable
    generate: Callable[
        [str, int, int, str | None], Iterator[dict]
    ]  # `sample`'s, of (split, rows, seed, name)
    held_apart: str = "test"  # the split of `sample` beside "train"
    alone: bool = False  # other columns are not read; else they come along


def usable(row: dict, form: Format) -> dict | str:
    """The row with its values as they are used, or why it is skipped."""
    values = {}
    for column, check in form.columns.items():
        try:
            values[column] = check(row[column])
        except Unusable as reason:
            return f"'{column}' {reason}"
    return row | values


def described(skipped: Counter) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())


# --- columns --------------------------------------------------------------------------------------------------


def anything(value: Any) -> Any:
    """For a column that the reader of the rows judges."""
    return value


def text(value: Any) -> str:
    """A text that says something and can be written down: JSON allows half a character."""
    if not isinstance(value, str):
        raise Unusable(f"is {_kind(value)}, not text")
    if not value.strip():
        raise Unusable("is empty")
    if not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise Unusable("holds half a character")
    return value


def text_or_number(value: Any) -> str:
    """A text; a bare number as one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return text(value)


def texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unusable(f"is {_kind(value)}, not a list of texts")
    return [text(each) for each in value]


def turns(value: Any) -> list[dict]:
    """The messages of a conversation; whether it can be learned, its reader judges."""
    if not isinstance(value, list):
        raise Unusable(f"is {_kind(value)}, not a list of turns")
    for turn in value:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str | None):
            raise Unusable("has a turn without the texts role and content")
        if content and content.strip():
            text(content)
    return value


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), type(value).__name__)
