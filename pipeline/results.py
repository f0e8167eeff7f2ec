"""The one reader of what a stage leaves on disk: stage.json, and while it runs started, progress and failed.json.

Whatever a file holds, the answer is a value of the shape asked for or one line with the remedy.
"""

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.files import read_json

IDENTITY = {"section": dict, "condition": str, "tokenizer": str, "data": dict, "outputs": dict}
PROGRESS = {"done": (int, float), "total": (int, float), "unit": str, "eta": (int, float)}


class StageFile(NamedTuple):
    """A finished stage."""

    identity: dict  # what decided it, and its outputs
    record: dict  # of people's interest only; `seconds` at least

    @property
    def expected(self) -> dict:
        """The identity as it was before the outputs were known."""
        return {key: value for key, value in self.identity.items() if key != "outputs"}


def read_result(directory: Path) -> StageFile | None:
    """stage.json; None where there is none. Raises UserError where it is not a finished stage's."""
    path = directory / "stage.json"
    if (content := read_json(path)) is None:
        return None
    identity, record = _parts(content, path)
    _require(identity, IDENTITY, path)
    _require(record, {"seconds": (int, float)}, path)
    if not all(isinstance(value, str) for value in identity["outputs"].values()):
        raise UserError(f"{path}: outputs: are not SHA-256 by name; {REMEDY}")
    return StageFile(identity, record)


def read_started(directory: Path) -> StageFile | None:
    """started.json: the identity, without outputs, and the record as of its start; None where there is none."""
    path = directory / "started.json"
    if (content := read_json(path)) is None:
        return None
    return StageFile(*_parts(content, path))


def read_progress(directory: Path) -> dict | None:
    return _read(directory / "progress.json", PROGRESS)


def read_failure(directory: Path) -> dict | None:
    return _read(directory / "failed.json", {"error": str})


REMEDY = "remove the stage's directory and rerun it"


def _parts(content: Any, path: Path) -> tuple[dict, dict]:
    if not isinstance(content, dict) or content.keys() != {"identity", "record"}:
        raise UserError(f"{path}: is not a stage's; {REMEDY}")
    _require(content, {"identity": dict, "record": dict}, path)
    return content["identity"], content["record"]


def _read(path: Path, shape: dict[str, Any]) -> dict | None:
    if (content := read_json(path)) is None:
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
