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
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

import sample
from data import sha256, source_digests, sources
from experiment import (
    ROOT,
    SCRIPTS,
    Experiment,
    Spec,
    UserError,
    add_experiment_arguments,
    arm_dir,
    find_arm,
    load,
    runs_dir,
)
from tokenizer.conditions import Condition

RANK = int(os.environ.get("RANK", "0"))  # set by torchrun; rank 0 alone locks, verifies, logs and writes
WORLD = int(os.environ.get("WORLD_SIZE", "1"))  # processes, set by torchrun


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- JSON and hashes -------------------------------------------------------------------------------------------


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON atomically: aside, flushed to disk, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none. Raises UserError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}; remove the stage's directory and rerun it") from None


def forget_lines(path: Path, step: int, place: Callable[[dict], float] = itemgetter("step")) -> None:
    """Remove from a file of JSON lines what a killed run wrote after `step`, so that no step stands there twice.

    `place` tells where among the steps a line belongs.
    """
    if RANK == 0 and path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # without one that the kill cut short
        kept = [f"{line}\n" for line in lines if place(json.loads(line)) <= step]
        aside = path.with_name(f".{path.name}")
        aside.write_text("".join(kept), encoding="utf-8")
        os.replace(aside, path)


def last_checkpoint(directory: Path) -> tuple[str | None, int]:
    """The last checkpoint that transformers wrote whole into a directory, and its step; (None, 0) without any."""
    whole = [path.parent for path in directory.glob("checkpoint-*/trainer_state.json")]  # written last
    steps = {int(path.name.removeprefix("checkpoint-")): str(path) for path in whole}
    step = max(steps, default=0)
    return steps.get(step), step


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


# --- identity --------------------------------------------------------------------------------------------------


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
        "tokenizer": Condition.of(experiment, condition).fingerprint(),
        "data": {},
    }
    if identity["kind"] != "prepare":
        identity["seed"] = seed
    for source, config, split in sources(content):
        key = ":".join(filter(None, (source, config, split)))
        identity["data"][key] = f"sample-{sample.VERSION}" if source == "sample" else source_digests(source, config, split)
    if content.get("drills"):
        identity["data"]["drills"] = f"sample-{sample.VERSION}"
    if parent := experiment.parent(name):
        identity["parent"] = _parent_hash(experiment, condition, seed, name, parent, identity["tokenizer"])
    return identity


def _parent_hash(experiment: Experiment, condition: str, seed: int, name: str, parent: str, tokenizer: str) -> str:
    directory = stage_dir(experiment, condition, seed, parent)
    done = read_json(directory / "stage.json")
    if done is None:
        kind = experiment.kind(parent) if "/" not in parent else "arm"
        words = f"{experiment.path} {condition} {seed}" + (f" {parent}" if kind in ("sft", "grpo", "eval") else "")
        raise UserError(f"{directory}: '{parent}' is not finished and {name} needs it; run: bash scripts/{kind}.sh {words}")
    identity = done["identity"]
    if identity["condition"] != condition or identity.get("seed", seed) != seed:
        was = f"{identity['condition']} seed {identity.get('seed')}"
        raise UserError(f"{directory}: holds '{parent}' of {was}, not of {condition} seed {seed}; remove it and rerun {parent}")
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


# --- running a stage -------------------------------------------------------------------------------------------


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
        done = {"experiment": self.experiment.name, "condition": self.condition, "seed": self.seed, "stage": self.name}
        lines = [f"- {key}: {value}" for key, value in done.items()]
        lines += [f"- vocabulary: {self.experiment.vocabulary}", f"- commit: {provenance(self.started)['commit']}"]
        section_text = json.dumps(section(self.spec), indent=1)
        head = f"---\nlibrary_name: transformers\nlicense: mit\n---\n\n# {' '.join(map(str, done.values()))}\n\n"
        return head + "\n".join(lines) + f"\n\nMade by this section of its experiment file:\n\n```json\n{section_text}\n```\n"

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raises UserError that names a key of the stage."""
        raise UserError(f"{self.experiment.path}: stages.{self.name}.{key}: {why}")

    def check_precision(self) -> None:
        """Raises UserError for half precision without a GPU, so that no large model ends on a CPU unnoticed."""
        if self.spec.precision == "bf16":
            import torch

            if not torch.cuda.is_available():
                self.refuse("precision", "bf16 needs a GPU and there is none here; set fp32 to train on a CPU")

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
        prog=f"python -m {SCRIPTS[kind]}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_experiment_arguments(parser)
    parser.add_argument("condition", metavar="CONDITION")
    parser.add_argument("seed", metavar="SEED", type=int)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="needed where the file has several of this kind")
    parser.add_argument("--overwrite", action="store_true", help="move a differing result aside and run again")
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
def begin(kind: str, argv: list[str] | None, doc: str | None, resumable: bool = False) -> Iterator[Run | None]:
    """Open a stage: parse its words, check its parent, lock its directory. Yields None if it is done already.

    What an interrupted run left is cleared, unless the stage is `resumable`. Raises UserError before any work if
    the parent is unfinished, of another arm or damaged, or if the directory holds a result of another identity.
    """
    args, experiment, name = parse(kind, argv, doc)
    identity = expected_identity(experiment, args.condition, args.seed, name)
    directory = stage_dir(experiment, args.condition, args.seed, name)
    parent = experiment.parent(name)
    parent = parent and stage_dir(experiment, args.condition, args.seed, parent)
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory, wait=kind == "prepare") if RANK == 0 else contextlib.nullcontext():
        if _is_done(directory, identity, args.overwrite):
            if RANK == 0:
                print(f"{args.condition}-s{args.seed} {name}: done already, skipped", file=sys.stderr)
            yield None
            return
        if RANK == 0:
            if parent:
                verify(parent)
            if args.overwrite and any((directory / name).exists() for name in ("stage.json", "started.json")):
                _move_aside(directory)
            elif not resumable:
                _clear(directory)
            (directory / "failed.json").unlink(missing_ok=True)
            write_json(directory / "started.json", identity)
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
            print(f"{args.condition}-s{args.seed} {name}: done in {time.time() - run.started:.0f} s", file=sys.stderr)


def _is_done(directory: Path, identity: dict, overwrite: bool) -> bool:
    """True if the stage is there with this identity. Raises UserError if another one is, unless overwriting."""
    done = read_json(directory / "stage.json")
    there = {k: v for k, v in done["identity"].items() if k != "outputs"} if done else read_json(directory / "started.json")
    if there is None or overwrite:
        return False
    if differs := differences(there, identity):
        raise UserError(f"{directory}: made otherwise ({'; '.join(differs)}); rerun with --overwrite, or undo the change")
    return done is not None


def verify(directory: Path) -> None:
    """Raises UserError unless every output of a finished stage still has the SHA-256 it was written with."""
    for name, expected in read_json(directory / "stage.json")["identity"]["outputs"].items():
        if not (directory / name).exists() or sha256(directory / name) != expected:
            raise UserError(f"{directory / name}: damaged since it was written; rerun its stage with --overwrite")


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
                raise UserError(f"{directory}: is being written by {holder}; wait for it or stop it") from None
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
        stale = [p.parent for p in runs_dir().glob("*/*/*/stage.json") if read_json(p)["identity"].get("parent") == old]
        if stale:
            print(f"stale now, to be rerun with --overwrite: {', '.join(map(str, sorted(stale)))}", file=sys.stderr)


def provenance(started: float) -> dict:
    """What made a result, for people; nothing is compared with it."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    packages = ("torch", "trl", "transformers", "datasets", "tiktoken", "numpy")
    installed = {p.metadata["Name"]: p.version for p in importlib.metadata.distributions() if p.metadata["Name"] in packages}
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
        "world_size": WORLD,
        "versions": installed,
    }


def source_hash() -> str:
    """SHA-256 of the pipeline's code, tests apart: two results of one hash were made by the same program."""
    folders = [ROOT, *(ROOT / name for name in ("tokenizer", "tokenizer/vocabularies", "pretrain", "sft", "rl", "eval"))]
    files = sorted(path for folder in folders for path in folder.glob("*.py"))
    return digest([[str(path.relative_to(ROOT)), sha256(path)] for path in files])[:16]


# --- progress --------------------------------------------------------------------------------------------------


class Bar:
    """Progress on stderr (a bar on a terminal, else one line a minute) and in progress.json, once a second."""

    def __init__(self, directory: Path, label: str, total: int, unit: str, done: int = 0):
        self.path, self.label, self.total, self.unit = directory / "progress.json", label, total, unit
        self.first = self.done = done
        self.started = self.printed = time.time()
        self.written = 0.0
        self.terminal = None

    def __enter__(self) -> "Bar":
        if RANK == 0 and sys.stderr.isatty():
            words = {"total": self.total, "unit": f" {self.unit}", "initial": self.done, "unit_scale": True}
            self.terminal = tqdm(desc=self.label, mininterval=0.2, dynamic_ncols=True, **words)
        return self

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; `note` is shown behind the bar."""
        self.done += n
        if RANK:
            return
        if self.terminal is not None:
            self.terminal.update(n)
            if note:
                self.terminal.set_postfix_str(note, refresh=False)
        now = time.time()
        if self.terminal is None and now - self.printed >= 60:
            self.printed = now
            print(f"{self.label}: {self.said()} {note}", file=sys.stderr, flush=True)
        if now - self.written >= 1 or self.done >= self.total:
            self.written = now
            state = {"done": self.done, "total": self.total, "unit": self.unit, "note": note}
            write_json(self.path, state | {"rate": self.rate(), "eta": self.eta(), "time": now})

    def rate(self) -> float:
        return (self.done - self.first) / max(time.time() - self.started, 1e-9)

    def eta(self) -> float:
        """Seconds left at the mean rate so far."""
        return (self.total - self.done) / max(self.rate(), 1e-9)

    def said(self) -> str:
        return f"{self.done:,}/{self.total:,} {self.unit}, {self.rate():,.1f}/s, {clock(self.eta())} left"

    def __exit__(self, *exception: Any) -> None:
        if self.terminal is not None:
            self.terminal.close()


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


# --- what is done, from disk alone -----------------------------------------------------------------------------


def state(experiment: Experiment, condition: str, seed: int, name: str) -> tuple[str, str]:
    """(state, detail) of a stage: done, running, failed, stopped, differs or waiting."""
    try:
        directory = stage_dir(experiment, condition, seed, name)
        identity = expected_identity(experiment, condition, seed, name)
    except UserError:
        return "waiting", "for its parent"
    done = read_json(directory / "stage.json")
    if done:
        there = {key: value for key, value in done["identity"].items() if key != "outputs"}
        differs = differences(there, identity)
        return ("differs", "; ".join(differs)) if differs else ("done", f"in {clock(done['record']['seconds'])}")
    if not (directory / "started.json").exists():
        return "waiting", ""
    progress = read_json(directory / "progress.json")
    at = f"{progress['done']:,}/{progress['total']:,} {progress['unit']}" if progress else "starting"
    if _is_locked(directory):
        return "running", at + (f", {clock(progress['eta'])} left" if progress else "")
    failed = read_json(directory / "failed.json")
    return ("failed", failed["error"]) if failed else ("stopped", f"at {at}; run it again to go on")


def _is_locked(directory: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), open(directory / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def print_status(experiment: Experiment) -> None:
    for condition, seed in experiment.arms():
        print(f"{condition}-s{seed}")
        for name in experiment.stage_names():
            print("  {:<24}{:<9}{}".format(name, *state(experiment, condition, seed, name)).rstrip())


def print_todo(experiment: Experiment, condition: str, seed: int) -> None:
    """`KIND STAGE` of every stage of an arm that is not done, one a line: what scripts/arm.sh runs, in order.

    A stage that differs from its result is listed too: its script then refuses and says what differs.
    """
    for name in experiment.stage_names():
        if state(experiment, condition, seed, name)[0] != "done":
            print(experiment.kind(name), name.removeprefix("eval_"))


def watch(experiment: Experiment, pids: list[int]) -> None:
    """Show every arm's running stage until the processes `pids` have ended: live on a terminal, else in lines."""
    from rich.console import Console
    from rich.live import Live

    places = dict.fromkeys(experiment.arms(), 0)  # stages of each arm that are known to be done
    if sys.stdout.isatty():
        with Live(console=Console(), transient=True) as live:
            while any(map(_alive, pids)):
                live.update(_table(experiment, places))
                time.sleep(1)
        return
    said: dict[tuple[str, int], tuple[int, float]] = {}  # arm → (stage, time) of its last line
    while any(map(_alive, pids)):
        for arm, number, name, detail in _current(experiment, places):
            stage_said, at = said.get(arm, (-1, 0.0))
            if number != stage_said or time.time() - at > 30:
                print(f"{arm[0]}-s{arm[1]} {number}/{len(experiment.stage_names())} {name} {detail}", flush=True)
                said[arm] = number, time.time()
        time.sleep(2)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _current(experiment: Experiment, places: dict) -> Iterator[tuple[tuple[str, int], int, str, str]]:
    """(arm, number, stage, detail) of the stage that each unfinished arm is at; `places` moves on with them."""
    names = experiment.stage_names()
    for (condition, seed), place in list(places.items()):
        for number, name in enumerate(names[place:], place + 1):
            what, detail = state(experiment, condition, seed, name)
            if what != "done":
                yield (condition, seed), number, name, detail or what
                break
            places[condition, seed] = number


def _table(experiment: Experiment, places: dict):
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table, total = Table.grid(padding=(0, 2)), len(experiment.stage_names())
    for (condition, seed), number, name, detail in _current(experiment, places):
        progress = read_json(stage_dir(experiment, condition, seed, name) / "progress.json") or {"done": 0, "total": 1}
        bar = ProgressBar(total=progress["total"], completed=progress["done"], width=30)
        table.add_row(f"{condition}-s{seed}", f"{number}/{total}", name, bar, detail)
    return table
