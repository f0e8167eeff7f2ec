"""What decides a stage's result: its identity, which alone is hashed and compared.

It leaves out, at every depth, the operational keys and those that have their default: a new key with a default
invalidates nothing that is there, and a default that has been published must never change. What stands behind a
*name* (a chat template, a reward set, a task's way to grade) carries a `VERSION` in its module; the row of the kind
in pipeline.kinds says which modules count.
"""

import contextlib
import json
import re
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from pipeline import sample
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import arm_dir, digest, runs_dir
from pipeline.hooks import fingerprint, hook
from pipeline.kinds import KINDS, Spec
from pipeline.results import StageFile, read_result
from pipeline.rows import source_digests
from pipeline.sections import OPERATIONAL, fields_of, sources


def section(spec: Any) -> dict:
    """A stage's resolved section as plain JSON values."""
    return json.loads(json.dumps(asdict(spec)))


def asked(spec: Spec) -> dict:
    """A section as it stands in an identity."""
    return json.loads(json.dumps(_decisive(spec)))


def operational(spec: Spec) -> dict:
    """The operational keys of a section, for its record."""
    return {
        name: getattr(spec, name) for name, field in fields_of(spec).items() if OPERATIONAL in field.metadata
    }


def _decisive(value: Any) -> Any:
    if is_dataclass(value):
        kept = {
            name: getattr(value, name)
            for name, field in fields_of(value).items()
            if not _left_out(value, name, field)
        }
        return {name: _decisive(each) for name, each in kept.items()}
    if isinstance(value, dict):
        return {key: _decisive(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_decisive(each) for each in value]
    return value


def _left_out(spec: Any, name: str, field: Any) -> bool:
    if OPERATIONAL in field.metadata:
        return True
    return not field.is_required() and getattr(spec, name) == field.get_default(call_default_factory=True)


def stage_dir(experiment: Experiment, condition: str, seed: int, name: str) -> Path:
    """Where a stage lands. What seeds and experiments share is named by its identity."""
    if "/" in name:
        other, name = name.split("/", 1)
        return arm_dir(other, condition, seed) / name
    if KINDS[experiment.kind(name)].is_shared:
        identity = expected_identity(experiment, condition, seed, name)
        data = re.sub(r"[^A-Za-z0-9]+", "-", Path(experiment.stages[name].data).stem).strip("-").lower()[:64]
        return runs_dir() / "data" / f"{data}-{condition}-{digest(identity)[:10]}"
    return arm_dir(experiment.name, condition, seed) / name


def expected_identity(
    experiment: Experiment, condition: str, seed: int, name: str, fetch: bool = False
) -> dict:
    """The identity that a stage will have, but for its outputs. Raises UserError if its parent is not finished.

    `fetch`: public weights that are not here are fetched.
    """
    identity = own_identity(experiment, condition, seed, name)
    identity["data"] = data_digests(experiment, name, fetch)
    return identity | _made_of(experiment, condition, seed, name, identity["tokenizer"])


def own_identity(experiment: Experiment, condition: str, seed: int, name: str) -> dict:
    """The part of an identity that the experiment and the code alone decide."""
    kind = KINDS[experiment.kind(name)]
    identity: dict = {
        "kind": experiment.kind(name),
        "section": asked(experiment.stage(name, condition)),
        "condition": condition,
        "tokenizer": fingerprint(experiment, condition),
    }
    if kind.versions:
        identity["versions"] = {module: hook(f"{module}:VERSION") for module in kind.versions}
    if not kind.is_shared or identity["section"].get("corpus") == "seed":
        identity["seed"] = seed
    return identity


def data_digests(experiment: Experiment, name: str, fetch: bool = False) -> dict:
    """The SHA-256 of all that a stage reads beside its parent. Raises UserError where it is not there."""
    spec, digests = experiment.stage(name), {}
    for source, config, split in sources(spec):
        key = ":".join(filter(None, (source, config, split)))
        generated = source == "sample"
        digests[key] = f"sample-{sample.VERSION}" if generated else source_digests(source, config, split)
    return digests | KINDS[experiment.kind(name)].made_of(spec, fetch)


def differs(result: StageFile, experiment: Experiment, condition: str, seed: int, name: str) -> list[str]:
    """In what a finished stage was made otherwise than the file says it now.

    What it was made of may have been removed since: the parent's whole directory, or data. Then nothing
    vouches for that part, and it is taken as it stands in the result.
    """
    expected = own_identity(experiment, condition, seed, name)
    for key in ("data", "parent", "reads"):
        if key in result.identity:
            expected[key] = result.identity[key]
    with contextlib.suppress(UserError):
        expected["data"] = data_digests(experiment, name)
    above = _made_of(experiment, condition, seed, name, expected["tokenizer"], skip_gone=True)
    if "reads" in above:
        above["reads"] = expected.get("reads", {}) | above["reads"]
    return differences(result.expected, expected | above)


def _made_of(
    experiment: Experiment, condition: str, seed: int, name: str, tokenizer: str, skip_gone: bool = False
) -> dict:
    """The hashes of a stage's `parent` and, by their names, of what it `reads` beside it."""
    names = [experiment.parent(name), *(read.stage for read in experiment.reads(name))]
    hashes = {
        above: _parent_hash(experiment, condition, seed, name, above, tokenizer)
        for above in filter(None, names)
        if not (skip_gone and is_gone(experiment, condition, seed, above))
    }
    parent = {"parent": hashes[names[0]]} if names[0] in hashes else {}
    reads = {above: hashes[above] for above in names[1:] if above in hashes}
    return parent | ({"reads": reads} if reads else {})


def is_gone(experiment: Experiment, condition: str, seed: int, name: str) -> bool:
    """Whether nothing is left of a stage, or where it would lie cannot be said because its data is gone."""
    try:
        directory = stage_dir(experiment, condition, seed, name)
    except UserError:
        return True
    return not any((directory / file).exists() for file in ("stage.json", "started.json"))


def _parent_hash(
    experiment: Experiment, condition: str, seed: int, name: str, parent: str, tokenizer: str
) -> str:
    directory = stage_dir(experiment, condition, seed, parent)
    done = read_result(directory)
    if done is None:
        other, slash, _ = parent.partition("/")
        script, path = (
            ("arm", f"experiments/{other}.yaml") if slash else (experiment.kind(parent), experiment.path)
        )
        command = f"bash scripts/{script}.sh {path} {condition} {seed}" + ("" if slash else f" {parent}")
        raise UserError(f"{directory}: '{parent}' is not finished and {name} needs it; run: {command}")
    identity = done.identity
    if identity["condition"] != condition or identity.get("seed", seed) != seed:
        was = f"{identity['condition']} seed {identity.get('seed')}"
        message = f"holds '{parent}' of {was}, not of {condition} seed {seed}; remove it and rerun {parent}"
        raise UserError(f"{directory}: {message}")
    if identity["tokenizer"] != tokenizer:
        raise UserError(f"{directory}: '{parent}' was made with another tokenizer; rerun it with --overwrite")
    return digest(identity)


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """What differs between two identities, as `section.lr: 0.001 → 0.002`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{prefix}{key}.")]
    short = [json.dumps(value)[:40] for value in (old, new)]
    return [] if old == new else [f"{prefix[:-1]}: {short[0]} → {short[1]}"]
