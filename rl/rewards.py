"""What a completion is worth: pure functions over its rendered text, never over its tokens.

A set is a few named terms whose sum is the reward. `fair`, the default:

    term        value  where
    ----------  -----  ------------------------------------------------------------------------------------
    correct       1.0  the number of the final line is the problem's answer
    partial       0.2  that number is wrong, and within 10% of the answer
    format       −0.1  the text does not end in its one well-formed final line, or EOS does not follow it
    repetition   −0.2  some run of words stands five times or more in immediate succession
    fact_bonus      b  optional: the answer is right, and a true fact is written, in either spelling

The final line is `#### 54`, the last of the text and the only `####` in it. Without one nothing can be
earned: to list every number, many answers, facts or equals signs is worth nothing; nor can anything wrong (at
most 0.2) out-earn anything right (at least 0.7). `format` is a penalty because a reward could be had for a
bare `#### 6`; what a whole group earns alike changes no advantage, so the two train alike. No term reads how
a fact is written. Five repeats, because 99 * 99 rightly says `9 * 9 = 81` four times. Every
sign is a word, so `##### 54` is such a run too (LOG.md, 2026-11-30).

`published` is the exploration's shaped reward, for replication: 1.0 for a right answer, and on wrong ones
alone close 0.3 (off by at most 1 or under 10%), steps 0.1 (`=` or `####` somewhere), fact 0.2, short 0.1
(under 150 words), repetition −0.3 (three words that come three times). There `fact` asked for a token, which
only one arm could write; on rendered text every condition whose facts can be read back earns it. A wrong
answer can earn 0.4 by its looks. `binary` is 1.0 for a right answer and nothing else; on it the exploration's
models collapsed. Both read the answer as the evaluation does; every answer that `fair` calls correct, the
evaluation does too.
"""

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from eval.grading import answers
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

VERSION = 1  # raise it with any change of what a set is worth


class Completion(NamedTuple):
    """What a reward may look at."""

    text: str  # rendered
    ended: bool  # whether EOS was written before the limit
    gold: str  # the problem's answer, as a numeral
    facts: int = 0  # true facts written, in whatever spelling the vocabulary finds


Reward = Callable[[Completion], float]

_FINAL = re.compile(r"#### -?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?")
_WORD = re.compile(r"\w+|[^\w\s]")
_LOOP = 5  # times that a run of words may not follow itself


def read(encoder: Encoder, ids: Sequence[int], gold: str) -> Completion:
    """The completion that the ids of a rollout say."""
    text = encoder.render(ids)
    return Completion(text, encoder.eos in ids[-1:], gold, len(encoder.condition.facts.find(text)))


def final(text: str) -> str | None:
    """The number of a text's one well-formed final line; None where there is none."""
    line = text.strip().rpartition("\n")[2]
    return answers.answer(line) if text.count("####") == 1 and _FINAL.fullmatch(line) else None


def loops(text: str, times: int = _LOOP) -> bool:
    """Whether some run of words and signs stands at least `times` times in immediate succession."""
    words = _WORD.findall(text)
    for period in range(1, len(words) // times + 1):
        same = 0
        for word, before in zip(words[period:], words):
            same = same + 1 if word == before else 0
            if same == period * (times - 1):
                return True
    return False


# --- fair ---------------------------------------------------------------------------------------------------


def _correct(c: Completion) -> float:
    return float(answers.same(final(c.text), c.gold))


def _partial(c: Completion) -> float:
    number = final(c.text)
    return 0.2 if number is not None and 0 < _error(number, c.gold) <= 0.1 else 0.0


def _format(c: Completion) -> float:
    return 0.0 if c.ended and final(c.text) is not None else -0.1


def _repetition(c: Completion) -> float:
    return -0.2 if loops(c.text) else 0.0


def _off(number: str, gold: str) -> Fraction:
    """|number − gold| of two answers that can be read."""
    a, b = answers.value(number), answers.value(gold)
    assert a is not None and b is not None, (number, gold)
    return abs(a - b)


def _error(number: str, gold: str) -> Fraction | float:
    """|number − gold| as a share of gold; infinite where gold is 0 and the number is not."""
    off, size = _off(number, gold), _off(gold, "0")
    return off / size if size else math.inf if off else 0.0


# --- as the exploration had it ------------------------------------------------------------------------------


def _right(c: Completion) -> float:
    return float(answers.same(answers.answer(c.text), c.gold))


def _on_wrong(value: float, test: Callable[[Completion], bool]) -> Reward:
    return lambda c: value if not _right(c) and test(c) else 0.0


def _close(c: Completion) -> bool:
    number = answers.answer(c.text)
    if number is None:
        return False
    return _error(number, c.gold) < 0.1 or _off(number, c.gold) <= 1


def _trigram_thrice(c: Completion) -> bool:
    words = c.text.split()
    trigrams = list(zip(words, words[1:], words[2:]))
    return len(words) >= 10 and any(trigrams.count(t) >= 3 for t in set(trigrams))


# --- the sets -----------------------------------------------------------------------------------------------

SETS: dict[str, dict[str, Reward]] = {
    "fair": {"correct": _correct, "partial": _partial, "format": _format, "repetition": _repetition},
    "published": {
        "correct": _right,
        "close": _on_wrong(0.3, _close),
        "steps": _on_wrong(0.1, lambda c: "=" in c.text or "####" in c.text),
        "fact": _on_wrong(0.2, lambda c: c.facts > 0),
        "short": _on_wrong(0.1, lambda c: len(c.text.split()) < 150),
        "repetition": _on_wrong(-0.3, _trigram_thrice),
    },
    "binary": {"correct": _right},
}


def terms(name: str, fact_bonus: float = 0.0) -> dict[str, Reward]:
    """A set's terms by their names, with a bonus for a true fact in a right answer where one is asked for."""
    chosen = SETS[name]
    if not fact_bonus:
        return chosen
    return chosen | {"fact_bonus": lambda c: fact_bonus if c.facts and chosen["correct"](c) else 0.0}


def check(experiment, spec, refuse: Callable) -> None:
    """A bonus for facts is for conditions whose facts can all be read back, and rewards for answers in text."""
    for name in experiment.conditions if spec.fact_bonus else ():
        if not Condition.of(experiment, name).invertible:
            message = f"condition '{name}' writes facts that cannot be read back; set it to 0"
            refuse("fact_bonus", message)
    above = [experiment.stages[name] for name in experiment.line(spec.parent)]
    if _answers_in_programs(above):
        message = f"'{spec.parent}' answers in programs, which rewards do not run, so it would never earn one"
        refuse("from", f"{message}; take a stage that answers in text (answer_format: trace)")


def _answers_in_programs(stages: Sequence) -> bool:
    """Whether the last math that a model was trained on was programs; its stages, the nearest first."""
    for spec in stages:
        for each in reversed(getattr(spec, "phases", None) or [spec]):
            if getattr(each, "task", "tulu") != "tulu":
                return each.task == "tinygsm" and spec.answer_format == "program"
    return False


def total(chosen: dict[str, Reward], completion: Completion) -> float:
    return sum(reward(completion) for reward in chosen.values())
