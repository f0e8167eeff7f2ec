"""What an evaluation keeps: outcomes.parquet, a row for every item, and summary.json, worked out from it."""

import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eval.grading import errors
from eval.tasks.task import Question
from eval.verdict import stats
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.formats import described
from tokenizer.encode import Encoder

FEW = 30  # problems, below which an accuracy says little

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
        "error": pa.string(),  # eval.grading.errors.CLASSES
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
        "gold_bits": pa.float64(),  # −log₂ p(reference answer); null where it was not scored, see eval.likelihood
        "gold_bytes": pa.int32(),  # of the reference answer as plain text
    }
)  # and, behind these, what a task's own `columns` are
STRATA = ("fact_bearing", "fact_bearing_decomposed", "seen")


def question_row(
    encoder: Encoder, name: str, question: Question, reply: list[int], max_new_tokens: int
) -> dict:
    """The outcome of one question of the set `name`."""
    completion = encoder.render(reply)
    graded = question.grade(completion, question.gold)
    written = errors.equations(completion)
    return {
        "set": name,
        "id": question.id,
        "question": question.question,
        "gold": question.gold,
        "tokens": reply,
        "completion": completion,
        **graded,
        "error": errors.classify(written, graded["answer"], graded["correct"]),
        "equations": len(written),
        "equations_true": sum(map(errors.is_true, written)),
        "facts": encoder.count_facts(reply),
        "facts_written": len(encoder.condition.facts.find(completion)),
        "ended": (ended := reply[-1] == encoder.eos),
        "cut": not ended and len(reply) < max_new_tokens,
        **question.columns,
        **_fact_bearing(encoder, question),
    }


def _fact_bearing(encoder: Encoder, question: Question) -> dict:
    """Nothing where the reference has no working."""
    if question.solution in (None, f"#### {question.gold}"):
        return {}
    before, after = errors.fact_bearing(encoder.condition.facts, question.solution)
    return {"fact_bearing": before, "fact_bearing_decomposed": after}


def summarise(rows: list[dict], skipped: dict[str, Counter]) -> dict:
    """What summary.json holds, from the outcomes alone."""
    by_set: dict[str, list[dict]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    empty = [name for name in skipped if name not in by_set]
    if empty:
        reasons = described(skipped[empty[0]])
        raise UserError(f"eval.sets.{empty[0]}: none of its problems could be asked: {reasons}; give others")
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
    if "digit_match" in rows[0]:
        summary |= {"digit_match": mean("digit_match"), "length_off": mean("length_off")}
    strata = {}
    for key in STRATA:
        for value, name in ((True, key), (False, f"not_{key}")):
            if part := [row for row in rows if row.get(key) is value]:
                strata[name] = _score(part)
    return summary | {"strata": strata}


def _score(rows: list[dict]) -> dict:
    """Accuracy, Wilson's interval, the floor of the best constant answer, and bits per byte of the gold answers."""
    right = sum(row["correct"] for row in rows)
    low, high = stats.wilson(right, len(rows))
    constant, floor = stats.constant_floor([row["gold"] for row in rows])
    score = {"n": len(rows), "accuracy": right / len(rows), "low": low, "high": high}
    score |= {"floor": floor, "floor_answer": constant}
    if scored := [row for row in rows if row.get("gold_bits") is not None]:
        bits, size = (sum(row[key] for row in scored) for key in ("gold_bits", "gold_bytes"))
        score |= {"gold_bits_per_byte": bits / size, "gold_n": len(scored)}
    return score


def write(directory: Path, rows: list[dict], summary: dict) -> list[str]:
    own = dict.fromkeys(key for row in rows for key in row if key not in SCHEMA.names)
    schema = pa.schema([*SCHEMA, *((key, pa.infer_type([row.get(key) for row in rows])) for key in own)])
    pq.write_table(pa.Table.from_pylist(rows, schema), directory / "outcomes.parquet")
    write_json(directory / "summary.json", summary)
    return ["outcomes.parquet", "summary.json"]


def report(summary: dict) -> None:
    """The scores, every skipped row and every reply that the context cut, on stderr."""
    kinds = {f"probes.{kind}": score for kind, score in summary["probes"].items()}
    for name, score in (summary["sets"] | kinds).items():
        interval = f"[{score['low']:.1%}, {score['high']:.1%}]"
        line = f"{name}: {score['accuracy']:.1%} {interval} of {score['n']}, floor {score['floor']:.1%}"
        if score["n"] < FEW and name in summary["sets"]:
            line += f"; of so few problems ({score['n']}) an accuracy says little"
        line += "".join(f"; skipped {count} {reason}" for reason, count in score["skipped"].items())
        if long := score["n"] - score.get("gold_n", score["n"]):
            line += f"; {long} reference answers not scored"
        if cut := score.get("cut_by_context"):
            line += f"; {cut} cut by the context"
        print(line, file=sys.stderr)
        if worth := score.get("sampled"):
            of_all = [metric for metric in worth["metrics"] if metric.endswith(f"@{worth['samples']}")]
            shares = (f"{metric} {worth['metrics'][metric]['accuracy']:.1%}" for metric in ("mean", *of_all))
            print(f"{name}, {worth['samples']} samples: {', '.join(shares)}", file=sys.stderr)
