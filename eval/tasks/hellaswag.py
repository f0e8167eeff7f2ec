"""HellaSwag (Zellers et al. 2019): which of four endings does the model find likeliest?

Texts and scores are lm-evaluation-harness's: context `activity: ctx`, brackets removed; an ending is scored
by its summed log-probability (`acc`), or by that over its length in characters (`acc_norm`). nanoGPT-style
reports divide by the number of tokens instead and call that acc_norm as well; here it is `acc_per_token`, and
vocabularies of different granularity do not compare in it. Nothing is rewritten: context and endings are text
as it stands.
"""

import re
from collections import Counter
from typing import NamedTuple

from eval.decode import generate
from eval.tasks.gsm8k import is_text, question_id
from model import GPT
from pipeline.errors import UserError
from pipeline.rows import load_rows
from tokenizer.encode import Encoder

ENDINGS = 4


class Row(NamedTuple):
    id: str
    context: str
    endings: tuple[str, ...]
    label: int


def load(
    source: str, split: str, *, name: str | None = None, limit: int | None = None
) -> tuple[list[Row], Counter]:
    """(rows, how many were skipped for which reason). Raises UserError where none is left."""
    found: dict[str, Row] = {}
    skipped: Counter = Counter()
    for row in load_rows(source, "hellaswag", split, name=name, limit=limit):
        item = parse(row)
        if item is None:
            skipped["malformed"] += 1
        elif item.id in found:
            skipped["repeated"] += 1
        else:
            found[item.id] = item
    if not found:
        raise UserError(f"{source} ({split}): has no HellaSwag row to score; give another problem set")
    return list(found.values()), skipped


def parse(row: dict) -> Row | None:
    """A data set's row; None if it is malformed."""
    endings, label = row["endings"], str(row["label"])
    if not isinstance(endings, list) or len(endings) != ENDINGS:
        return None
    if label not in {str(i) for i in range(ENDINGS)}:
        return None
    context = row["ctx"]
    if isinstance(row.get("ctx_a"), str) and isinstance(row.get("ctx_b"), str):
        context = f"{row['ctx_a']} {row['ctx_b'].capitalize()}"  # the Hub's rows; the harness writes ctx anew
    if not all(map(is_text, (row["activity_label"], context, *endings))):
        return None
    context = _clean(f"{row['activity_label']}: {context}")
    endings = tuple(map(_clean, endings))
    if not all((context, *endings)):
        return None
    return Row(question_id("\n".join((context, *endings))), context, endings, int(label))


def _clean(text: str) -> str:
    """The harness's `preprocess`: WikiHow's [title], [step] and the like."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def requests(encoder: Encoder, row: Row) -> list[tuple[list[int], list[int]]]:
    """(context ids, ending ids) of each ending; the space between belongs to the ending."""
    context = encoder.encode(row.context.rstrip())
    wholes = [encoder.encode(f"{row.context} {ending}") for ending in row.endings]
    return [(whole[: len(context)], whole[len(context) :]) for whole in wholes]


def score(model: GPT, encoder: Encoder, table: list[Row], batch_size: int) -> list[dict | None]:
    """One outcome a row, with `loglikelihoods` in nats; None where an ending does not fit the context."""
    asked = [request for row in table for request in requests(encoder, row)]
    scores = generate.logprobs(model, asked, batch_size)
    outcomes = []
    for i, row in enumerate(table):
        four = scores[i * ENDINGS : (i + 1) * ENDINGS]
        outcomes.append(None if None in four else _outcome(row, four))
    return outcomes


def _outcome(row: Row, scores: list[list[float]]) -> dict:
    sums = [sum(tokens) for tokens in scores]
    choices = {
        "acc": sums,
        "acc_norm": [total / len(ending) for total, ending in zip(sums, row.endings)],
        "acc_per_token": [total / len(tokens) for total, tokens in zip(sums, scores)],
    }
    picks = {name: max(range(ENDINGS), key=values.__getitem__) for name, values in choices.items()}
    right = {name: pick == row.label for name, pick in picks.items()}
    return {"loglikelihoods": sums, "answer": str(picks["acc_norm"]), **right}
