"""Everything an experiment has on disk, for `eval.verdict.compare`: every run that its file plans, finished or not.

Nothing can be left out: an arm that is missing, stopped or failed is listed as such, and so is what the file
no longer plans or --overwrite has set aside. Nothing can be mixed: runs are refused, in one line, where they
differ from the file or disagree with each other in data, tokenizer or budget, where they are another seed's
or condition's, or where they did not answer the same problems. Training data is not hashed again, and shards
may be gone: what a run was made of stands in its identity. Every file is read once.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.verdict import evaluations
from eval.verdict.results import Arm, Result, Study
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import arm_dir, digest, runs_dir
from pipeline.identity import asked, differences, stage_dir
from pipeline.progress import clock
from pipeline.results import read_result
from pipeline.status import state
from tokenizer.conditions import Condition


def collect(experiment: Experiment) -> Study:
    """Every arm of the file. Raises UserError if results cannot be read or do not belong together."""
    prints = {name: Condition.of(experiment, name).identity() for name in experiment.conditions}
    disk = Disk()
    arms = [
        _arm(experiment, condition, seed, prints[condition], disk) for condition, seed in experiment.arms()
    ]
    _agree(arms, experiment.sweep.stage if experiment.sweep else None)
    evaluations.read(experiment, arms)
    return Study(experiment, arms, list(_unplanned(experiment)))


class Disk:
    """The stage.json files, each read once."""

    def __init__(self):
        self._read: dict[Path, dict | None] = {}
        shared = [path.parent for path in sorted(runs_dir().glob("data/*/stage.json"))]
        finished = {directory: done for directory in shared if (done := self.finished(directory))}
        self.shards = {  # prepared data, by the hash of its identity
            digest(done["identity"]): Result("done", "", directory, **done)
            for directory, done in finished.items()
        }

    def finished(self, directory: Path) -> dict | None:
        """The content of a stage.json; None where there is none."""
        if directory not in self._read:
            content = read_result(directory)
            self._read[directory] = content and content._asdict()
        return self._read[directory]


# --- what stands on disk ------------------------------------------------------------------------------------


def _arm(experiment: Experiment, condition: str, seed: int, fingerprint: str, disk: Disk) -> Arm:
    arm = Arm(condition, seed)
    for name in experiment.stage_names():
        parent = experiment.parent(name)
        if parent and "/" in parent:
            arm.above |= _above(parent, condition, seed, disk)
        result = arm.results[name] = _result(experiment, arm, name, disk)
        if result.identity:
            _as_the_file_says(experiment, arm, name, fingerprint)
    return arm


def _result(experiment: Experiment, arm: Arm, name: str, disk: Disk) -> Result:
    """What is there of a stage, its ancestors known."""
    directory, parent = arm_dir(experiment.name, arm.condition, arm.seed), experiment.parent(name)
    if experiment.kind(name) == "prepare" and (used := _as_used(experiment, directory, name, disk)):
        return disk.shards.get(used) or Result("unverified", "removed since")
    if done := disk.finished(directory / name):
        return Result("done", f"in {clock(done['record']['seconds'])}", directory / name, **done)
    if parent in arm.results and not arm.results[parent].identity:
        return Result("waiting", "for its parent")
    result = Result(*state(experiment, arm.condition, arm.seed, name))
    if result.state == "done":  # prepared, and no child of it is done yet
        result.directory = stage_dir(experiment, arm.condition, arm.seed, name)
        if done := disk.finished(result.directory):
            result.identity, result.record = done["identity"], done["record"]
    return result


def _as_used(experiment: Experiment, directory: Path, name: str, disk: Disk) -> str | None:
    """The hash of prepared data as a finished child has it: to work it out anew would hash the data."""
    for child, spec in experiment.stages.items():
        if getattr(spec, "parent", None) == name and (done := disk.finished(directory / child)):
            return done["identity"].get("parent")
    return None


def _above(name: str, condition: str, seed: int, disk: Disk) -> dict[str, Result]:
    """A finished stage of another experiment, `EXPERIMENT/STAGE`, and its ancestors that lie beside it."""
    above: dict[str, Result] = {}
    place: str | None = name
    while place:
        other, _, own = place.partition("/")
        directory = arm_dir(other, condition, seed) / own
        done = disk.finished(directory)
        if done is None:
            break
        above[place] = Result("done", "", directory, **done)
        parent = done["identity"]["section"].get("parent")
        place = parent if parent is None or "/" in parent else f"{other}/{parent}"
    return above


def _as_the_file_says(experiment: Experiment, arm: Arm, name: str, fingerprint: str) -> None:
    """Raises UserError where a result was made otherwise than the file has it now."""
    result, parent = arm.results[name], experiment.parent(name)
    expected: dict[str, Any] = {
        "section": asked(experiment.stage(name, arm.condition)),
        "tokenizer": fingerprint,
    }
    expected["condition"] = arm.condition
    if experiment.kind(name) != "prepare":  # which all seeds share
        expected["seed"] = arm.seed  # a copied directory would count one run twice
    actual = {key: result.identity.get(key) for key in expected}
    differs = differences(actual, expected) if actual != expected else []
    known = arm.results | arm.above
    made_of = {parent: result.identity.get("parent")} if parent else {}
    made_of |= {
        read.stage: result.identity.get("reads", {}).get(read.stage) for read in experiment.reads(name)
    }
    there = {other: known[other].identity for other in made_of if other in known and known[other].identity}
    differs += [f"'{other}' was made anew since" for other in there if made_of[other] != digest(there[other])]
    if differs:
        message = f"made otherwise than {experiment.path} says ({'; '.join(differs)})"
        raise UserError(f"{result.directory}: {message}; rerun it with --overwrite, or undo the change")
    if gone := [other for other in made_of if other not in there]:
        result.state, result.detail = "unverified", f"'{gone[0]}' is gone, so nothing vouches for it"


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


# --- whether it belongs together ----------------------------------------------------------------------------


def _agree(arms: list[Arm], swept: str | None) -> None:
    """What pairing rests on: the same budgets and data in every arm, those of its ancestors too.

    But for the learning rate of a `swept` stage, which is held against what was chosen for its condition.
    """
    first: dict[tuple, tuple[str, object]] = {}
    for arm in arms:
        for name, result in (arm.results | arm.above).items():
            for key in ("section", "data") if result.identity else ():
                own = result.identity[key]
                if (name, key) == (swept, "section"):
                    own = {inner: value for inner, value in own.items() if inner != "lr"}
                other, expected = first.setdefault((name, key), (arm.name, own))
                if own != expected:
                    differs = "; ".join(differences(expected, own))
                    raise UserError(
                        f"{name}: {other} and {arm.name} disagree in {key} ({differs}); rerun one of them"
                    )
