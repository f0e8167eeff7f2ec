"""Replies that answer with a program (`answer_format: program`) are scored by running it, confined."""

import re

from eval.grading import answers, errors
from eval.programs.interpreter import Outcome
from eval.programs.sandbox import Sandbox


def run_programs(rows: list[dict]) -> dict | None:
    """Grade anew the outcomes whose completion is a program; what confined them, None if there are none."""
    programs = [row for row in rows if "strict" in row and is_program(row["completion"])]
    if not programs:
        return None
    with Sandbox() as sandbox:
        for row, outcome in zip(programs, sandbox.run(row["completion"].strip() for row in programs)):
            row |= grade(outcome, row["gold"])
            row["error"] = errors.classify([], row["answer"], row["correct"])
        return sandbox.in_force


def is_program(completion: str) -> bool:
    return "####" not in completion and re.search(r"^ ?def \w+\(", completion, re.M) is not None


def grade(outcome: Outcome, gold: str) -> dict:
    """What a task's `grade` gives, for a program that has been run. Floats count to 6 decimals: 0.1 + 0.2 is 0.3."""
    value = round(outcome.value, 6) if isinstance(outcome.value, float) else outcome.value
    answer = None if outcome.status != "ok" or value is None else answers.answer(f"#### {value}")
    return {"answer": answer, "correct": answers.same(answer, gold), "strict": False, "flexible": False}
