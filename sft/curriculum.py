"""What a stage trains on, as parts in order: a curriculum's phases, or a stage's one task.

Parts are never shuffled into one another: the last row of one comes before the first of the next. One
learning-rate schedule runs over all of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import NamedTuple

from eval import dev
from eval.tasks.task import Question
from pipeline.formats import Format
from pipeline.rows import load_rows, training_rows
from pipeline.sections import Sft
from pipeline.stage import Run
from sft import gsm8k, tinygsm, tulu
from tokenizer.encode import Encoder

# Rows → each one's conversation, or why it is dropped: many at a time, because programs share a sandbox's workers.
Conversations = Callable[[Sequence[dict], Sft, ModuleType], Iterable[list[dict] | str]]


def row_by_row(messages: Callable[[dict, Sft, ModuleType], list[dict] | str]) -> Conversations:
    return lambda rows, spec, vocabulary: (messages(row, spec, vocabulary) for row in rows)


TASKS: dict[str, Conversations] = {
    "drills": row_by_row(gsm8k.messages),
    "gsm8k": row_by_row(gsm8k.messages),
    "tinygsm": tinygsm.conversations,
    "tulu": row_by_row(tulu.messages),
}
FORMATS: dict[str, Format] = {
    "drills": gsm8k.DRILLS,
    "gsm8k": gsm8k.FORMAT,
    "tinygsm": tinygsm.FORMAT,
    "tulu": tulu.FORMAT,
}


class Part(NamedTuple):
    task: str  # of TASKS and FORMATS
    data: str
    name: str | None
    budget: str  # examples, tokens or flops
    amount: float


def parts(spec: Sft) -> list[Part]:
    """The parts of a stage in the order of training."""
    if spec.phases is not None:
        return [Part(phase.task, phase.data, phase.name, "examples", phase.examples) for phase in spec.phases]
    budget = next(key for key in ("examples", "tokens", "flops") if getattr(spec, key) is not None)
    return [Part(spec.task, spec.data, spec.name, budget, getattr(spec, budget))]


def load(part: Part, skipped: Counter, corpus: int) -> list[dict]:
    """The training rows of a part, without GSM8K's dev rows, by which training is watched.

    `skipped` counts those that cannot be used, by reason.
    """
    form = FORMATS[part.task]
    if part.task == "gsm8k":
        return training_rows(part.data, form, name=part.name, corpus=corpus, skipped=skipped)
    return list(load_rows(part.data, form, "train", name=part.name, seed=corpus, skipped=skipped))


def dev_problems(run: Run, encoder: Encoder) -> list[Question]:
    """What a stage looks at: the dev rows of `dev`, or of its own GSM8K rows, answered as training writes answers."""
    spec = run.spec
    own = {part.task: (part.data, part.name) for part in reversed(parts(spec))}
    source, name = (spec.dev, spec.dev_name) if spec.dev else own["gsm8k"]

    def answer(row: dict) -> str | None:
        messages = gsm8k.messages(row, spec, encoder.condition.facts)
        return None if isinstance(messages, str) else messages[-1]["content"]

    return dev.load(run, encoder, spec.max_length, source, name, answer)
