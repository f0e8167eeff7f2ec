"""Where things are, and how JSON is written, read and hashed."""

import functools
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.world import RANK

ROOT = Path(__file__).resolve().parents[1]


def runs_dir() -> Path:
    return Path(os.environ.get("RUNS") or ROOT / "runs")


def data_dir() -> Path:
    return Path(os.environ.get("DATA_DIR") or ROOT / "data")


def arm_dir(experiment: str, condition: str, seed: int) -> Path:
    return runs_dir() / experiment / f"{condition}-s{seed}"


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON atomically: aside, flushed to disk, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def obey_umask(path: Path) -> None:
    """Give a file the mode that open() would: safetensors 0.8.0 writes 0600 (huggingface/safetensors#782)."""
    os.umask(umask := os.umask(0))
    path.chmod(0o666 & ~umask)


def read_json(path: Path) -> Any:
    """The content of a file of strict JSON; None where there is none. Raises UserError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read: {error}; remove the stage's directory and rerun it"
        ) from None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number of JSON's")
    return value


def forget_lines(path: Path, step: int, place: Callable[[dict], float] = itemgetter("step")) -> None:
    """Remove from a file of JSON lines what a killed run wrote after `step`, so that no step stands there twice.

    `place` tells where among the steps a line belongs. A line that cannot be read (a power loss leaves zeros) is
    removed too, and said: the checkpoint that one goes on from is whole all the same.
    """
    if RANK or not path.exists():
        return
    kept, damaged = [], 0
    for line in path.read_bytes().split(b"\n")[:-1]:  # without one that the kill cut short
        try:
            if place(json.loads(line)) <= step:
                kept.append(line + b"\n")
        except (ValueError, TypeError, KeyError):
            damaged += 1
    if damaged:
        print(f"{path}: {damaged} lines cannot be read and are removed", file=sys.stderr)
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(b"".join(kept))
    os.replace(aside, path)


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def cached_sha256(path: Path) -> str:
    """The same, read once in a process for as long as the file's size and time of change stay."""
    try:
        about = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _sha256_of(path, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=1000)
def _sha256_of(path: Path, size: int, changed: int) -> str:
    return sha256(path)
