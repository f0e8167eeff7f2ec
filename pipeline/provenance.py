"""What makes a result: commit, source, versions, hardware; for people, nothing is compared with it."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

from pipeline import world
from pipeline.files import ROOT, digest, sha256

PACKAGES = ("torch", "trl", "transformers", "datasets", "tiktoken", "numpy")
APART = {
    "tests",
    "runs",
    "data",
    "shared",
}  # folders without code that makes results; nor has any that opens with a dot


def provenance() -> dict:
    """As of now, which has to be the start of a stage: what is committed while it runs has made nothing of it."""
    return code() | {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": round(time.time(), 3),
        "host": socket.gethostname(),
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "cores": os.cpu_count(),
        "versions": _versions(),
    }


@functools.cache  # a process goes on with what it has imported
def code() -> dict:
    """Which code this process runs: what stands on disk when it is first asked."""
    changes = _git("status", "--porcelain")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": None if changes is None else bool(changes),
        "source": source_hash(),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def hardware() -> dict:
    """What a stage has worked on, by its end: it may have left processes out, and imported no torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": None, "device": "cpu", "world_size": world.WORLD}
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    device = torch.cuda.get_device_name() if gpu else "cpu"
    return {"threads": torch.get_num_threads(), "device": device, "world_size": world.WORLD}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def source_hash() -> str:
    """SHA-256 of the project's code, tests apart: two results of one hash were made by the same program."""
    files = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in APART and not name.startswith((".", "__"))]
        files += [Path(folder, name) for name in names if name.endswith((".py", ".sh", ".sbatch"))]
    return digest([[path.relative_to(ROOT).as_posix(), sha256(path)] for path in sorted(files)])[:16]
