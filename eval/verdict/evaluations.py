"""The outcomes of every evaluation, brought into one order, and refused where they do not belong together.

Each file is read once, hashed and parsed from the same bytes. What stays in memory of a further arm is one byte and
two numbers a problem, and its summary; the texts of answers stay only for a page's worth, those of the verdict first.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from eval.outcomes import SCHEMA
from eval.tasks.arithmetic import CELL
from eval.verdict import sampled
from eval.verdict.metrics import find
from eval.verdict.results import Arm, Items
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.identity import differences
from tokenizer.conditions import Condition

OUTCOMES = ["set", "id", "gold", "correct"]
LIKELIHOOD = ["gold_bits", "gold_bytes"]
ANSWERS = ["question", "tokens", "answer", "error", "ended"]  # what a page shows of an answer
KEPT = 40_000_000  # bytes of answers, enough for a page
SAMPLED = 200  # problems of a set whose samples a page shows, at most
SUMMARY = ("sets", "probes", "patching", "bits_per_byte")
SCORE = {"n", "floor", "floor_answer", "skipped"}  # what is read of any set's score in summary.json
# Reasons for skipping, and what a condition that writes another text than the reference answer has not:
VARIES = {"skipped", "gold_bits_per_byte", "gold_n"}


def read(experiment: Experiment, arms: list[Arm]) -> None:
    """Read every finished evaluation into its arm. Raises UserError where one cannot be or is of other problems."""
    question, (first, *_) = experiment.compare, experiment.seeds
    wanted, asked = (question.stage, find(question.metric).set) if question else ("", "")
    order = [
        (arm, name.removeprefix("eval_"))
        for arm in arms
        for name in experiment.stage_names()
        if name.startswith("eval_") and arm.results[name].identity
    ]
    order.sort(key=lambda each: (each[0].seed != first, each[1] != wanted))  # stable
    kept = 0
    known: dict[str, Arm] = {}  # model stage → the first arm that was asked there
    for arm, name in order:
        table, drawn = _evaluation(arm, name, with_texts=kept < KEPT, with_facts=name == wanted)
        first_arm = known.setdefault(name, arm)
        arm.items[name] = _items(table, first_arm, arm, name)
        result = arm.results[f"eval_{name}"]
        if samples := result.identity["section"].get("samples"):
            arm.samples[name] = sampled.read(result.directory / sampled.FILE, drawn, samples, arm.items[name])
            if drawn and kept < KEPT:
                shown = sampled.texts(drawn, samples, arm.items[name], SAMPLED)
                arm.drawn |= {(name, key): part for key, part in shown.items()}
                kept += sum(part.nbytes for part in shown.values())
        if name == wanted and asked in arm.items[name]:
            arm.facts_written = _facts_written(Condition.of(experiment, arm.condition), table, asked)
        if kept < KEPT:
            arm.texts |= {(name, key): part for key, part in _texts(table, arm.items[name]).items()}
            kept += sum(arm.texts[name, key].nbytes for key in arm.items[name])
    for arm in arms:  # back into running order
        for content in (arm.items, arm.samples, arm.summaries):
            content |= {name: content.pop(name) for name in experiment.stages if name in content}
    _same_figures(arms)


# --- one evaluation -----------------------------------------------------------------------------------------


def _evaluation(arm: Arm, name: str, with_texts: bool, with_facts: bool) -> tuple[pa.Table, bytes | None]:
    """(its outcomes, as many columns as are wanted; samples.parquet as it is); its summary is kept in the arm."""
    result = arm.results[f"eval_{name}"]
    content = {
        file: _verified(result.directory / file, sha256)
        for file, sha256 in result.identity["outputs"].items()
    }
    path = result.directory / "summary.json"
    arm.summaries[name] = _summary(path, content.get("summary.json"))
    columns = OUTCOMES + ANSWERS * with_texts + ["completion", "facts_written"] * with_facts
    path = result.directory / "outcomes.parquet"
    table = _table(path, content.get("outcomes.parquet"), columns)
    if empty := [column for column in OUTCOMES if table[column].null_count]:
        raise UserError(f"{path}: has rows without {empty[0]}; evaluate it again with --overwrite")
    return table, content.get(sampled.FILE)


def _verified(path: Path, sha256: str) -> bytes:
    """A file's bytes. Raises UserError unless they are those that its stage wrote."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path}: damaged since it was written; rerun its stage with --overwrite")
    return content


def _summary(path: Path, content: bytes | None) -> dict:
    if content is None:
        raise UserError(f"{path}: is not there; rerun its stage with --overwrite")
    try:
        summary = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}; rerun its stage with --overwrite") from None
    if missing := [key for key in SUMMARY if not isinstance(summary, dict) or key not in summary]:
        raise UserError(f"{path}: holds no {missing[0]}; rerun its stage with --overwrite")
    return summary


def _table(path: Path, content: bytes | None, columns: list[str]) -> pa.Table:
    try:
        if content is None:
            raise pa.ArrowInvalid("it is not in its stage.json")
        file = parquet.ParquetFile(pa.BufferReader(content))
        for column in columns:
            there = column in file.schema_arrow.names
            if not there or file.schema_arrow.field(column).type != SCHEMA.field(column).type:
                raise pa.ArrowInvalid(f"no column '{column}' of {SCHEMA.field(column).type}")
        more = [column for column in dict.fromkeys((*LIKELIHOOD, *CELL)) if column in file.schema_arrow.names]
        return file.read([*columns, *more], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({message}); evaluate it again with --overwrite") from None


def _parts(table: pa.Table) -> dict[str, np.ndarray]:
    """The rows of each set, as a mask."""
    codes = table["set"].combine_chunks().dictionary_encode()
    indices = codes.indices.to_numpy()
    return {set_name: indices == code for code, set_name in enumerate(codes.dictionary.to_pylist())}


def _items(table: pa.Table, first: Arm, arm: Arm, name: str) -> dict[str, Items]:
    """The outcomes by set, in the order of the first arm that was evaluated after the stage."""
    ids, golds, correct = (table[column].to_numpy() for column in ("id", "gold", "correct"))
    bits, size = (_numbers(table, column) for column in LIKELIHOOD)
    sets = {
        set_name: Items(ids[part], golds[part], correct[part].astype(bool), bits[part], size[part])
        for set_name, part in _parts(table).items()
    }
    if first is arm:
        sets = {
            key: items._replace(cells=_cells(table.filter(pa.array(_parts(table)[key]))))
            for key, items in sets.items()
        }
    expected = first.items.get(name, sets)
    if sets.keys() != expected.keys():
        odd = ", ".join(sorted(sets.keys() ^ expected.keys()))
        raise UserError(
            f"eval_{name}: {first.name} and {arm.name} were asked other sets ({odd}); evaluate again"
        )
    for set_name, items in sets.items():
        if first is arm or not np.array_equal(items.ids, expected[set_name].ids):
            _once(items, f"eval_{name}: '{set_name}' of {arm.name}")
        where = f"eval_{name}: '{set_name}' of {first.name} and {arm.name}"
        sets[set_name] = _in_order(items, expected[set_name], where)
    return sets


def _cells(table: pa.Table) -> dict[str, np.ndarray] | None:
    """Where the problems of a set lie in the grid of arithmetic; None of problems that lie in none."""
    if any(
        column not in table.column_names or not table[column].is_valid().to_numpy().any() for column in CELL
    ):
        return None
    names = table["op"].fill_null("").to_numpy(zero_copy_only=False)
    numbers = {
        key: table[key].cast(pa.float64()).to_numpy(zero_copy_only=False) for key in CELL if key != "op"
    }
    return {"op": names, **numbers}


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    """A column, nan where it has nothing: evaluations did not always score the reference answers."""
    if column not in table.column_names:
        return np.full(len(table), np.nan, np.float32)
    return table[column].cast(pa.float32()).to_numpy(zero_copy_only=False)


def _once(items: Items, where: str) -> None:
    keys, counts = np.unique(items.ids.astype(str), return_counts=True)
    if counts.max(initial=0) > 1:
        raise UserError(
            f"{where} holds problem {keys[counts.argmax()]} {counts.max()} times; evaluate it again"
        )


def _in_order(items: Items, expected: Items, where: str) -> Items:
    """The same outcomes in the expected order, with the expected arrays of ids and golds."""
    if not np.array_equal(items.ids, expected.ids):
        if odd := len(set(items.ids) ^ set(expected.ids)):
            raise UserError(f"{where} differ in {odd} problems; evaluate them again")
        place = {key: i for i, key in enumerate(items.ids)}
        order = [place[key] for key in expected.ids]
        ids, golds, correct, bits, size, _ = items
        items = Items(ids[order], golds[order], correct[order], bits[order], size[order])
    if not np.array_equal(items.golds, expected.golds):
        raise UserError(f"{where} differ in the right answers; evaluate them again")
    return items._replace(ids=expected.ids, golds=expected.golds, cells=expected.cells)


def _facts_written(condition: Condition, table: pa.Table, metric: str) -> np.ndarray:
    """(facts,) how often each true fact is written in the answers to a set, in whatever tokens."""
    some = table["facts_written"].fill_null(0).to_numpy() > 0
    texts = table["completion"].filter(pa.array(_parts(table)[metric] & some)).to_pylist()
    indices = [index for text in texts for _, _, index in condition.facts.find(text)]
    return np.bincount(np.array(indices, dtype=int), minlength=len(condition.facts.FACTS))


def _texts(table: pa.Table, items: dict[str, Items]) -> dict[str, pa.Table]:
    """What was answered, by set, in the order of the items."""
    texts = {}
    for set_name, part in _parts(table).items():
        own = table.select(["id", *ANSWERS]).filter(pa.array(part))
        if own["id"].to_pylist() != items[set_name].ids.tolist():
            place = {key: i for i, key in enumerate(own["id"].to_pylist())}
            own = own.take([place[key] for key in items[set_name].ids])
        texts[set_name] = own.drop_columns("id")
    return texts


# --- all of them --------------------------------------------------------------------------------------------


def _same_figures(arms: list[Arm]) -> None:
    """Raises UserError where a summary is not of its outcomes, or lacks a figure that another arm's holds."""
    first: dict[str, tuple[Arm, dict | bool]] = {}
    for arm in arms:
        for name, summary in arm.summaries.items():
            kinds = {f"probes.{kind}": score for kind, score in summary["probes"].items()}
            scores = summary["sets"] | kinds
            counts = {key: score.get("n") for key, score in scores.items() if SCORE <= score.keys()}
            if counts != {key: len(items.ids) for key, items in arm.items[name].items()}:
                where = f"{arm.results[f'eval_{name}'].directory}/summary.json"
                raise UserError(f"{where}: is not of its outcomes; evaluate it again with --overwrite")
            shape = _shape(scores)
            other, expected = first.setdefault(name, (arm, shape))
            if shape != expected:
                odd = f"figure {differences(expected, shape)[0].partition(': ')[0]}"
                raise UserError(f"eval_{name}: {other.name} or {arm.name} has no {odd}; evaluate it again")


def _shape(value: object) -> dict | bool:
    """The keys of a summary without their figures, but for those that arms need not share."""
    return {k: _shape(v) for k, v in value.items() if k not in VARIES} if isinstance(value, dict) else True
