"""Rows with a question and a written solution (GSM8K, GSM8K-Aug, drills) as conversations.

GSM8K-Aug keeps the working apart from a bare answer, as a list `steps` or a string `cot`; here they are put
together.

GSM8K's solutions hold calculator annotations, `6*9=<<6*9=54>>54`. `annotations: keep` leaves them: two thirds
of the facts that stand alone in GSM8K's text are inside them. `annotations: strip` takes them out, as most
reports do.
"""

import re
from collections.abc import Iterator
from types import ModuleType

from eval.tasks.gsm8k import FORMAT, gold
from pipeline.conversation import conversation
from pipeline.sample.named import nameless
from pipeline.sample.worked import drills
from pipeline.sections import Sft

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")


def generate_drills(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return drills(n, seed)


DRILLS = FORMAT._replace(name="drills", generate=generate_drills)


def messages(row: dict, spec: Sft, vocabulary: ModuleType) -> list[dict[str, str]] | str:
    """The row's question and solution, or why it is dropped."""
    question, answer = row["question"] or "", row["answer"] or ""
    if not question.strip():
        return "an empty question"
    if working := row.get("steps") or row.get("cot"):
        lines = working if isinstance(working, list) else [working]
        if not all(isinstance(line, str) for line in lines):
            return "a working that is not text"
        answer = "\n".join([*lines, f"#### {answer}"])
    if "####" not in answer or gold(answer) is None:
        return "no final number behind ####"
    if spec.annotations == "strip":
        answer = _ANNOTATION.sub("", answer)
    return conversation(question, answer)
