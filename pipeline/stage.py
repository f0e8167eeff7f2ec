"""The stage contract: what it means that a stage is done, and what its children may rely on.

    with stage.begin("export", argv, __doc__) as run:
        if run is not None:                 # None: done already, with this very identity
            ...                             # write into run.dir
            run.finish(["model/model.safetensors"], tokens=0)

A stage locks its directory, writes into it, and as its last act writes `stage.json` atomically. No stage.json, not
done. It holds `identity` (the stage's resolved section, condition, seed, tokenizer, the identity hashes of its
parents, the SHA-256 of its data and outputs), which alone is hashed and compared, and `record` (commit, versions,
hardware, times, tokens, FLOPs), which is only shown. A stage whose identity matches is skipped; one that differs is
refused with the differing keys named, until --overwrite moves the old directory aside.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import UserError
from pipeline.experiment import Experiment, add_experiment_arguments, find_arm, load
from pipeline.files import digest, read_json, runs_dir, sha256, write_json
from pipeline.identity import differences, expected_identity, section, stage_dir
from pipeline.kinds import SCRIPTS
from pipeline.progress import Bar
from pipeline.provenance import provenance
from pipeline.world import RANK


@dataclass
class Run:
    """A stage at work in its locked directory."""

    experiment: Experiment
    condition: str
    seed: int
    name: str
    spec: Any
    dir: Path
    identity: dict
    parent: Path | None
    parent_record: dict
    started: float = field(default_factory=time.time)
    finished: bool = False

    def log(self, **metrics: Any) -> None:
        """Append one line to metrics.jsonl, stamped with the seconds since the start. Raises ValueError on NaN."""
        if RANK == 0:
            line = json.dumps({**metrics, "seconds": round(time.time() - self.started, 3)}, allow_nan=False)
            with open(self.dir / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def bar(self, total: int, unit: str, done: int = 0) -> "Bar":
        """A progress bar from `done` to `total`, and the same in progress.json for `status`."""
        return Bar(self.dir, f"{self.condition}-s{self.seed} {self.name}", total, unit, done)

    def card(self) -> str:
        """A model card: what made the model, in words and as its resolved section."""
        done = {
            "experiment": self.experiment.name,
            "condition": self.condition,
            "seed": self.seed,
            "stage": self.name,
        }
        lines = [f"- {key}: {value}" for key, value in done.items()]
        lines += [
            f"- vocabulary: {self.experiment.vocabulary}",
            f"- commit: {provenance(self.started)['commit']}",
        ]
        section_text = json.dumps(section(self.spec), indent=1)
        head = (
            f"---\nlibrary_name: transformers\nlicense: mit\n---\n\n# {' '.join(map(str, done.values()))}\n\n"
        )
        return (
            head
            + "\n".join(lines)
            + f"\n\nMade by this section of its experiment file:\n\n```json\n{section_text}\n```\n"
        )

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
        self.identity["outputs"] = {name: sha256(self.dir / name) for name in sorted(outputs)}
        own = {"path": str(self.dir), "experiment": self.experiment.name, "stage": self.name}
        content = {"identity": self.identity, "record": own | provenance(self.started) | record}
        write_json(self.dir / "stage.json", content)
        for leftover in ("progress.json", "started.json"):
            (self.dir / leftover).unlink(missing_ok=True)


def parse(kind: str, argv: list[str] | None, doc: str | None) -> tuple[argparse.Namespace, Experiment, str]:
    """The words that every stage script takes; (arguments, experiment, stage name)."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {SCRIPTS[kind]}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_arguments(parser)
    parser.add_argument("condition", metavar="CONDITION")
    parser.add_argument("seed", metavar="SEED", type=int)
    parser.add_argument(
        "stage", metavar="STAGE", nargs="?", help="needed where the file has several of this kind"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="move a differing result aside and run again"
    )
    args = parser.parse_args(argv)
    experiment = load(args.experiment, args.set, args.name)
    find_arm(experiment, args.condition, args.seed)
    return args, experiment, _stage_name(experiment, kind, args.stage)


def _stage_name(experiment: Experiment, kind: str, name: str | None) -> str:
    names = [n.removeprefix("eval_") for n in experiment.stage_names() if experiment.kind(n) == kind]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        said = f"no {kind} stage '{name}'" if name else f"several {kind} stages, so name one"
        raise UserError(f"{experiment.path}: {said}; there are: {', '.join(names) or 'none'}")
    return f"eval_{name}" if kind == "eval" else name


@contextlib.contextmanager
def begin(
    kind: str,
    argv: list[str] | None,
    doc: str | None,
    resumable: bool = False,
    agree: Callable[[bool], bool] = lambda done: done,
) -> Iterator[Run | None]:
    """Open a stage: parse its words, check its parent, lock its directory. Yields None if it is done already.

    What an interrupted run left is cleared, unless the stage is `resumable`. `agree` gives every process rank 0's
    word whether the stage is done, once rank 0 has verified and cleared; until then none may read. Raises UserError before any work if
    the parent is unfinished, of another arm or damaged, or if the directory holds a result of another identity.
    """
    args, experiment, name = parse(kind, argv, doc)
    identity = expected_identity(experiment, args.condition, args.seed, name)
    directory = stage_dir(experiment, args.condition, args.seed, name)
    parent = experiment.parent(name)
    parent = parent and stage_dir(experiment, args.condition, args.seed, parent)
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory, wait=kind == "prepare") if RANK == 0 else contextlib.nullcontext():
        done = _is_done(directory, identity, args.overwrite)
        if RANK == 0 and not done:
            if parent:
                verify(parent)
            if args.overwrite and any((directory / name).exists() for name in ("stage.json", "started.json")):
                _move_aside(directory)
            elif not resumable:
                _clear(directory)
            (directory / "failed.json").unlink(missing_ok=True)
            write_json(directory / "started.json", identity)
        if agree(done):
            if RANK == 0:
                print(f"{args.condition}-s{args.seed} {name}: done already, skipped", file=sys.stderr)
            yield None
            return
        record = read_json(parent / "stage.json")["record"] if parent else {}
        spec = experiment.stage(name)
        run = Run(experiment, args.condition, args.seed, name, spec, directory, identity, parent, record)
        try:
            yield run
        except BaseException as error:
            if RANK == 0 and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                said = {"error": f"{type(error).__name__}: {error}", "time": time.time()}
                write_json(directory / "failed.json", said)
            raise
        if RANK == 0 and run.finished:
            print(
                f"{args.condition}-s{args.seed} {name}: done in {time.time() - run.started:.0f} s",
                file=sys.stderr,
            )


def _is_done(directory: Path, identity: dict, overwrite: bool) -> bool:
    """True if the stage is there with this identity. Raises UserError if another one is, unless overwriting."""
    done = read_json(directory / "stage.json")
    there = (
        {k: v for k, v in done["identity"].items() if k != "outputs"}
        if done
        else read_json(directory / "started.json")
    )
    if there is None or overwrite:
        return False
    if differs := differences(there, identity):
        raise UserError(
            f"{directory}: made otherwise ({'; '.join(differs)}); rerun with --overwrite, or undo the change"
        )
    return done is not None


def verify(directory: Path) -> None:
    """Raises UserError unless every output of a finished stage still has the SHA-256 it was written with."""
    for name, expected in read_json(directory / "stage.json")["identity"]["outputs"].items():
        if not (directory / name).exists() or sha256(directory / name) != expected:
            raise UserError(
                f"{directory / name}: damaged since it was written; rerun its stage with --overwrite"
            )


@contextlib.contextmanager
def _lock(directory: Path, wait: bool) -> Iterator[None]:
    """Hold the directory's lock, which the kernel releases however the process ends."""
    with open(directory / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if not wait:
                raise UserError(
                    f"{directory}: is being written by {holder}; wait for it or stop it"
                ) from None
            print(f"{directory.name}: waiting for {holder}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        job = os.environ.get("SLURM_JOB_ID")
        file.write(f"{socket.gethostname()} pid {os.getpid()}" + (f" job {job}" if job else ""))
        file.flush()
        yield


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _move_aside(directory: Path) -> None:
    """Keep the old result beside the new one, and name the children that it leaves stale."""
    done = read_json(directory / "stage.json")
    aside = directory.with_name(f"{directory.name}.old-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    aside.mkdir()
    for path in directory.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)
    print(f"{directory.name}: the old result is now {aside}", file=sys.stderr)
    if done:
        old = digest(done["identity"])
        stale = [
            p.parent
            for p in runs_dir().glob("*/*/*/stage.json")
            if read_json(p)["identity"].get("parent") == old
        ]
        if stale:
            print(
                f"stale now, to be rerun with --overwrite: {', '.join(map(str, sorted(stale)))}",
                file=sys.stderr,
            )
