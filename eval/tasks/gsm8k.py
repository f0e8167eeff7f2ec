"""GSM8K and all of its shape (SVAMP, generated word problems): load, prompt, gold and grade in one place.

Training, rewards and evaluation all import this file, so they cannot drift apart. Problems are asked
zero-shot, through the chat template; the graded text is always rendered.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from eval.grading import answers
from eval.programs.interpreter import Outcome
from pipeline.conversation import conversation
from pipeline.errors import UserError
from pipeline.rows import load_rows, split_dev
from tokenizer import chat
from tokenizer.encode import Encoder


class Problem(NamedTuple):
    id: str  # of the question alone: equal in every experiment
    question: str
    solution: str  # the row's answer as it stands
    gold: str  # its final number, canonical
    seen: bool | None  # whether training knows the problem's template; None where the data does not say


def load(
    source: str, split: str, *, kind: str = "gsm8k", name: str | None = None, limit: int | None = None
) -> tuple[list[Problem], Counter]:
    """(problems, how many rows were skipped for which reason); `kind` is gsm8k or svamp, as in `data.rows`.

    Split "dev" is the part of the training rows that training may watch. Raises UserError where none is left.
    """
    if split == "dev":
        table = split_dev(load_rows(source, kind, "train", name=name))[1][:limit]
    else:
        table = load_rows(source, kind, split, name=name, limit=limit)
    found, skipped = problems(table)
    if not found:
        said = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "it is empty"
        raise UserError(f"{source} ({split}): has no problem to ask: {said}; give another problem set")
    return found, skipped


def problems(table: Iterable[dict]) -> tuple[list[Problem], Counter]:
    """Rows with `question` and `answer` as problems; malformed and repeated ones are skipped and counted."""
    found: dict[str, Problem] = {}
    skipped: Counter = Counter()
    for row in table:
        question, solution = row.get("question"), row.get("answer")
        number = gold(solution) if isinstance(solution, str) else None
        if not is_text(question) or number is None:
            skipped["malformed"] += 1
        elif (key := question_id(question)) in found:
            skipped["repeated"] += 1
        else:
            seen = row.get("seen")  # a column of that name may mean something else
            found[key] = Problem(key, question, solution, number, seen if isinstance(seen, bool) else None)
    return list(found.values()), skipped


def is_text(value: object) -> bool:
    """Whether it is a text that says something and can be written down: JSON allows half a character."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def question_id(question: str) -> str:
    """64 bits of SHA-256, in hexadecimal."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def gold(solution: str) -> str | None:
    """The final number of a solution, or of a bare number as SVAMP has them; None if it cannot be read."""
    return answers.answer(solution if "####" in solution else f"#### {solution}")


def prompt(encoder: Encoder, question: str) -> list[int]:
    return chat.prompt_ids(encoder, conversation(question))


def grade(completion: str, gold: str) -> dict:
    """{answer, correct} by our reading, {strict, flexible} whether the harness's readings give gold too."""
    answer = answers.answer(completion)
    return {
        "answer": answer,
        "correct": answers.same(answer, gold),
        "strict": answers.same(answers.strict(completion), gold),
        "flexible": answers.same(answers.flexible(completion), gold),
    }


def is_program(completion: str) -> bool:
    """Whether a reply answers with a program (`answer_format: program`), to be scored by running it."""
    return "####" not in completion and re.search(r"^ ?def \w+\(", completion, re.M) is not None


def grade_program(outcome: Outcome, gold: str) -> dict:
    """What `grade` gives, for a program that has been run. Floats count to 6 decimals: 0.1 + 0.2 answers 0.3."""
    value = round(outcome.value, 6) if isinstance(outcome.value, float) else outcome.value
    answer = None if outcome.status != "ok" or value is None else answers.answer(f"#### {value}")
    return {"answer": answer, "correct": answers.same(answer, gold), "strict": False, "flexible": False}
