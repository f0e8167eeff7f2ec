"""Bare arithmetic: does the model know the facts at all?

The vocabulary says which products (for `multiplication` the 81 of the table and 100 of two digits by one);
100 additions, which no vocabulary helps with, are the control.

How a model is asked, and how it is read, is the same for every condition and after every stage:

- the question is `What is 6 * 9?`, through the chat template. It is a question, so it is never rewritten:
  every condition reads the same ids. (A bare `6 * 9 =` would be unfair: a condition that writes facts as
  tokens never meets it.) A model that was only pretrained has not met the template, in any condition.
- the answer is the last number of the first paragraph of the rendered reply, cut at a further `User:`, so
  that a model that does not stop is not judged by what it rambles on about. `54`, `6 * 9 = 54`,
  `The answer is 54.` and a working that ends in `#### 54` are all right, however many tokens wrote them.
"""

import itertools
import re
from functools import cache
from types import ModuleType

from eval.grading import answers, errors
from eval.tasks.task import Question
from pipeline.errors import UserError
from tokenizer import vocabulary
from tokenizer.conditions import Condition

ADDITIONS = 100


def probes(condition: Condition) -> dict[str, list[tuple[str, str]]]:
    """(expression, value) by kind: the vocabulary's own, and `addition`."""
    return {**condition.facts.probes(), "addition": additions()}


def check(name: str) -> None:
    """Raises UserError, one line, unless a vocabulary keeps its contract and its probes and working are true."""
    vocabulary.check(name)
    check_truth(vocabulary.load(name), f"tokenizer/vocabularies/{name}.py")


@cache
def check_truth(facts: ModuleType, file: str) -> None:
    """Raises UserError, one line, unless what a vocabulary asks and works out is true."""
    for kind, pairs in facts.probes().items():
        if kind == "addition":
            raise UserError(f"{file}: probes(): '{kind}' is the name of the built-in kind; choose another")
        for expression, value in pairs:
            exact = errors.evaluate(expression)
            if not grade(value, value)["correct"]:
                raise UserError(
                    f"{file}: probes(): the value '{value}' of '{expression}' is not read as a number"
                )
            if exact is not None and not answers.same(value, str(exact)):
                raise UserError(f"{file}: probes(): '{expression} = {value}' is false: it is {exact}")
    for a, op, b in itertools.product((2, 7, 12, 47, 605), "+-*", (3, 8, 13, 86)):
        for step in facts.work(a, op, b) or ():
            if not all(map(errors.is_true, errors.equations(step))):
                raise UserError(f"{file}: work({a}, '{op}', {b}): the step '{step}' is false")


def additions() -> list[tuple[str, str]]:
    """ADDITIONS different sums of two numbers from 2 to 99, always the same ones, spread evenly."""
    pairs = [(a, b) for a in range(2, 100) for b in range(2, 100)]
    step = 5939  # 98² over the golden ratio
    return [(f"{a} + {b}", str(a + b)) for a, b in (pairs[i * step % len(pairs)] for i in range(ADDITIONS))]


def questions(condition: Condition) -> dict[str, list[Question]]:
    """The same as questions."""
    kinds = probes(condition).items()
    return {kind: [Question(question(e), value, grade) for e, value in pairs] for kind, pairs in kinds}


def question(expression: str) -> str:
    return f"What is {expression}?"


def read(completion: str) -> str | None:
    """The answer to a probe, as it is written; None where there is no number."""
    return answers.flexible(re.split(r"\n\s*\n|\n*User:", completion.strip(), maxsplit=1)[0])


def grade(completion: str, gold: str) -> dict:
    """{answer, correct}"""
    answer = read(completion)
    return {"answer": answer, "correct": answers.same(answer, gold)}
