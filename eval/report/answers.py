"""Real answers for the page: the same problems as every model answered them, with what its tokens say."""

import json
from collections import Counter
from collections.abc import Iterator

from eval import tasks
from eval.verdict.evaluations import SAMPLED
from eval.verdict.results import Study
from tokenizer import encode

EMBEDDED = 4_000_000  # characters of answers in a page, about
PROBLEMS = 2_000  # of one set in a page
SAMPLES = 2_000_000  # characters of samples in a page, about, beside the answers


def replies(study: Study) -> dict:
    """Answers for the page: `sets`, the problems of each, and `blocks`, a model's answers to one, aligned.

    Whole blocks are taken until the page is full, those of the verdict first; `message` tells how much there is.
    """
    sets, blocks, size, offered, size_of_samples, sampled = {}, [], 0, 0, 0, 0
    encoders = {name: encode.for_run(study.experiment, name) for name in study.experiment.conditions}
    for name, set_name, seed in _wanted(study):
        arms = [arm for arm in study.arms if arm.seed == seed and set_name in arm.items.get(name, ())]
        offered += len(arms)
        kept = [arm for arm in arms if (name, set_name) in arm.texts]
        for arm in kept if size < EMBEDDED else ():
            items, rows = arm.items[name][set_name], arm.texts[name, set_name].slice(0, PROBLEMS).to_pylist()
            sets.setdefault(set_name, [[row["question"], gold] for row, gold in zip(rows, items.golds)])
            answers = [
                _answer(encoders[arm.condition], row, right)
                for row, right in zip(rows, items.correct.tolist())
            ]
            size += len(json.dumps(answers))
            if (name, set_name) in arm.drawn and size_of_samples < SAMPLES:
                each = arm.drawn[name, set_name].to_pylist()
                n = len(each) // min(SAMPLED, len(items.ids))
                groups = (each[i : i + n] for i in range(0, len(each), n))
                drawn = [_samples(encoders[arm.condition], group) for group in groups]
                answers = [[*answer, samples] for answer, samples in zip(answers, drawn)] + answers[
                    len(drawn) :
                ]
                size_of_samples += len(json.dumps(drawn))
                sampled += 1
            blocks.append(
                {"stage": name, "set": set_name, "seed": seed, "condition": arm.condition, "answers": answers}
            )
    whole = {
        key: len(items.ids)
        for arm in study.arms
        for each in arm.items.values()
        for key, items in each.items()
    }
    cut = "".join(
        f", of {key} the first {PROBLEMS:,} of {whole[key]:,}" for key in sets if whole[key] > PROBLEMS
    )
    message = f"{len(blocks)} of {offered} sets of answers are in this page{cut};"
    message += " all are in each evaluation's outcomes.parquet."
    if any(arm.drawn for arm in study.arms):
        message += f" {sampled} of them show the samples of their first problems; all are in samples.parquet."
    return {"sets": sets, "blocks": blocks, "message": message}


def _wanted(study: Study) -> Iterator[tuple[str, str, int]]:
    """(stage, set, seed) of everything that was answered in words, the most wanted first."""
    asked, (first, *others) = study.question, study.experiment.seeds
    stages = [asked.stage, *(name for name in study.model_stages() if name != asked.stage)]
    found = dict.fromkeys(key for arm in study.arms for each in arm.items.values() for key in each)
    sets = [key for key in sorted(found, key=lambda key: key != study.metric.set) if _in_words(study, key)]
    wanted = [(asked.stage, key, first) for key in sets]
    wanted += [(name, key, first) for key in sets[:1] for name in stages]
    wanted += [(asked.stage, key, seed) for seed in others for key in sets[:1]]
    wanted += [(name, key, seed) for seed in (first, *others) for name in stages for key in sets]
    return iter(dict.fromkeys(wanted))


def _in_words(study: Study, set_name: str) -> bool:
    spec = study.experiment.eval.sets.get(set_name)
    return spec is None or tasks.get(spec.task).in_words


def _answer(encoder: encode.Encoder, row: dict, right: bool) -> list:
    """[pieces, answer as read, right, class, ended]; a piece is text, or [what a token says, its name]."""
    condition, pieces = encoder.condition, []
    for text, token in encoder.pieces(row["tokens"]):
        if token in encoder.fact_ids:
            pieces.append([text, condition.names[token - condition.base]])
        elif text:
            pieces.append(text)
    return [pieces, row["answer"], int(right), row["error"], int(row["ended"])]


def _samples(encoder: encode.Encoder, rows: list[dict]) -> list[list]:
    """The different samples of a problem, the best score first, or else the most frequent: [pieces, answer as read,
    right, score, ended, how many]."""
    counts = Counter(tuple(row["tokens"]) for row in rows)
    different = {tuple(row["tokens"]): row for row in rows}
    shown = []
    for ids, row in different.items():
        pieces, answer, right, _, ended = _answer(encoder, row | {"error": None}, row["correct"])
        score = None if row["score"] is None else round(row["score"], 2)
        shown.append([pieces, answer, right, score, ended, counts[ids]])
    return sorted(shown, key=lambda sample: (-(sample[3] or 0), -sample[5]))
