"""What decides a stage's result: its identity, which alone is hashed and compared."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import hooks, sample
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import arm_dir, digest, read_json, runs_dir
from pipeline.kinds import Spec
from pipeline.rows import source_digests, sources


def section(spec: Spec) -> dict:
    """A stage's resolved section as plain JSON values."""
    return json.loads(json.dumps(asdict(spec)))


def asked(spec: Spec) -> dict:
    """A section for an identity: without the keys that have their default, so that a new key with a default
    invalidates nothing that is there. A default that has been published must therefore never change."""
    fields = type(spec).__pydantic_fields__
    default = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    return {name: value for name, value in section(spec).items() if getattr(spec, name) != default[name]}


def stage_dir(experiment: Experiment, condition: str, seed: int, name: str) -> Path:
    """Where a stage lands. Prepared data is shared by seeds and experiments, so its identity names it."""
    if "/" in name:
        other, name = name.split("/", 1)
        return arm_dir(other, condition, seed) / name
    if experiment.kind(name) == "prepare":
        identity = expected_identity(experiment, condition, seed, name)
        dataset = re.sub(r"[^A-Za-z0-9]+", "-", Path(experiment.stages[name].data).stem).strip("-").lower()
        return runs_dir() / "data" / f"{dataset}-{condition}-{digest(identity)[:10]}"
    return arm_dir(experiment.name, condition, seed) / name


def expected_identity(experiment: Experiment, condition: str, seed: int, name: str) -> dict:
    """The identity that a stage will have, but for its outputs. Raises UserError if its parent is not finished."""
    spec = experiment.stage(name)
    if spec is None:
        raise UserError(f"{experiment.path}: eval: is missing, so there is nothing to evaluate; write it out")
    content = asked(spec)
    identity = {
        "kind": experiment.kind(name),
        "section": content,
        "condition": condition,
        "tokenizer": hooks.tokenizer().Condition.of(experiment, condition).fingerprint(),
        "data": {},
    }
    if identity["kind"] != "prepare":
        identity["seed"] = seed
    for source, config, split in sources(content):
        key = ":".join(filter(None, (source, config, split)))
        identity["data"][key] = (
            f"sample-{sample.VERSION}" if source == "sample" else source_digests(source, config, split)
        )
    if content.get("drills"):
        identity["data"]["drills"] = f"sample-{sample.VERSION}"
    if parent := experiment.parent(name):
        identity["parent"] = _parent_hash(experiment, condition, seed, name, parent, identity["tokenizer"])
    return identity


def _parent_hash(
    experiment: Experiment, condition: str, seed: int, name: str, parent: str, tokenizer: str
) -> str:
    directory = stage_dir(experiment, condition, seed, parent)
    done = read_json(directory / "stage.json")
    if done is None:
        kind = experiment.kind(parent) if "/" not in parent else "arm"
        words = f"{experiment.path} {condition} {seed}" + (
            f" {parent}" if kind in ("sft", "grpo", "eval") else ""
        )
        raise UserError(
            f"{directory}: '{parent}' is not finished and {name} needs it; run: bash scripts/{kind}.sh {words}"
        )
    identity = done["identity"]
    if identity["condition"] != condition or identity.get("seed", seed) != seed:
        was = f"{identity['condition']} seed {identity.get('seed')}"
        raise UserError(
            f"{directory}: holds '{parent}' of {was}, not of {condition} seed {seed}; remove it and rerun {parent}"
        )
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
