"""What a benchmark is: the columns of its rows, how a row becomes something to ask, and how a reply is graded.

A row becomes a `Question`, which a model answers in words, zero-shot and through the chat template, or a
`MultipleChoice`, of whose endings it has to find the right one likeliest. Training, rewards and evaluation all read
rows here, so they cannot drift apart. Questions are never rewritten: every condition reads the same ids.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline.conversation import conversation
from pipeline.errors import UserError
from pipeline.formats import Format, described
from pipeline.rows import load_rows, split_dev
from tokenizer import chat
from tokenizer.encode import Encoder


def item_id(text: str) -> str:
    """64 bits of SHA-256, in hexadecimal: of what is asked alone, so it is the same in every experiment."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Question(NamedTuple):
    question: str
    gold: str  # the right answer, as `grade` compares it
    grade: Callable[[str, str], dict]  # (rendered completion, gold) → {answer, correct, …}
    solution: str | None = None  # the reference, as a model would write it; None where there is none
    columns: dict = {}  # what else outcomes keep of it

    @property
    def id(self) -> str:
        return item_id(self.question)

    def prompt(self, encoder: Encoder) -> list[int]:
        return chat.prompt_ids(encoder, conversation(self.question))

    def fits(self, encoders: list[Encoder], context: int, answer: int = 1) -> bool:
        """True if each of the encoders leaves room for an answer of so many tokens."""
        return all(len(self.prompt(encoder)) + answer <= context for encoder in encoders)


class MultipleChoice(NamedTuple):
    """Texts and scores are lm-evaluation-harness's: an ending is scored by its summed log-probability (`acc`), or
    by that over its length in characters (`acc_norm`). nanoGPT-style reports divide by the number of tokens
    instead and call that acc_norm as well; here it is `acc_per_token`, and vocabularies of different
    granularity do not compare in it. Nothing is rewritten.
    """

    context: str
    endings: tuple[str, ...]
    label: int  # the right ending's
    columns: dict = {}

    @property
    def id(self) -> str:
        return item_id("\n".join((self.context, *self.endings)))

    def requests(self, encoder: Encoder) -> list[tuple[list[int], list[int]]]:
        """(context ids, ending ids) of each ending; the space between belongs to the ending."""
        context = encoder.encode(self.context.rstrip())
        wholes = [encoder.encode(f"{self.context} {ending}") for ending in self.endings]
        return [(whole[: len(context)], whole[len(context) :]) for whole in wholes]

    def fits(self, encoders: list[Encoder], context: int) -> bool:
        """True if every ending fits, in each of the encoders."""
        requests = [request for encoder in encoders for request in self.requests(encoder)]
        return all(len(before) + len(ending) <= context for before, ending in requests)

    def grade(self, scores: list[list[float]]) -> dict:
        """What the log-probabilities (nats) of each ending's tokens choose."""
        sums = [sum(tokens) for tokens in scores]
        values = {
            "acc": sums,
            "acc_norm": [total / len(ending) for total, ending in zip(sums, self.endings)],
            "acc_per_token": [total / len(tokens) for total, tokens in zip(sums, scores)],
        }
        picks = {name: max(range(len(sums)), key=each.__getitem__) for name, each in values.items()}
        right = {name: pick == self.label for name, pick in picks.items()}
        return {"loglikelihoods": sums, "answer": str(picks["acc_norm"]), **right}


class Task(NamedTuple):
    format: Format
    size: int  # rows of the whole test split, for `plan`
    read: Callable[[dict], Question | MultipleChoice | str]  # a row as what is asked, or why it is skipped
    in_words: bool = True  # it gives Questions


def load(
    task: Task, source: str, split: str, *, name: str | None = None, limit: int | None = None
) -> tuple[list, Counter]:
    """(what is asked, how many of the first `limit` rows were skipped for which reason).

    Split "dev" is the part of the training rows that training may watch. Raises UserError where none is left.
    """
    skipped: Counter = Counter()
    if split == "dev":
        rows = split_dev(load_rows(source, task.format, "train", name=name, skipped=skipped))[1][:limit]
    else:
        rows = load_rows(source, task.format, split, name=name, limit=limit, skipped=skipped)
    items, more = read(task, rows)
    skipped += more
    if not items:
        raise UserError(f"{source} ({split}): has no problem to ask: {described(skipped)}; give another set")
    return items, skipped


def read(task: Task, rows: Iterable[dict]) -> tuple[list, Counter]:
    """Rows as what is asked, each once; and how many were skipped for which reason."""
    items: dict[str, Question | MultipleChoice] = {}
    skipped: Counter = Counter()
    for row in rows:
        item = task.read(row)
        if isinstance(item, str):
            skipped[item] += 1
        elif item.id in items:
            skipped["repeated"] += 1
        else:
            items[item.id] = item
    return list(items.values()), skipped
