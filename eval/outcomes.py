"""What an evaluation keeps: outcomes.parquet, a row for every item, and summary.json, worked out from it."""

import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eval.grading import errors
from eval.verdict import stats
from pipeline.errors import UserError
from pipeline.files import write_json

SCHEMA = pa.schema(
    {
        "set": pa.string(),
        "id": pa.string(),
        "question": pa.string(),  # HellaSwag: the context
        "gold": pa.string(),  # HellaSwag: the right ending's number
        "tokens": pa.list_(pa.int32()),  # of the reply, as generated
        "completion": pa.string(),  # rendered
        "answer": pa.string(),  # as read; null where there is none
        "correct": pa.bool_(),  # HellaSwag: by acc_norm
        "strict": pa.bool_(),  # right by the harness's strict-match
        "flexible": pa.bool_(),  # right by the harness's flexible-extract
        "error": pa.string(),  # eval.errors.CLASSES
        "equations": pa.int32(),  # different readable ones in the completion
        "equations_true": pa.int32(),
        "facts": pa.int32(),  # fact tokens in the reply
        "facts_written": pa.int32(),  # true facts in the completion, in whatever tokens
        "ended": pa.bool_(),  # with EOS
        "cut": pa.bool_(),  # by the context, before max_new_tokens
        "seen": pa.bool_(),  # problem of a template that training knows; null where the data does not say
        "fact_bearing": pa.bool_(),  # the gold solution writes a fact; null where there is no solution
        "fact_bearing_decomposed": pa.bool_(),  # the same after its operations are decomposed
        "loglikelihoods": pa.list_(pa.float64()),  # nats of each ending
        "acc": pa.bool_(),
        "acc_per_token": pa.bool_(),
    }
)
STRATA = ("fact_bearing", "fact_bearing_decomposed", "seen")


def summarise(rows: list[dict], skipped: dict[str, Counter]) -> dict:
    """What summary.json holds, from the outcomes alone."""
    by_set: dict[str, list[dict]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    empty = [name for name in skipped if name not in by_set]
    if empty:
        said = ", ".join(f"{count} {reason}" for reason, count in skipped[empty[0]].items())
        raise UserError(f"eval.sets.{empty[0]}: none of its problems could be asked: {said}; give others")
    done = {name: _summary(part) | {"skipped": dict(skipped.get(name, {}))} for name, part in by_set.items()}
    kinds = {
        name.removeprefix("probes."): done.pop(name) for name in list(done) if name.startswith("probes.")
    }
    return {"sets": done, "probes": kinds}


def _summary(rows: list[dict]) -> dict:
    def mean(key: str) -> float:
        return sum(row[key] for row in rows) / len(rows)

    if "acc" in rows[0]:
        return _score(rows) | {"acc": mean("acc"), "acc_per_token": mean("acc_per_token")}
    written = sum(row["equations"] for row in rows)
    summary = _score(rows) | {
        "fact_tokens_per_response": mean("facts"),
        "facts_written_per_response": mean("facts_written"),
        "tokens_per_response": sum(len(row["tokens"]) for row in rows) / len(rows),
        "ended": mean("ended"),
        "cut_by_context": sum(row["cut"] for row in rows),
        "errors": {name: sum(row["error"] == name for row in rows) for name in errors.CLASSES},
        "equations": written,
        "equations_true": sum(row["equations_true"] for row in rows) / written if written else None,
    }
    if "strict" in rows[0]:
        summary |= {"strict": mean("strict"), "flexible": mean("flexible")}
    strata = {}
    for key in STRATA:
        for value, name in ((True, key), (False, f"not_{key}")):
            if part := [row for row in rows if row.get(key) is value]:
                strata[name] = _score(part)
    return summary | {"strata": strata}


def _score(rows: list[dict]) -> dict:
    """Accuracy, Wilson's interval, and the floor of the best constant answer."""
    right = sum(row["correct"] for row in rows)
    low, high = stats.wilson(right, len(rows))
    constant, floor = stats.constant_floor([row["gold"] for row in rows])
    score = {"n": len(rows), "accuracy": right / len(rows), "low": low, "high": high}
    return score | {"floor": floor, "floor_answer": constant}


def write(directory: Path, rows: list[dict], summary: dict) -> list[str]:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), directory / "outcomes.parquet")
    write_json(directory / "summary.json", summary)
    return ["outcomes.parquet", "summary.json"]


def report(summary: dict) -> None:
    """The scores, every skipped row and every reply that the context cut, on stderr."""
    kinds = {f"probes.{kind}": score for kind, score in summary["probes"].items()}
    for name, score in (summary["sets"] | kinds).items():
        interval = f"[{score['low']:.1%}, {score['high']:.1%}]"
        line = f"{name}: {score['accuracy']:.1%} {interval} of {score['n']}, floor {score['floor']:.1%}"
        line += "".join(f"; skipped {count} {reason}" for reason, count in score["skipped"].items())
        if cut := score.get("cut_by_context"):
            line += f"; {cut} cut by the context"
        print(line, file=sys.stderr)
