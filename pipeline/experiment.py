"""Read an experiment file, resolve what it extends, and refuse what cannot run."""

import argparse
import difflib
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from pipeline import hooks
from pipeline.errors import UserError
from pipeline.files import ROOT, runs_dir
from pipeline.kinds import CHECKS, KINDS, MODEL_KINDS, PARENT_KINDS, Spec
from pipeline.sections import Compare, ConditionSection, Count0, Eval, Name, Plan, Tokenizer, _strict


@_strict
class Experiment:
    path: str
    name: Name
    vocabulary: Name
    tokenizer: Tokenizer
    conditions: dict[Name, ConditionSection] = Field(min_length=1)
    seeds: list[Count0] = Field(min_length=1)
    stages: dict[Name, Any] = Field(min_length=1)
    eval: Eval | None = None
    compare: Compare | None = None
    plan: Plan | None = None

    def seeds_of(self, condition: str) -> list[int]:
        return self.seeds[: self.conditions[condition].seeds]

    def arms(self) -> list[tuple[str, int]]:
        """(condition, seed), seed by seed, so that an interrupted study is still paired."""
        return [(c, s) for s in self.seeds for c in self.conditions if s in self.seeds_of(c)]

    def stage(self, name: str) -> Spec:
        """A stage's section; `eval_X` is the experiment's `eval`, for the model of X."""
        return self.eval if name not in self.stages and name.startswith("eval_") else self.stages[name]

    def kind(self, name: str) -> str:
        return self.stages[name].run if name in self.stages else "eval"

    def stage_names(self) -> list[str]:
        """Every stage of an arm in running order, each model's evaluation behind it."""
        names = []
        for name, spec in self.stages.items():
            names.append(name)
            if self.eval and spec.run in MODEL_KINDS:
                names.append(f"eval_{name}")
        return names

    def parent(self, name: str) -> str | None:
        """The parent of a stage, `EXPERIMENT/STAGE` if it is another experiment's."""
        return (
            name.removeprefix("eval_")
            if name not in self.stages
            else getattr(self.stages[name], "parent", None)
        )

    def ancestor(self, name: str | None, kind: str) -> str | None:
        """The nearest stage of `kind` at or above `name` in this experiment; None if there is none."""
        while name in self.stages or name and name.startswith("eval_"):
            if self.kind(name) == kind:
                return name
            name = self.parent(name)
        return None


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python, and a key written twice is an error."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is written twice", node.start_mark
                )
        return node


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _read(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in (ROOT / "experiments").glob("*.yaml")))
        raise UserError(f"{path}: no such experiment file; experiments/ has {there}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: an experiment file is a mapping with vocabulary, conditions, seeds and stages"
        )
    return content


def _merge(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings merge, all else replaces, null removes."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = below | {key: _merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if value is not None}


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself; remove one `extends`")
    content = _read(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    return _merge(_resolve(path.parent / str(base), (*seen, path.resolve())), content)


def _set(content: dict, assignment: str) -> None:
    """Apply `stages.pretrain.lr=1e-3`; the key has to be one that the file could hold."""
    key, equals, value = assignment.partition("=")
    if not equals:
        raise UserError(f"--set {assignment}: write it as KEY=VALUE, for example stages.pretrain.lr=1e-3")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UserError(f"--set {assignment}: '{parent}' is a value and holds no keys")
    content[last] = yaml.load(value, _Loader)


def _parse(schema: Any, content: Any, where: str) -> Any:
    """`content` as `schema`, or one line that names the file, the key and what is wrong with it."""
    try:
        # As JSON, because there strict means what a person means: an object may become a dataclass, "3" no number.
        return TypeAdapter(schema).validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UserError(f"{where}{_explain(schema, error.errors(include_url=False)[0])}") from None


def _explain(schema: Any, error: dict) -> str:
    *parents, key = [str(part) for part in error["loc"]] or ["?"]
    name = ".".join([*parents, key])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = getattr(schema, "__pydantic_fields__", {})
        known = [field.alias or name for name, field in fields.items()] if not parents else []
        near = difflib.get_close_matches(key, known, 1)
        return f"{name}: unknown key" + (f", did you mean '{near[0]}'?" if near else "; remove it")
    if error["type"] in ("missing", "missing_argument"):
        return f"{name}: is missing; write it out"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name}: {message}, not {json.dumps(error['input'], default=str)[:60]}"


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
    content = _resolve(path)
    for assignment in sets:
        _set(content, assignment)
    experiment = _build(content, name or path.stem, path)
    if name:
        saved = runs_dir() / name / f"{name}.yaml"
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        if saved.exists() and saved.read_text() != text:
            raise UserError(f"{saved}: holds another experiment of that name; choose another --name")
        if not saved.exists():
            saved.parent.mkdir(parents=True, exist_ok=True)
            aside = saved.with_name(f".{saved.name}.{os.getpid()}")
            aside.write_text(text)
            os.replace(aside, saved)  # at once: other ranks may be reading it
        experiment.path = str(saved)
    return experiment


def _build(content: dict, name: str, path: Path) -> Experiment:
    for key in ("name", "path"):
        if key in content:
            raise UserError(
                f"{path}: {key}: unknown key; remove it: an experiment is named by its file, or by --name"
            )
    content = {"tokenizer": {}, **content, "name": name, "path": str(path)}
    experiment = _parse(Experiment, content, f"{path}: ")
    experiment.stages = {key: _stage(key, value, path) for key, value in experiment.stages.items()}
    _check(experiment)
    return experiment


def _stage(name: str, section: Any, path: Path) -> Spec:
    kind = section.get("run") if isinstance(section, dict) else None
    if kind not in KINDS:
        raise UserError(
            f"{path}: stages.{name}.run: must be one of {', '.join(KINDS)}, not {json.dumps(kind)}"
        )
    return _parse(KINDS[kind], section, f"{path}: stages.{name}.")


def _check(experiment: Experiment) -> None:
    """What types cannot say."""

    def refuse(key: str, why: str) -> None:
        raise UserError(f"{experiment.path}: {key}: {why}")

    vocabularies = sorted(
        p.stem for p in (ROOT / "tokenizer/vocabularies").glob("*.py") if p.stem != "__init__"
    )
    if experiment.vocabulary not in vocabularies:
        refuse(
            "vocabulary",
            f"no tokenizer/vocabularies/{experiment.vocabulary}.py; there are {', '.join(vocabularies)}",
        )
    if len(set(experiment.seeds)) < len(experiment.seeds):
        refuse("seeds", "a seed is named twice")
    for name, condition in experiment.conditions.items():
        if (condition.seeds or 0) > len(experiment.seeds):
            refuse(
                f"conditions.{name}.seeds", f"{condition.seeds} of {len(experiment.seeds)} seeds; add seeds"
            )
    earlier: list[str] = []
    for name, spec in experiment.stages.items():
        if name.startswith("eval_"):
            refuse(f"stages.{name}", "names that open with eval_ are the evaluations'; choose another")
        parent = getattr(spec, "parent", None)
        if parent is not None and "/" not in parent:
            if parent not in experiment.stages:
                refuse(
                    f"stages.{name}.from",
                    f"no stage '{parent}'; earlier stages are {', '.join(earlier) or 'none'}",
                )
            if parent not in earlier:
                refuse(f"stages.{name}.from", f"'{parent}' comes later in the file; move it before {name}")
            kind = experiment.stages[parent].run
            if kind not in PARENT_KINDS[spec.run]:
                refuse(f"stages.{name}.from", f"a {spec.run} stage cannot follow '{parent}', a {kind} stage")
        CHECKS.get(spec.run, lambda spec, refuse: None)(
            spec, lambda key, why: refuse(f"stages.{name}.{key}", why)
        )
        if spec.run == "grpo":
            _check_fact_bonus(experiment, name, refuse)
        _check_context(experiment, name, refuse)
        earlier.append(name)
    if experiment.compare:
        _check_compare(experiment, experiment.compare, refuse)


def _check_context(experiment: Experiment, name: str, refuse: Callable) -> None:
    """What a stage and its evaluation ask for has to fit the context that the model was pretrained with."""
    spec, pretrained = experiment.stages[name], experiment.ancestor(name, "pretrain")
    if pretrained is None or spec.run not in MODEL_KINDS:
        return
    context = experiment.stages[pretrained].block_size
    if spec.run == "sft" and spec.max_length > context:
        refuse(
            f"stages.{name}.max_length",
            f"{spec.max_length} is more than {pretrained}'s block_size of {context}",
        )
    asked = [(f"stages.{name}.max_new_tokens", getattr(spec, "max_new_tokens", 0))]
    asked += [("eval.max_new_tokens", experiment.eval.max_new_tokens)] if experiment.eval else []
    for key, tokens in asked:
        if tokens >= context:
            refuse(key, f"{tokens} leave no room for a question in {pretrained}'s block_size of {context}")


def _check_compare(experiment: Experiment, compare: Compare, refuse: Callable) -> None:
    for treated, control in (compare.contrast, *compare.secondary):
        for condition in (treated, control):
            if condition not in experiment.conditions:
                refuse("compare", f"no condition '{condition}'; there are {', '.join(experiment.conditions)}")
        if treated == control:
            refuse("compare", f"contrasts '{treated}' with itself; name two conditions")
    if compare.stage not in experiment.stages or experiment.kind(compare.stage) not in MODEL_KINDS:
        refuse("compare.stage", f"'{compare.stage}' is not a stage with a model")
    metrics = [*experiment.eval.sets] if experiment.eval else []
    if experiment.eval and experiment.eval.probes:
        kinds = hooks.probes().probes(hooks.tokenizer().Condition.of(experiment, compare.contrast[0]))
        metrics += [f"probes.{kind}" for kind in kinds]
    if compare.metric not in metrics:
        refuse("compare.metric", f"no '{compare.metric}'; there are {', '.join(metrics)}")


def _check_fact_bonus(experiment: Experiment, name: str, refuse: Callable) -> None:
    """A bonus for facts is for conditions whose facts can all be read back."""
    for condition in experiment.conditions if experiment.stages[name].fact_bonus else ():
        if not hooks.tokenizer().Condition.of(experiment, condition).invertible:
            refuse(
                f"stages.{name}.fact_bonus",
                f"condition '{condition}' writes facts that cannot be read back; set it to 0",
            )


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="the experiment's YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key; needs --name"
    )
    parser.add_argument("--name", metavar="NEW", help="the name of the changed experiment")


def find_arm(experiment: Experiment, condition: str, seed: int) -> None:
    """Raises UserError unless the file has this condition and gives it this seed."""
    if condition not in experiment.conditions:
        there = ", ".join(experiment.conditions)
        raise UserError(f"{experiment.path}: no condition '{condition}'; there are {there}")
    if seed not in experiment.seeds_of(condition):
        there = ", ".join(map(str, experiment.seeds_of(condition)))
        raise UserError(
            f"{experiment.path}: condition '{condition}' has no seed {seed}; its seeds are {there}"
        )
