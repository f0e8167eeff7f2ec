"""python -m sft.tinygsm tinygsm_family/train.parquet multiplication

TinyGSM's rows, a question and a Python function that answers it, as conversations.

`answer_format: trace` writes what the program computes as plain text, worked through the vocabulary's facts
(sft.trace), the same text for every condition; `program` the program itself, without the docstring that
repeats the question. A row whose program gives no finite number, or whose trace cannot be written, is dropped
for that reason.

The command reports on the training rows of a source, as JSON: coverage, reasons, facts, speed.
"""

import ast
import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import ModuleType

from eval.programs import interpreter
from pipeline.conversation import conversation
from pipeline.errors import UserError, cli
from pipeline.formats import Format, text
from pipeline.rows import load_rows
from pipeline.sample.named import nameless
from pipeline.sample.problems import word_problems
from pipeline.sections import Sft
from sft import trace


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return word_problems(split, n, 3 * seed + 1)  # other problems than gsm8k's


FORMAT = Format("tinygsm", {"question": text, "code": text}, generate)


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


def main(argv: list[str] | None = None) -> None:
    """What becomes of a source's programs, as JSON."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 2:
        raise UserError("usage: python -m sft.tinygsm SOURCE VOCABULARY")
    vocabulary = importlib.import_module(f"tokenizer.vocabularies.{argv[1]}")
    codes = [row["code"] for row in load_rows(argv[0], FORMAT, "train")]
    started = time.perf_counter()
    traces = list(trace.convert(codes, vocabulary.work))
    seconds = time.perf_counter() - started
    facts = [len(vocabulary.find(each.text)) for each in traces if isinstance(each, trace.Trace)]
    print(
        json.dumps(
            {
                "rows": len(traces),
                "converted": len(facts),
                "share": len(facts) / len(traces),
                "reasons": dict(
                    Counter(reason for reason in traces if isinstance(reason, str)).most_common()
                ),
                "facts_per_trace": sum(facts) / max(len(facts), 1),
                "share_with_facts": sum(map(bool, facts)) / max(len(facts), 1),
                "rows_per_second": len(traces) / seconds,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    cli(main)
