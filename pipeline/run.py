"""A stage at work in its locked directory."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import sha256
from pipeline.identity import section
from pipeline.progress import Bar
from pipeline.provenance import hardware
from pipeline.results import StageFile, write_result
from pipeline.world import RANK


@dataclass
class Run:
    experiment: Experiment
    condition: str
    seed: int
    name: str
    spec: Any
    dir: Path
    identity: dict
    parent: Path | None
    parent_record: dict
    record: dict  # of this start, and under `earlier` of those that were interrupted
    finished: bool = False

    @property
    def label(self) -> str:
        return f"{self.condition}-s{self.seed} {self.name}"

    def seconds(self) -> float:
        """Since this start."""
        return round(time.time() - self.record["started"], 3)

    def log(self, **metrics: Any) -> None:
        """Append one line to metrics.jsonl, stamped with the seconds since the start. Raises ValueError on NaN."""
        if RANK == 0:
            line = json.dumps({**metrics, "seconds": self.seconds()}, allow_nan=False)
            with open(self.dir / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def bar(self, total: int, unit: str, done: int = 0) -> Bar:
        """A progress bar from `done` to `total`, and the same in progress.json for `status`."""
        return Bar(self.dir, self.label, total, unit, done)

    def card(self) -> str:
        """A model card: what made the model, in words and as its resolved section."""
        arm = {
            "experiment": self.experiment.name,
            "condition": self.condition,
            "seed": self.seed,
            "stage": self.name,
        }
        more = {"vocabulary": self.experiment.vocabulary, "commit": self.record["commit"]}
        lines = "\n".join(f"- {key}: {value}" for key, value in (arm | more).items())
        title = " ".join(map(str, arm.values()))
        head = f"---\nlibrary_name: transformers\nlicense: mit\n---\n\n# {title}\n\n{lines}\n\n"
        made_by = json.dumps(section(self.spec), indent=1)
        return f"{head}Made by this section of its experiment file:\n\n```json\n{made_by}\n```\n"

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raises UserError that names a key of the stage."""
        raise UserError(f"{self.experiment.path}: stages.{self.name}.{key}: {why}")

    def check_precision(self) -> None:
        """Raises UserError for half precision without a GPU, so that no large model ends on a CPU unnoticed."""
        if self.spec.precision == "bf16":
            import torch

            if not torch.cuda.is_available():
                self.refuse(
                    "precision", "bf16 needs a GPU and there is none here; set fp32 to train on a CPU"
                )

    def finish(self, outputs: list[str], **record: Any) -> None:
        """Hash the outputs and declare the stage done. `record` adds tokens, examples, FLOPs and the like."""
        self.finished = True
        if RANK:
            return
        identity = self.identity | {"outputs": {name: sha256(self.dir / name) for name in sorted(outputs)}}
        own = {"path": str(self.dir), "experiment": self.experiment.name, "stage": self.name}
        now = {"seconds": self.seconds(), **hardware()}
        write_result(self.dir / "stage.json", StageFile(identity, own | self.record | now | record))
        for leftover in ("progress.json", "started.json"):
            (self.dir / leftover).unlink(missing_ok=True)
