"""HellaSwag (Zellers et al. 2019): which of four endings follows?

Texts are lm-evaluation-harness's: context `activity: ctx`, brackets removed.
"""

import re
from collections.abc import Iterator

from eval.tasks.task import MultipleChoice, Task
from pipeline.formats import Format, anything, text, texts
from pipeline.sample import documents
from pipeline.sample.named import nameless

ENDINGS = 4


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return documents.hellaswag(split, n, seed)


COLUMNS = {"activity_label": text, "ctx": text, "endings": texts, "label": anything}
FORMAT = Format("hellaswag", COLUMNS, generate, held_apart="validation")


def read(row: dict) -> MultipleChoice | str:
    label = str(row["label"])
    if len(row["endings"]) != ENDINGS:
        return f"'endings' are not {ENDINGS}"
    if label not in {str(i) for i in range(ENDINGS)}:
        return f"'label' is not one of 0 to {ENDINGS - 1}"
    context = row["ctx"]
    if isinstance(row.get("ctx_a"), str) and isinstance(row.get("ctx_b"), str):
        context = f"{row['ctx_a']} {row['ctx_b'].capitalize()}"  # the Hub's rows; the harness writes ctx anew
    context = _clean(f"{row['activity_label']}: {context}")
    endings = tuple(map(_clean, row["endings"]))
    if not all((context, *endings)):
        return "nothing is left of a text without its brackets"
    return MultipleChoice(context, endings, int(label))


TASK = Task(FORMAT, 10042, read, in_words=False)


def _clean(text: str) -> str:
    """The harness's `preprocess`: WikiHow's [title], [step] and the like."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
