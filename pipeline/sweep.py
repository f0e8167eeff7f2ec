"""A small sweep of a stage's learning rate: each condition at its own best, by one rule, on seeds that are not judged.

    sweep: {stage: pretrain, lr: [5e-3, 1e-2, 2e-2], seeds: [101, 102], after: export, metric: word_problems}

Every value is first tried with all conditions and the sweep's seeds, as an experiment of its own (NAME-pretrain-lr-0.005)
that `plan` prints the arms of. `python -m eval.verdict.sweep FILE` then takes, for each condition, the value with the best mean, and
writes it with all numbers into RUNS/NAME/sweep.json. The judged arms train with what stands there: a value that a
condition has is a recorded result, and the file has no place to write one.
"""

import copy
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import digest, read_json, runs_dir
from pipeline.kinds import KINDS
from pipeline.sections import OPERATIONAL, Eval, fields_of


def variants(content: dict, name: str) -> list[tuple[str, dict]]:
    """(name, content) of the experiment of each value; `content` is the whole experiment's, resolved."""
    return [_variant(content, name, lr) for lr in content["sweep"]["lr"]]


def _variant(content: dict, name: str, lr: float) -> tuple[str, dict]:
    asked, own = content["sweep"], copy.deepcopy(content)
    line, above = [], asked["after"]
    while above is not None:
        line.append(above)
        above = own["stages"][above].get("from")
    own["stages"] = {key: section for key, section in own["stages"].items() if key in line}
    own["stages"][asked["stage"]]["lr"] = lr
    own["seeds"] = asked["seeds"]
    for condition in own["conditions"].values():
        condition.pop("seeds", None)
    for key in ("sweep", "compare"):
        own.pop(key, None)
    for key in ("samples", "sampled", "verifier", "temperature"):  # beside the greedy answers, which decide
        (own.get("eval") or {}).pop(key, None)
    return f"{name}-{asked['stage']}-lr-{lr:g}", own


def path(name: str) -> Path:
    """Where the choice of an experiment is."""
    return runs_dir() / name / "sweep.json"


def fingerprint(content: dict, name: str) -> str:
    """SHA-256 of what decides the results of the sweep's arms."""
    _, first = variants(content, name)[0]
    del first["stages"][content["sweep"]["stage"]]["lr"]
    stages = {
        key: _decisive(section, KINDS[section["run"]].section) for key, section in first["stages"].items()
    }
    rest = {key: value for key, value in first.items() if key not in ("stages", "eval", "plan")}
    return digest([content["sweep"], rest, stages, _decisive(first.get("eval") or {}, Eval)])


def _decisive(section: dict, kind: Any) -> dict:
    """A section as the file has it, without its operational keys."""
    operational = {key for key, field in fields_of(kind).items() if OPERATIONAL in field.metadata}
    return {key: value for key, value in section.items() if key not in operational}


def read(name: str) -> dict[str, Any] | None:
    """The choice of an experiment, and what it was made by; None before it."""
    return read_json(path(name))


def check_choice(content: dict, name: str) -> None:
    """Raises UserError where a choice was made for another file than this."""
    done = read(name) if content.get("sweep") else None
    if done and done["fingerprint"] != fingerprint(content, name):
        raise UserError(
            f"{path(name)}: was chosen by another sweep; undo the change, or remove it to choose anew"
        )
