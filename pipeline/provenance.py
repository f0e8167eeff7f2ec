"""What made a result: commit, versions, hardware; for people, nothing is compared with it."""

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


def provenance(started: float) -> dict:
    """What made a result, for people; nothing is compared with it."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    packages = ("torch", "trl", "transformers", "datasets", "tiktoken", "numpy")
    installed = {
        p.metadata["Name"]: p.version
        for p in importlib.metadata.distributions()
        if p.metadata["Name"] in packages
    }
    torch = sys.modules.get("torch")
    return {
        "commit": git("rev-parse", "HEAD"),
        "source": source_hash(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": round(started, 3),
        "seconds": round(time.time() - started, 3),
        "host": socket.gethostname(),
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "device": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu",
        "world_size": world.WORLD,
        "versions": installed,
    }


def source_hash() -> str:
    """SHA-256 of the pipeline's code, tests apart: two results of one hash were made by the same program."""
    folders = [
        ROOT,
        *(ROOT / name for name in ("tokenizer", "tokenizer/vocabularies", "pretrain", "sft", "rl", "eval")),
    ]
    files = sorted(path for folder in folders for path in folder.glob("*.py"))
    return digest([[str(path.relative_to(ROOT)), sha256(path)] for path in files])[:16]
