"""Direct arithmetic, by a grid of operations, lengths and carries: see pipeline/sample/arithmetic.py.

One's own rows may be asked too: a question and an answer, with or without the columns of a CELL. A reply is read
as a probe's is: its answer is the last number of its first paragraph.
"""

from collections.abc import Iterator

from eval.tasks import gsm8k, probes
from eval.tasks.task import Question, Task
from pipeline.sample.named import answered

CELL = {"op": str, "digits_a": int, "digits_b": int, "carries": int, "seen": bool}  # columns of the outcomes


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    return answered(name or "arithmetic", split, n, seed)


def read(row: dict) -> Question | str:
    question = gsm8k.read(row)
    if isinstance(question, str):
        return question
    cell = {key: row.get(key) if type(row.get(key)) is kind else None for key, kind in CELL.items()}
    return question._replace(grade=probes.grade, columns=cell)


TASK = Task(gsm8k.FORMAT._replace(name="arithmetic", generate=generate), 1000, read)
