"""Sampled answers beside the greedy one: drawn, graded and scored, a row each; what they are worth is worked out in
eval/verdict/sampled.py.

What is drawn is decided by the arm's seed, the problem and the sample's index alone (eval.decode.generate), so neither
batches nor other problems nor further samples change it. All is read and graded as greedy answers are, programs too.
Problem sets that are answered in words are sampled; probes are not.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eval.decode.generate import generate
from eval.grading.answers import value
from eval.grading.programs import run_programs
from eval.rerank import Reranker
from eval.tasks.task import Question
from eval.verdict.sampled import FILE, SCHEMA
from model import GPT
from pipeline.sections import Eval
from tokenizer.encode import Encoder


def key(seed: int, question: Question) -> int:
    """What the samples of a problem are drawn by: 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed} {question.id}".encode()).digest()[:8], "big")


def draw(
    model: GPT,
    encoder: Encoder,
    asked: list[tuple[str, Question]],
    spec: Eval,
    seed: int,
    reranker: Reranker | None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[dict], dict | None]:
    """(`spec.samples` rows a question, the sandbox that programs ran in); `asked` are questions with their sets."""
    prompts = [question.prompt(encoder) for _, question in asked]
    replies = generate(
        model,
        prompts,
        spec.max_new_tokens,
        eos=encoder.eos,
        suppress=encoder.suppressed,
        temperature=spec.temperature,
        samples=spec.samples,
        batch_size=spec.batch_size * spec.samples,
        keys=[key(seed, question) for _, question in asked],
        progress=progress,
    )
    groups = [group if spec.samples > 1 else [group] for group in replies]
    different: dict[
        tuple, dict
    ] = {}  # (problem, ids) → what was read: many samples of a problem are the same
    rows = []
    for i, ((name, question), group) in enumerate(zip(asked, groups)):
        for n, ids in enumerate(group):
            if (place := (i, *ids)) not in different:
                different[place] = _graded(encoder, question, ids, spec.max_new_tokens)
            rows.append((place, {"set": name, "id": question.id, "sample": n}))
    sandbox = run_programs(list(different.values()))
    if reranker:
        scores = reranker.scores([prompts[i] for i, *_ in different], [ids for _, *ids in different])
        for row, score in zip(different.values(), scores):
            row["score"] = score
    kept = [own | {k: v for k, v in different[place].items() if k in SCHEMA.names} for place, own in rows]
    for start in range(0, len(kept), spec.samples):
        _vote(kept[start : start + spec.samples])
    return kept, sandbox


def _graded(encoder: Encoder, question: Question, ids: list[int], max_new_tokens: int) -> dict:
    completion, ended = encoder.render(ids), ids[-1] == encoder.eos
    row = {"gold": question.gold, "tokens": ids, "completion": completion, "score": None}
    row |= {"ended": ended, "cut": not ended and len(ids) < max_new_tokens}
    return row | question.grade(completion, question.gold)


def _vote(rows: list[dict]) -> None:
    """Give the samples of one problem the index of the first with the same value."""
    first: dict = {}
    for n, row in enumerate(rows):
        number = None if row["answer"] is None else value(row["answer"])
        row["vote"] = -1 if number is None else first.setdefault(number, n)


def write(directory: Path, rows: list[dict]) -> list[str]:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), directory / FILE)
    return [FILE]
