"""The one reader and writer of stage.json and, while a stage runs, started.json; and the reader of what is beside.

Whatever a file holds, the answer is a value of the shape asked for or one line with the remedy. An identity is
held against what it should be; a record, which nothing is compared with, carries the SHA-256 of its other keys.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.files import digest, read_json, write_json

IDENTITY = {"section": dict, "condition": str, "tokenizer": str, "data": dict, "outputs": dict}
REMEDY = "remove the stage's directory and rerun it"
PROGRESS = {"done": (int, float), "total": (int, float), "unit": str, "eta": (int, float)}


class StageFile(NamedTuple):
    """A finished stage."""

    identity: dict  # what decided it, and its outputs
    record: dict  # of people's interest only; `seconds` at least

    @property
    def expected(self) -> dict:
        """The identity as it was before the outputs were known."""
        return {key: value for key, value in self.identity.items() if key != "outputs"}


def write_result(path: Path, content: StageFile) -> None:
    """Write stage.json or started.json."""
    record = json.loads(json.dumps(content.record))  # as it will be read: keys are words, and sort as such
    record["sha256"] = digest(record)
    write_json(path, {"identity": content.identity, "record": record})


def read_result(directory: Path) -> StageFile | None:
    """stage.json; None where there is none. Raises UserError where it is not a finished stage's."""
    path = directory / "stage.json"
    if (content := _stage_file(path)) is None:
        return None
    _require(content.identity, IDENTITY, path)
    _require(content.record, {"seconds": (int, float)}, path)
    if not all(isinstance(value, str) for value in content.identity["outputs"].values()):
        raise UserError(f"{path}: outputs: are not SHA-256 by name; {REMEDY}")
    return content


def read_started(directory: Path) -> StageFile | None:
    """started.json: the identity, without outputs, and the record as of its start; None where there is none."""
    return _stage_file(directory / "started.json")


def read_progress(directory: Path) -> dict | None:
    return _read(directory / "progress.json", PROGRESS)


def read_failure(directory: Path) -> dict | None:
    return _read(directory / "failed.json", {"error": str})


def _stage_file(path: Path) -> StageFile | None:
    if (content := _read(path, {"identity": dict, "record": dict})) is None:
        return None
    told = content["record"].pop("sha256", None)  # earlier versions wrote none
    if content.keys() != {"identity", "record"} or told not in (None, digest(content["record"])):
        raise UserError(f"{path}: damaged since it was written; {REMEDY}")
    return StageFile(**content)


def _read(path: Path, shape: dict[str, Any]) -> dict | None:
    if (content := read_json(path)) is None and not path.exists():
        return None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a stage's; {REMEDY}")
    _require(content, shape, path)
    return content


def _require(content: dict, shape: dict[str, Any], path: Path) -> None:
    for key, kinds in shape.items():
        if key not in content:
            raise UserError(f"{path}: holds no {key}; {REMEDY}")
        if not isinstance(content[key], kinds) or isinstance(content[key], bool):
            raise UserError(f"{path}: {key}: is {str(content[key])[:40]!r}, which no stage writes; {REMEDY}")
