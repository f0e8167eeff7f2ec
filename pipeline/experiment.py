"""An experiment file as a checked experiment: read, merged, resolved."""

import argparse
import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline import sweep, yaml_file
from pipeline.checks import check
from pipeline.design import Experiment
from pipeline.errors import UserError
from pipeline.files import runs_dir
from pipeline.kinds import KINDS, Spec
from pipeline.sections import ConditionSection, Phase, ProblemSet, fields_of

__all__ = ["Experiment", "add_experiment_arguments", "load"]

OWN = ("name", "path")  # what an experiment has beside the keys of its file
KEYS = [key for key in fields_of(Experiment) if key not in OWN]
IN_STAGES = {name: kind for name, kind in KINDS.items() if "run" in fields_of(kind.section)}
NESTED = [*fields_of(Phase), *fields_of(ProblemSet), *fields_of(ConditionSection)]  # keys further down


def load(path: str | os.PathLike, sets: Iterable[str] = (), name: str | None = None) -> Experiment:
    """The checked experiment of a file. `sets` need a new `name`; the resolved file is then saved in runs/NAME/.

    Raises UserError for a missing file, unknown key, wrong type, impossible value, or a stage that cannot follow
    its parent.
    """
    path, sets = Path(path), list(sets)
    if sets and not name:
        raise UserError(
            f"--set {sets[0]}: changes the experiment, so it needs a name of its own: add --name NEW"
        )
    content = yaml_file.resolve(path)
    for assignment in sets:
        yaml_file.assign(content, assignment, KEYS)
    experiment = _build(content, path.stem if name is None else name, path)
    sweep.check_choice(content, experiment.name)
    if name:
        experiment.path = str(_save(content, name))
    return experiment


def sweep_of(experiment: Experiment) -> list[Experiment]:
    """The experiments of its sweep, one for each value, their files saved in RUNS."""
    found = []
    for name, content in sweep.variants(yaml_file.resolve(Path(experiment.path)), experiment.name):
        found.append(_build(content, name, Path(experiment.path)))
        found[-1].path = str(_save(content, name))
    return found


def _save(content: dict, name: str) -> Path:
    """Write the resolved file of an experiment made by --set. A name is taken once a stage of it is finished."""
    saved = runs_dir() / name / f"{name}.yaml"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if saved.exists():
        if saved.read_text(encoding="utf-8") == text:
            return saved
        if any(saved.parent.glob("*/*/stage.json")):
            raise UserError(
                f"{saved}: holds another experiment of that name; choose another name, or remove it"
            )
    saved.parent.mkdir(parents=True, exist_ok=True)
    aside = saved.with_name(f".{saved.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, saved)  # at once: other ranks may be reading it
    return saved


def _build(content: dict, name: str, path: Path) -> Experiment:
    for key in OWN:
        if key in content:
            message = "unknown key; remove it: an experiment is named by its file, or by --name"
            raise UserError(f"{path}: {key}: {message}")
    content = {"tokenizer": {}, **content, "name": name, "path": str(path)}
    experiment = _parse(Experiment, content, f"{path}: ")
    experiment.stages = {key: _stage(key, value, path) for key, value in experiment.stages.items()}
    check(experiment)
    return experiment


def _stage(name: str, section: Any, path: Path) -> Spec:
    kind = section.get("run") if isinstance(section, dict) else None
    if not isinstance(kind, str) or kind not in IN_STAGES:
        there = ", ".join(IN_STAGES)
        raise UserError(f"{path}: stages.{name}.run: must be one of {there}, not {json.dumps(kind)[:60]}")
    return _parse(IN_STAGES[kind].section, section, f"{path}: stages.{name}.")


def _parse(schema: Any, content: Any, where: str) -> Any:
    """`content` as `schema`, or one line that names the file, the key and what is wrong with it."""
    try:
        # As JSON, because there strict means what a person means: an object may become a dataclass, "3" no number.
        return TypeAdapter(schema).validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UserError(f"{where}{_explain(schema, error.errors(include_url=False)[0])}") from None
    except TypeError:
        raise UserError(f"{where}a key is a date or a list; keys are words") from None


def _explain(schema: Any, error: Any) -> str:
    *parents, key = [str(part)[:60] for part in error["loc"]] or ["?"]
    name = ".".join([*parents, key])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = fields_of(schema)
        known = NESTED if parents else [field.alias or name for name, field in fields.items()]
        near = difflib.get_close_matches(key, known, 1)
        return f"{name}: unknown key" + (f", did you mean '{near[0]}'?" if near else "; remove it")
    if error["type"] in ("missing", "missing_argument"):
        return f"{name}: is missing; write it out"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name}: {message}, not {json.dumps(error['input'], default=str)[:60]}"


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="the experiment's YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key; needs --name"
    )
    parser.add_argument("--name", metavar="NEW", help="the name of the changed experiment")
