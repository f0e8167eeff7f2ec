"""samples.parquet, a row for every sampled answer: its columns, and what the samples of each set are worth."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.grading.answers import value
from eval.verdict import at_k, stats
from eval.verdict.results import Items
from pipeline.errors import UserError
from pipeline.sections import Eval

FILE = "samples.parquet"
SCHEMA = pa.schema(
    {
        "set": pa.string(),
        "id": pa.string(),  # of the problem, as in outcomes.parquet
        "sample": pa.int32(),  # 0, 1, …
        "tokens": pa.list_(pa.int32()),  # as generated
        "completion": pa.string(),  # rendered
        "answer": pa.string(),  # as read; null where there is none
        "correct": pa.bool_(),
        "vote": pa.int32(),  # the first sample of the problem with the same value; −1 without an answer
        "score": pa.float64(),  # logit of the verifier; null without one
        "ended": pa.bool_(),  # with EOS
        "cut": pa.bool_(),  # by the context, before max_new_tokens
    }
)


def as_draws(correct: np.ndarray, votes: np.ndarray, scores: np.ndarray, samples: int) -> at_k.Draws:
    """Columns of samples.parquet, a problem's samples together, as (problems, samples)."""
    shape = (-1, samples)
    scored = None if np.isnan(scores).any() else scores.reshape(shape)
    return at_k.Draws(correct.reshape(shape), votes.reshape(shape), scored)


def summarise(rows: list[dict], golds: dict[tuple[str, str], str], spec: Eval) -> dict[str, dict]:
    """By set what its samples are worth: for each metric the mean, its 95% interval over problems and the floor.

    `golds` by set and id.
    """
    by_set: dict[str, list[dict]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    result = {}
    for name, part in by_set.items():
        correct, votes, scores = (
            np.array([row[column] for row in part], kind)
            for column, kind in (("correct", bool), ("vote", int), ("score", float))
        )
        draws = as_draws(correct, votes, scores, spec.samples)
        values = [value(golds[name, row["id"]]) for row in part[:: spec.samples]]
        metrics = {}
        for metric, shares in at_k.shares(draws).items():
            accuracy, (low, high) = stats.accuracy(shares[None])
            metrics[metric] = {"accuracy": accuracy, "low": low, "high": high}
            metrics[metric]["floor"] = at_k.floor(values, metric)
        different = len({(row["id"], tuple(row["tokens"])) for row in part}) / len(values)
        result[name] = {"samples": spec.samples, "temperature": spec.temperature, "metrics": metrics}
        result[name] |= {
            "different_per_problem": different,
            "ended": sum(row["ended"] for row in part) / len(part),
            "cut_by_context": sum(row["cut"] for row in part),
        }
    return result


COLUMNS = ["set", "id", "sample", "correct", "vote", "score"]
TEXTS = ["tokens", "answer", "correct", "score", "ended"]  # what a page shows of a sample


def read(path: Path, content: bytes | None, n: int, items: dict[str, Items]) -> dict[str, np.ndarray]:
    """What every problem of the sets in `items` contributes to each SET.METRIC of its n samples, in their order.

    Raises UserError where the file cannot be read or does not hold n samples of each problem.
    """
    again = "evaluate it again with --overwrite"
    try:
        if content is None:
            raise pa.ArrowInvalid("it is not in its stage.json")
        table = pq.read_table(pa.BufferReader(content), columns=COLUMNS, use_threads=False)
        ids, sets = (np.array(table[column].to_pylist(), dtype=object) for column in ("id", "set"))
        places, correct, votes = (table[column].to_numpy() for column in ("sample", "correct", "vote"))
        scores = table["score"].to_numpy(zero_copy_only=False).astype(float)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {again}") from None
    shares: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(sets):
        part = sets == name
        first = ids[part][::n]
        whole = np.array_equal(places[part], np.tile(np.arange(n), len(first)))
        if not whole or set(first) != set(items[name].ids) or not (ids[part] == np.repeat(first, n)).all():
            raise UserError(f"{path}: does not hold {n} samples of each problem of {name}; {again}")
        place = {key: i for i, key in enumerate(first)}
        order = [place[key] for key in items[name].ids]
        draws = as_draws(correct[part].astype(bool), votes[part], scores[part], n)
        shares |= {f"{name}.{metric}": share[order] for metric, share in at_k.shares(draws).items()}
    return shares


def texts(content: bytes, n: int, items: dict[str, Items], problems: int) -> dict[str, pa.Table]:
    """The samples of the first `problems` of each set, n rows each, of a file that `read` has let pass."""
    table = pq.read_table(pa.BufferReader(content), columns=["set", "id", *TEXTS], use_threads=False)
    ids, sets = (np.array(table[column].to_pylist(), dtype=object) for column in ("id", "set"))
    kept = {}
    for name in dict.fromkeys(sets):
        starts = {ids[i]: i for i in np.flatnonzero(sets == name)[::n]}
        rows = [starts[key] + i for key in items[name].ids[:problems] for i in range(n)]
        kept[name] = table.select(TEXTS).take(rows)
    return kept
