"""TinyGSM's rows, a question and a Python function that answers it, as conversations.

`answer_format: trace` writes what the program computes as plain text, worked through the vocabulary's facts
(sft.trace), the same text for every condition; `program` the program itself, without the docstring that
repeats the question. A row whose program gives no finite number, or whose trace cannot be written, is dropped
for that reason.
"""

import ast
from types import ModuleType

from eval.programs import interpreter
from pipeline.conversation import conversation
from pipeline.sections import Sft
from sft import trace


def messages(row: dict, spec: Sft, vocabulary: ModuleType) -> list[dict[str, str]] | str:
    """The row's question and answer, or why it is dropped."""
    question, code = row["question"] or "", row["code"] or ""
    if not question.strip():
        return "an empty question"
    if spec.answer_format == "trace":
        found = trace.steps(code, vocabulary.work)
        return found if isinstance(found, str) else conversation(question, found.text)
    outcome = interpreter.run(code)
    if outcome.value is None:
        return "not a number" if outcome.status == "ok" else outcome.status
    return conversation(question, without_docstring(code))


def without_docstring(code: str) -> str:
    """A program without the lines that hold nothing but its functions' docstrings."""
    lines: list[str | None] = list(code.split("\n"))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            said, *rest = node.body
            if rest and node.lineno < said.lineno and said.end_lineno < rest[0].lineno:
                lines[said.lineno - 1 : said.end_lineno] = [None] * (said.end_lineno - said.lineno + 1)
    return "\n".join(line for line in lines if line is not None)
