"""python -m sft.tinygsm tinygsm_family/train.parquet multiplication

TinyGSM's rows, a question and a Python function that answers it, as conversations.

`answer_format: trace` writes what the program computes as plain text, worked through the vocabulary's facts
(sft.trace), the same text for every condition; `program` the program itself, without the docstring that
repeats the question. The programs are strangers': they run in a sandbox, and one that its worker does not
survive is dropped like a row whose program gives no finite number, or whose trace cannot be written: for that
reason.

The command reports on the training rows of a source, as JSON: coverage, reasons, facts in traces and in the programs
that they are of, speed.
"""

import ast
import atexit
import functools
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import ModuleType

from eval.programs.interpreter import Outcome
from eval.programs.sandbox import Sandbox
from pipeline.conversation import conversation
from pipeline.errors import UserError, cli
from pipeline.formats import Format, text
from pipeline.rows import load_rows
from pipeline.sample.named import nameless
from pipeline.sample.problems import word_problems
from pipeline.sections import Sft
from sft import trace
from sft.trace import Trace

Conversation = list[dict[str, str]]


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return word_problems(split, n, 3 * seed + 1)  # other problems than gsm8k's


FORMAT = Format("tinygsm", {"question": text, "code": text}, generate)


def conversations(rows: Sequence[dict], spec: Sft, vocabulary: ModuleType) -> Iterator[Conversation | str]:
    """Each row's question and answer, or why it is dropped."""
    codes = [row["code"] or "" for row in rows]
    if spec.answer_format == "trace":
        answers = map(worked, trace.in_sandbox(sandbox(os.getpid(), vocabulary.__name__), codes))
    else:
        answers = map(written, codes, sandbox(os.getpid(), None).run(codes))
    for row, (answer, reason) in zip(rows, answers):
        question = row["question"] or ""
        if not question.strip():
            yield "an empty question"
        else:
            yield reason or conversation(question, answer)


@functools.cache
def sandbox(process: int, vocabulary: str | None) -> Sandbox:
    """One for each process: a fork may not use its parent's."""
    box = Sandbox(together=trace.CHUNK) if vocabulary is None else trace.sandbox(vocabulary)
    atexit.register(box.close)
    return box


def worked(result: Trace | str) -> tuple[str, str | None]:
    return ("", result) if isinstance(result, str) else (result.text, None)


def written(code: str, outcome: Outcome) -> tuple[str, str | None]:
    if outcome.value is None:
        return "", "not a number" if outcome.status == "ok" else outcome.status
    return without_docstring(code), None


def without_docstring(code: str) -> str:
    """A program without the lines that hold nothing but its functions' docstrings."""
    lines: list[str | None] = list(code.split("\n"))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            docstring, *rest = node.body
            first, last = docstring.lineno, docstring.end_lineno
            if rest and node.lineno < first and last < rest[0].lineno:
                lines[first - 1 : last] = [None] * (last - first + 1)
    return "\n".join(line for line in lines if line is not None)


def main(argv: list[str] | None = None) -> None:
    """What becomes of a source's programs, as JSON."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 2:
        raise UserError("usage: python -m sft.tinygsm SOURCE VOCABULARY")
    vocabulary = importlib.import_module(f"tokenizer.vocabularies.{argv[1]}")
    codes = [row["code"] for row in load_rows(argv[0], FORMAT, "train")]
    started = time.perf_counter()
    traces = list(trace.convert(codes, vocabulary.__name__))
    seconds = time.perf_counter() - started
    facts = [len(vocabulary.find(result.text)) for result in traces if isinstance(result, Trace)]
    reasons = Counter(result for result in traces if isinstance(result, str))
    programs = [without_docstring(code) for code, result in zip(codes, traces) if isinstance(result, Trace)]
    in_programs = [len(vocabulary.find(program)) for program in programs]
    report = {
        "rows": len(traces),
        "converted": len(facts),
        "share": len(facts) / len(traces),
        "reasons": dict(reasons.most_common()),
        "facts_per_trace": sum(facts) / max(len(facts), 1),
        "share_with_facts": sum(map(bool, facts)) / max(len(facts), 1),
        "facts_in_programs": sum(in_programs),
        "programs_with_facts": sum(map(bool, in_programs)),
        "rows_per_second": len(traces) / seconds,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    cli(main)
