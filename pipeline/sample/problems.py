"""Word problems with solutions, steps and programs."""

import random
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pipeline.sample.templates import (
    ASIDES,
    HELD_OUT_TEMPLATES,
    NAMES,
    PRONOUNS,
    SEEN_TEMPLATES,
    THINGS,
    Step,
    Template,
)
from pipeline.sample.workings import OPERATIONS, between, pick, shuffled, working

LARGEST = 300  # of any value in a problem


def people(rng: random.Random) -> dict[str, str]:
    """What fills the slots of a template that are words: two people, two kinds of things, a pronoun."""
    first, second = shuffled(rng, NAMES)[:2]
    things, other = shuffled(rng, THINGS)[:2]
    return {"N": first, "M": second, "things": things, "other": other, **PRONOUNS[NAMES[first]]}


def _solve(template: Template, numbers: dict[str, int]) -> dict[str, int] | None:
    """All values of a problem, or None where one is fractional, below 1 or too large."""
    values = dict(numbers)
    for name, left, operator, right, _ in template.computed + template.steps:
        a, b = (int(x) if x.isdigit() else values[x] for x in (left, right))
        if operator == "/" and a % b:
            return None
        values[name] = OPERATIONS[operator](a, b)
        if not 1 <= values[name] <= LARGEST:
            return None
    return values


def _for_test(template: Template, numbers: dict[str, int]) -> bool:
    """Whether these numbers, in any order, are kept from training in this template (one tuple in five)."""
    return zlib.crc32(f"{template.id} {sorted(numbers.values())}".encode()) % 5 == 0


class Problem(NamedTuple):
    template: Template
    values: dict[str, int]  # of every number and step
    words: dict[str, str]
    question: str

    def equations(self) -> Iterator[tuple[Step, int, int, int]]:
        """(step, left, right, value) of each step."""
        for step in self.template.steps:
            left, right = (int(x) if x.isdigit() else self.values[x] for x in (step.left, step.right))
            yield step, left, right, self.values[step.name]

    @property
    def result(self) -> int:
        return self.values[self.template.steps[-1].name]


def make_problem(rng: random.Random, template: Template, test: bool) -> Problem:
    values = None
    while values is None:
        numbers = {name: between(rng, low, high) for name, (low, high) in template.ranges.items()}
        if not template.seen or _for_test(template, numbers) == test:
            values = _solve(template, numbers)
    words = people(rng)
    question = template.question.format_map(values | words)
    if rng.random() < 0.15:
        body, _, ask = question.rpartition(" How ")
        question = f"{body} {pick(rng, ASIDES).format_map(words | {'k': between(rng, 2, 9)})} How {ask}"
    return Problem(template, values, words, question)


def solution(problem: Problem, annotated: bool = False) -> str:
    """Sentences with equations, larger products worked through, and `#### value`, as GSM8K has them."""
    lines = []
    for step, a, b, value in problem.equations():
        lines += through_facts(a, step.operator, b)
        note = f"<<{a}{step.operator}{b}={value}>>" if annotated else ""
        equation = f"{a} {step.operator} {b} = {note}{value}"
        lines.append(step.sentence.format_map(problem.values | problem.words).replace("#", equation))
    return "\n".join(lines) + f"\n#### {problem.result}"


def steps_of(problem: Problem) -> str:
    """Numbered steps with the names of the program's variables, and `#### value`."""
    lines = []
    for i, (step, a, b, value) in enumerate(problem.equations(), 1):
        a, b = sorted((a, b)) if step.operator == "*" else (a, b)
        head, work = f"{i}. {step.name.replace('_', ' ')} = ", through_facts(a, step.operator, b)
        lines += [f"{head}{a} {step.operator} {b}", *work] if work else []
        lines.append(f"{'' if work else head}{a} {step.operator} {b} = {value}")
    return "\n".join(lines) + f"\n#### {problem.result}"


def through_facts(a: int, operator: str, b: int) -> list[str]:
    lines = working(a, operator, b) if operator == "*" else []
    return [line for line in lines if not line.startswith(f"{a} * {b} =")]


def program_of(problem: Problem) -> str:
    """TinyGSM's form: the numbers of the question, one assignment per step, the result."""
    asked = [name for name in re.findall(r"{(\w+)}", problem.template.question) if name in problem.values]
    given = [f"{name} = {problem.values[name]}" for name in asked]
    steps = [f"{step.name} = {step.left} {step.operator} {step.right}" for step in problem.template.steps]
    result = f"result = {problem.template.steps[-1].name}"
    lines = ['"""', problem.question, '"""', *given, *steps, result, "return result"]
    return "def simple_math_problem() -> int:\n" + "\n".join(f"    {line}" for line in lines)


def word_problems(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` different problems of "train" or "test": {question, code, answer, template, seen}.

    `code` is a TinyGSM program, `answer` a GSM8K solution, a quarter of them with `<<6*9=54>>` annotations.
    In "test" templates that training knows (with other numbers) and held-out ones take turns.
    """
    return map(dict, _word_problems(split, n, seed))


@lru_cache(maxsize=4)  # 10,000 take a second, and a stage that looks at dev rows wants its own twice
def _word_problems(split: str, n: int, seed: int) -> list[dict]:
    test = is_held_apart(split, "test")
    rng = random.Random(f"word_problems {split} {seed}")
    asked: dict[str, dict] = {}  # question → row
    while len(asked) < n:
        templates = HELD_OUT_TEMPLATES if test and len(asked) % 2 else SEEN_TEMPLATES
        problem = make_problem(rng, pick(rng, templates), test)
        if problem.question not in asked:
            asked[problem.question] = {
                "question": problem.question,
                "code": program_of(problem),
                "answer": solution(problem, annotated=rng.random() < 0.25),
                "template": problem.template.id,
                "seen": problem.template.seen,
            }
    return [*asked.values()]


def is_held_apart(split: str, other: str) -> bool:
    if split not in ("train", other):
        raise ValueError(f'split "{split}": there are "train" and "{other}"')
    return split == other
