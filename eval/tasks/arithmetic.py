"""Direct arithmetic, by a grid of operations, lengths and carries: see pipeline/sample/arithmetic.py.

One's own rows may be asked too: a question and an answer, with or without the columns of a CELL. A reply is read
as a probe's is: its answer is the last number of its first paragraph. Beside whether it is right, outcomes keep how near
it comes, after the digit match and dlength of NUPA (Yang et al. 2024, arXiv:2411.03766).
"""

import itertools
import re
from collections.abc import Iterator

from eval.tasks import gsm8k, probes
from eval.tasks.task import Question, Task
from pipeline.sample.named import answered

CELL = {"op": str, "digits_a": int, "digits_b": int, "carries": int, "seen": bool}  # columns of the outcomes


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    return answered(name or "arithmetic", split, n, seed)


def grade(completion: str, gold: str) -> dict:
    """{answer, correct, digit_match, length_off} of a reply."""
    graded = probes.grade(completion, gold)
    return graded | nearness(gold if graded["correct"] else graded["answer"], gold)  # 3.40 is 3.4


def nearness(answer: str | None, gold: str) -> dict:
    """The share of the longer number's digits that agree, aligned at the point, and by how many the lengths differ.

    A sign that is wrong or an answer that is missing matches nothing.
    """
    (sign, whole, decimals), (own_sign, own_whole, own_decimals) = map(_parts, (gold, answer or ""))
    ahead = list(itertools.zip_longest(reversed(whole), reversed(own_whole)))
    behind = list(itertools.zip_longest(decimals, own_decimals))
    agree = sum(a == b for a, b in ahead + behind) if sign == own_sign else 0
    length_off = abs(len(whole) + len(decimals) - len(own_whole) - len(own_decimals))
    return {"digit_match": agree / len(ahead + behind), "length_off": length_off}


def _parts(number: str) -> tuple[str, str, str]:
    """(sign, digits before the point, digits behind it)"""
    sign, digits = re.fullmatch(r"([-−]?)(.*)", number.replace(",", "").replace("$", ""), re.DOTALL).groups()
    whole, _, decimals = digits.strip(".").partition(".")
    return sign, whole, decimals


def read(row: dict) -> Question | str:
    question = gsm8k.read(row)
    if isinstance(question, str):
        return question
    cell = {key: row.get(key) if type(row.get(key)) is kind else None for key, kind in CELL.items()}
    return question._replace(grade=grade, columns=cell)


TASK = Task(gsm8k.FORMAT._replace(name="arithmetic", generate=generate), 1000, read)
