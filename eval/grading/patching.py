"""Does a model use the fact tokens that it writes?

In a reply with fact tokens the first one is replaced by another fact's token, the model goes on from there,
and its new answer is compared with the old one and with the one that should follow: the equations behind the
token, worked out again with the other fact's value in the place of the old one.

    follows     the answer is the recomputed one: the model reads the value off its own token
    stays       the answer is the old one: the token is decoration, the value comes from elsewhere
    other       neither

Only replies whose answer ought to change into a natural number are asked. A condition that writes no fact
tokens has no such replies, and one that has a single token has nothing to replace it with.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from eval.grading import answers
from eval.grading.errors import equations, evaluate
from tokenizer.encode import Encoder

SHIFT = 17  # how far along in the vocabulary the replacement is


class Case(NamedTuple):
    head: list[int]  # the reply up to the replaced token, the replacement included
    old: str  # the answer before
    expected: str  # the answer that should follow


def case(encoder: Encoder, reply: list[int], answer: str | None) -> Case | None:
    """What to ask about one reply and its answer; None where there is nothing to ask."""
    at = next((i for i, token in enumerate(reply) if token in encoder.fact_ids), None)
    if at is None or answer is None or answers.value(answer) is None:
        return None
    other = _other(encoder, reply[at])
    if other is None:
        return None
    rest = encoder.render(reply[at + 1 :])
    expected = recompute(rest, _value(encoder, reply[at]), _value(encoder, other), answer)
    if expected is None or answers.same(expected, answer):
        return None
    return Case([*reply[:at], other], answer, expected)


def _value(encoder: Encoder, token: int) -> str:
    return encoder.condition.facts.spell(token - encoder.condition.first_fact)[1]


def _other(encoder: Encoder, token: int) -> int | None:
    """Another fact token, of another value."""
    ids = encoder.fact_ids
    for step in range(1, len(ids)):
        other = ids[(token - ids[0] + SHIFT * step) % len(ids)]
        if _value(encoder, other) != _value(encoder, token):
            return other
    return None


def recompute(text: str, old: str, new: str, answer: str) -> str | None:
    """The answer once `old` has become `new`, by the equations of `text` in order; None if not natural."""
    values = {Fraction(old): Fraction(new)}

    def replaced(number: re.Match) -> str:
        value = Fraction(number[0])
        return f"({values[value]})" if value in values else number[0]

    for left, _ in equations(text):
        before, after = evaluate(left), evaluate(re.sub(r"\d+(?:\.\d+)?|\.\d+", replaced, left))
        if before is None or after is None:
            return None
        if after != before:
            values[before] = after
    value = answers.value(answer)
    if value is None:
        return None
    final = values.get(value, value)
    return str(final) if final.denominator == 1 and final >= 0 else None


def outcome(case: Case, answer: str | None) -> str:
    """follows, stays or other."""
    if answers.same(answer, case.expected):
        return "follows"
    return "stays" if answers.same(answer, case.old) else "other"
