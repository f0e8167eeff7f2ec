"""Everything an experiment has on disk, for `eval.compare`: every run that its file plans, finished or not.

Nothing can be left out: an arm that is missing, stopped or failed is listed as such, and so is what the file
no longer plans or --overwrite has set aside. Nothing can be mixed: runs are refused, in one line, where they
differ from the file or disagree with each other in data, tokenizer or budget, where they are another seed's
or condition's, or where they did not answer the same problems. Training data is not hashed again, and shards
may be gone: what a run was made of stands in its identity.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from eval.outcomes import SCHEMA
from pipeline import stage
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import arm_dir, digest, read_json, runs_dir
from pipeline.identity import asked, differences, stage_dir
from pipeline.kinds import MODEL_KINDS
from pipeline.progress import clock
from pipeline.status import state
from tokenizer.conditions import Condition

IDENTITY = {"section", "condition", "tokenizer", "data", "outputs"}  # what is read of any stage's
SCORE = {"n", "floor", "floor_answer", "skipped"}  # and of any set's in summary.json


class Items(NamedTuple):
    """One set of problems as one model answered it; the arrays are aligned."""

    ids: np.ndarray  # str
    golds: np.ndarray  # str
    correct: np.ndarray  # bool


@dataclass
class Result:
    """One stage of one arm."""

    state: str  # done, unverified (done, but its parent is gone), running, failed, stopped, waiting
    detail: str = ""
    directory: Path | None = None  # what follows is there if it is done or unverified
    identity: dict | None = None
    record: dict = field(default_factory=dict)

    def json(self, name: str, *keys: str) -> dict:
        """A JSON file of its directory, which has to hold the keys."""
        content = read_json(self.directory / name)
        if content is None:
            raise UserError(f"{self.directory / name}: is not there; rerun its stage with --overwrite")
        if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
            raise UserError(
                f"{self.directory / name}: holds no {missing[0]}; rerun its stage with --overwrite"
            )
        return content

    @cached_property
    def metrics(self) -> list[dict]:
        """The lines of metrics.jsonl."""
        path = self.directory and self.directory / "metrics.jsonl"
        if path is None or not path.exists():
            return []
        lines = path.read_bytes().splitlines()
        return [_metrics(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _metrics(line: bytes, where: str) -> dict:
    """A line of metrics.jsonl."""
    try:
        content = json.loads(line)
        json.dumps(content, allow_nan=False)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "step" not in content:
        raise UserError(f"{where}: is not what a step has logged; rerun its stage with --overwrite")
    return content


@dataclass
class Arm:
    """One condition and seed."""

    condition: str
    seed: int
    results: dict[str, Result] = field(default_factory=dict)  # by stage, in running order
    above: dict[str, Result] = field(default_factory=dict)  # stages of other experiments that it goes on from
    summaries: dict[str, dict] = field(default_factory=dict)  # model stage → its evaluation's summary.json
    items: dict[str, dict[str, Items]] = field(default_factory=dict)  # model stage → set → outcomes

    @property
    def name(self) -> str:
        return f"{self.condition}-s{self.seed}"

    def outcomes(self, name: str, columns: list[str], set_name: str) -> list[dict]:
        """Rows of outcomes.parquet of the evaluation after a stage, of one set."""
        path = self.results[f"eval_{name}"].directory / "outcomes.parquet"
        return _table(path, columns, filters=[("set", "=", set_name)]).to_pylist()


@dataclass
class Study:
    """An experiment and all that was found of it."""

    experiment: Experiment
    arms: list[Arm]
    unplanned: list[str]  # on disk and not in the file, in words

    def arms_of(self, condition: str, name: str) -> list[Arm]:
        """The arms of a condition that were evaluated after a stage, by seed."""
        return [arm for arm in self.arms if arm.condition == condition and name in arm.items]

    def model_stages(self) -> list[str]:
        """The stages with a model, in running order."""
        return [name for name, spec in self.experiment.stages.items() if spec.run in MODEL_KINDS]

    def evaluated(self) -> Iterator[tuple[str, str, list[Arm]]]:
        """(stage, condition, arms) of all evaluations."""
        for name in self.model_stages():
            for condition in self.experiment.conditions:
                if arms := self.arms_of(condition, name):
                    yield name, condition, arms

    def finished(self, *kinds: str) -> Iterator[tuple[str, str, dict[int, Result]]]:
        """(stage, condition, results by seed) of the finished stages of some kinds."""
        for name in (name for name, spec in self.experiment.stages.items() if spec.run in kinds):
            for condition in self.experiment.conditions:
                arms = [arm for arm in self.arms if arm.condition == condition and arm.results[name].identity]
                if arms:
                    yield name, condition, {arm.seed: arm.results[name] for arm in arms}


def collect(experiment: Experiment) -> Study:
    """Every arm of the file. Raises UserError if results cannot be read or do not belong together."""
    prints = {name: Condition.of(experiment, name).identity() for name in experiment.conditions}
    shards = {}
    for path in sorted(runs_dir().glob("data/*/stage.json")):
        if done := _finished(path.parent):
            shards[digest(done["identity"])] = Result("done", "", path.parent, **done)
    arms = [
        _arm(experiment, condition, seed, prints[condition], shards) for condition, seed in experiment.arms()
    ]
    for arm in arms:
        for name in (name for name in experiment.stage_names() if name.startswith("eval_")):
            if arm.results[name].identity:
                _read_evaluation(arm, name.removeprefix("eval_"))
    _agree(arms)
    _same_problems(arms)
    _same_figures(arms)
    return Study(experiment, arms, list(_unplanned(experiment)))


# --- what stands on disk ------------------------------------------------------------------------------------


def _finished(directory: Path) -> dict | None:
    """The content of stage.json; None where there is none. Raises UserError where it is something else."""
    path = directory / "stage.json"
    done = read_json(path)
    if done is None:
        return None
    parts = [done.get(key) for key in ("identity", "record")] if isinstance(done, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or len(done) > len(parts):
        raise UserError(f"{path}: is not a finished stage's; remove the stage's directory and rerun it")
    identity, record = parts
    if missing := sorted(IDENTITY - identity.keys()) + ["seconds"] * ("seconds" not in record):
        raise UserError(f"{path}: holds no {missing[0]}; remove the stage's directory and rerun it")
    return done


def _arm(
    experiment: Experiment, condition: str, seed: int, fingerprint: str, shards: dict[str, Result]
) -> Arm:
    arm = Arm(condition, seed)
    for name in experiment.stage_names():
        parent = experiment.parent(name)
        if parent and "/" in parent:
            arm.above |= _above(parent, condition, seed)
        found = arm.results[name] = _result(experiment, arm, name, shards)
        if found.identity:
            _as_the_file_says(experiment, arm, name, fingerprint)
    return arm


def _result(experiment: Experiment, arm: Arm, name: str, shards: dict[str, Result]) -> Result:
    """What is there of a stage, its ancestors known. `shards` are all prepared data, by identity hash."""
    directory, parent = arm_dir(experiment.name, arm.condition, arm.seed), experiment.parent(name)
    if experiment.kind(name) == "prepare" and (used := _as_used(experiment, directory, name)):
        return shards.get(used) or Result("unverified", "removed since")
    if done := _finished(directory / name):
        return Result("done", f"in {clock(done['record']['seconds'])}", directory / name, **done)
    if parent in arm.results and arm.results[parent].identity is None:
        return Result("waiting", "for its parent")
    found = Result(*state(experiment, arm.condition, arm.seed, name))
    if found.state == "done":  # prepared, and no child of it is done yet
        found.directory = stage_dir(experiment, arm.condition, arm.seed, name)
        done = _finished(found.directory)
        found.identity, found.record = done["identity"], done["record"]
    return found


def _as_used(experiment: Experiment, directory: Path, name: str) -> str | None:
    """The hash of prepared data as a finished child has it: to work it out anew would hash the data."""
    for child, spec in experiment.stages.items():
        if getattr(spec, "parent", None) == name and (done := _finished(directory / child)):
            return done["identity"].get("parent")
    return None


def _above(name: str, condition: str, seed: int) -> dict[str, Result]:
    """A finished stage of another experiment, `EXPERIMENT/STAGE`, and its ancestors that lie beside it."""
    found: dict[str, Result] = {}
    while name:
        other, _, own = name.partition("/")
        directory = arm_dir(other, condition, seed) / own
        done = _finished(directory)
        if done is None:
            break
        found[name] = Result("done", "", directory, **done)
        parent = done["identity"]["section"].get("parent")
        name = parent if parent is None or "/" in parent else f"{other}/{parent}"
    return found


def _as_the_file_says(experiment: Experiment, arm: Arm, name: str, fingerprint: str) -> None:
    """Raises UserError where a result was made otherwise than the file has it now."""
    found, parent = arm.results[name], experiment.parent(name)
    expected = {"section": asked(experiment.stage(name)), "tokenizer": fingerprint}
    expected["condition"] = arm.condition
    if experiment.kind(name) != "prepare":  # which all seeds share
        expected["seed"] = arm.seed  # a copied directory would count one run twice
    differs = differences({key: found.identity.get(key) for key in expected}, expected)
    above = (arm.results | arm.above).get(parent)
    if above and above.identity and found.identity.get("parent") != digest(above.identity):
        differs.append(f"'{parent}' was made anew since")
    if differs:
        said = f"made otherwise than {experiment.path} says ({'; '.join(differs)})"
        raise UserError(f"{found.directory}: {said}; rerun it with --overwrite, or undo the change")
    if parent and not (above and above.identity):
        found.state, found.detail = "unverified", f"'{parent}' is gone, so nothing vouches for it"


def _unplanned(experiment: Experiment) -> Iterator[str]:
    planned = {f"{condition}-s{seed}" for condition, seed in experiment.arms()}
    for directory in sorted((runs_dir() / experiment.name).glob("*-s*")):
        if not directory.is_dir() or not re.search(r"-s\d+$", directory.name):
            continue
        done = len(list(directory.glob("*/stage.json")))
        if directory.name not in planned:
            yield f"{directory.name}: is not in the file, and has {done} finished stages"
            continue
        for path in sorted(path for path in directory.iterdir() if path.is_dir()):
            if re.search(r"\.old-[\d-]+$", path.name):
                yield f"{directory.name} {path.name}: an earlier result that --overwrite set aside"
            elif path.name not in experiment.stage_names():
                yield f"{directory.name} {path.name}: is not in the file"


# --- evaluations --------------------------------------------------------------------------------------------


def _read_evaluation(arm: Arm, name: str) -> None:
    directory = arm.results[f"eval_{name}"].directory
    stage.verify(directory)
    keys = ("sets", "probes", "patching", "bits_per_byte")
    arm.summaries[name] = arm.results[f"eval_{name}"].json("summary.json", *keys)
    path, columns = directory / "outcomes.parquet", ["set", "id", "gold", "correct"]
    table = _table(path, columns)
    if empty := [column for column in columns if table[column].null_count]:
        raise UserError(f"{path}: has rows without {empty[0]}; evaluate it again with --overwrite")
    codes = table["set"].combine_chunks().dictionary_encode()
    ids, golds, correct = (table[column].to_numpy() for column in ("id", "gold", "correct"))
    indices = codes.indices.to_numpy()
    parts = {set_name: indices == code for code, set_name in enumerate(codes.dictionary.to_pylist())}
    arm.items[name] = {
        set_name: Items(ids[part], golds[part], correct[part].astype(bool))
        for set_name, part in parts.items()
    }


def _table(path: Path, columns: list[str], **words: Any) -> pa.Table:
    try:
        there = parquet.read_schema(path)
        for column in columns:
            if column not in there.names or there.field(column).type != SCHEMA.field(column).type:
                raise pa.ArrowInvalid(f"no column '{column}' of {SCHEMA.field(column).type}")
        return parquet.read_table(path, columns=columns, use_threads=False, **words)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); evaluate it again with --overwrite"
        ) from None


# --- whether it belongs together ----------------------------------------------------------------------------


def _agree(arms: list[Arm]) -> None:
    """What pairing rests on: the same budgets and data in every arm, those of its ancestors too."""
    first: dict[tuple, tuple[str, object]] = {}
    for arm in arms:
        for name, result in (arm.results | arm.above).items():
            for key in ("section", "data") if result.identity else ():
                other, expected = first.setdefault((name, key), (arm.name, result.identity[key]))
                if result.identity[key] != expected:
                    differs = "; ".join(differences(expected, result.identity[key]))
                    raise UserError(
                        f"{name}: {other} and {arm.name} disagree in {key} ({differs}); rerun one of them"
                    )


def _same_problems(arms: list[Arm]) -> None:
    """Bring all outcomes into one order. Raises UserError unless all arms answered the same problems once."""
    first: dict[str, tuple[Arm, str, dict[str, Items]]] = {}
    for arm in arms:
        for name, sets in arm.items.items():
            other, _, expected = first.setdefault(name, (arm, name, sets))
            if sets.keys() != expected.keys():
                odd = ", ".join(sorted(sets.keys() ^ expected.keys()))
                raise UserError(
                    f"eval_{name}: {other.name} and {arm.name} were asked other sets ({odd}); evaluate again"
                )
            for set_name, items in sets.items():
                if items is expected[set_name] or not np.array_equal(items.ids, expected[set_name].ids):
                    _once(items, f"eval_{name}: '{set_name}' of {arm.name}")
                sets[set_name] = _in_order(
                    items, expected[set_name], f"eval_{name}: '{set_name}' of {other.name} and {arm.name}"
                )


def _once(items: Items, where: str) -> None:
    keys, counts = np.unique(items.ids.astype(str), return_counts=True)
    if counts.max(initial=0) > 1:
        raise UserError(
            f"{where} holds problem {keys[counts.argmax()]} {counts.max()} times; evaluate it again"
        )


def _in_order(items: Items, expected: Items, where: str) -> Items:
    if not np.array_equal(items.ids, expected.ids):
        if odd := len(set(items.ids) ^ set(expected.ids)):
            raise UserError(f"{where} differ in {odd} problems; evaluate them again")
        place = {key: i for i, key in enumerate(items.ids)}
        items = Items(*(column[[place[key] for key in expected.ids]] for column in items))
    if not np.array_equal(items.golds, expected.golds):
        raise UserError(f"{where} differ in the right answers; evaluate them again")
    return items


def _same_figures(arms: list[Arm]) -> None:
    """Raises UserError where a summary is not of its outcomes, or lacks a figure that another arm's holds."""
    first: dict[str, tuple[Arm, dict]] = {}
    for arm in arms:
        for name, summary in arm.summaries.items():
            kinds = {f"probes.{kind}": score for kind, score in summary["probes"].items()}
            scores = summary["sets"] | kinds
            counts = {key: score.get("n") for key, score in scores.items() if SCORE <= score.keys()}
            if counts != {key: len(items.ids) for key, items in arm.items[name].items()}:
                where = f"{arm.results[f'eval_{name}'].directory}/summary.json"
                raise UserError(f"{where}: is not of its outcomes; evaluate it again with --overwrite")
            other, expected = first.setdefault(name, (arm, _shape(scores)))
            if differs := differences(expected, _shape(scores)):
                odd = f"figure {differs[0].partition(': ')[0]}"
                raise UserError(f"eval_{name}: {other.name} or {arm.name} has no {odd}; evaluate it again")


def _shape(value: Any) -> dict | bool:
    """The keys of a summary without their figures; what was skipped may differ."""
    return {k: _shape(v) for k, v in value.items() if k != "skipped"} if isinstance(value, dict) else True


def matrix(arms: list[Arm], name: str, metric: str) -> np.ndarray:
    """(arms, problems) bool: who got which problem of a set right after a stage, in one order."""
    return np.array([arm.items[name][metric].correct for arm in arms], dtype=bool)
