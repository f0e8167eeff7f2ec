"""Worked answers and drills: a world of products, for a study of what fact tokens do to them."""

import itertools
import random
import re
import zlib
from collections.abc import Iterator

from pipeline.sample.problems import is_held_apart, make_problem, solution
from pipeline.sample.templates import HELD_OUT_TEMPLATES, SEEN_TEMPLATES
from pipeline.sample.workings import OPERATIONS, between, pick, schoolbook, working


def _exercise(rng: random.Random) -> tuple[int, str, int]:
    """One operation: half table products, a fifth two digits times one, a fifth sums, the rest / and -."""
    chance = rng.random()
    if chance < 0.5:
        return between(rng, 1, 9), "*", between(rng, 1, 9)
    if chance < 0.7:
        pair = between(rng, 11, 99), between(rng, 2, 9)
        return (pair[0], "*", pair[1]) if rng.random() < 0.75 else (pair[1], "*", pair[0])
    if chance < 0.9:
        return between(rng, 2, 99), "+", between(rng, 2, pick(rng, (9, 99)))
    a, b = between(rng, 2, 9), between(rng, 2, 9)
    return (a * b, "/", b) if chance < 0.95 else (a * b + b, "-", b)


def drills(n: int, seed: int, *, all_products: bool = True) -> Iterator[dict]:
    """`n` bare expressions: {question, answer}, the answer with its working and `#### value`.

    Without `all_products`, those that `worked` keeps for its test are left out.
    """
    rng = random.Random(f"drills {seed}")
    exercises = (_exercise(rng) for _ in itertools.count())
    if not all_products:
        exercises = (
            each for each in exercises if not (each[1] == "*" and _product_for_test(each[0], each[2]))
        )
    for a, operator, b in itertools.islice(exercises, n):
        answer = "\n".join(working(a, operator, b))
        yield {
            "question": f"What is {a} {operator} {b}?",
            "answer": f"{answer}\n#### {OPERATIONS[operator](a, b)}",
        }


WORKED_PRODUCTS = 0.6  # share of products among worked answers


_WORKED_SEEN, _WORKED_HELD_OUT = (
    tuple(template for template in templates if len(template.steps) < 4)
    for templates in (SEEN_TEMPLATES, HELD_OUT_TEMPLATES)
)


WORKED_FACTORS = ((2, 9), (11, 99), (11, 99), (101, 999), (101, 999), (101, 999))  # of the other factor


def worked(split: str, n: int, seed: int, signs: float = 1.0) -> Iterator[dict]:
    """`n` problems of "train" or "test", each with its worked answer: {question, answer, template, seen}.

    Six in ten are products: of the table (in "train" alone), of two digits by one, and most of three digits
    by one; the rest are word problems of one to three steps. One product in five is kept for "test" and is
    worked nowhere in "train", in word problems neither; in "test" no question comes twice; of its word problems a fifth have templates that training does not know. Negative
    `n`: without end. `signs` is the share of products that answers write as `6 * 9 = 54`; the others are "6
    times 9 is 54", which no vocabulary finds: the same problems and workings with fewer facts.
    """
    test = is_held_apart(split, "test")
    rng, spelling = random.Random(f"worked {split} {seed}"), random.Random(f"spelling {split} {seed}")
    asked = set()
    while n:
        row = (_worked_product if rng.random() < WORKED_PRODUCTS else _worked_problem)(rng, test)
        if not (test and row["question"] in asked):
            asked.add(row["question"])
            n -= 1
            yield row if signs == 1 else row | {"answer": _in_words(row["answer"], 1 - signs, spelling)}


def _in_words(answer: str, share: float, rng: random.Random) -> str:
    """An answer with a share of its products in words."""

    def write(match: re.Match) -> str:
        return "{} times {} is ".format(*match.groups()) if rng.random() < share else match[0]

    return re.sub(r"(\d+) \* (\d+) = ", write, answer)


def _product_for_test(a: int, b: int) -> bool:
    """Whether a product, in either order, is kept for the test: one in five of those beyond the table."""
    low, high = sorted((a, b))
    return high > 9 and zlib.crc32(f"{high} * {low}".encode()) % 5 == 0


def _worked_product(rng: random.Random, test: bool) -> dict:
    while True:
        low, high = pick(rng, WORKED_FACTORS)
        a, b = between(rng, low, high), between(rng, 2, 9)
        if not test if high < 10 else _product_for_test(a, b) == test:
            break
    lines = schoolbook(a, b) if a > 9 else working(min(a, b), "*", max(a, b))
    return {
        "question": f"What is {a} * {b}?",
        "answer": "\n".join([*lines, f"#### {a * b}"]),
        "template": f"{len(str(a))} by 1 digits",
        "seen": True,
    }


def _worked_problem(rng: random.Random, test: bool) -> dict:
    templates = _WORKED_HELD_OUT if test and rng.random() < 0.2 else _WORKED_SEEN
    while True:
        problem = make_problem(rng, pick(rng, templates), test)
        products = ((a, b) for step, a, b, _ in problem.equations() if step.operator == "*")
        if test or not any(_product_for_test(a, b) for a, b in products):
            break
    return {
        "question": problem.question,
        "answer": solution(problem),
        "template": problem.template.id,
        "seen": problem.template.seen,
    }
