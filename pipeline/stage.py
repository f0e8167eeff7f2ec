"""The stage contract: what it means that a stage is done, and what its children may rely on.

    with stage.begin("export", argv, __doc__) as run:
        if run is not None:                 # None: done already, with this very identity
            ...                             # write into run.dir
            run.finish(["model/model.safetensors"], tokens=0)

A stage locks its directory, writes into it, and as its last act writes `stage.json` atomically. No stage.json, not
done. It holds `identity` (the stage's resolved section, condition, seed, tokenizer, the identity hashes of its
parents, the SHA-256 of its data and outputs), which alone is hashed and compared, and `record` (commit as of the
start, versions, hardware, operational keys, times, tokens, FLOPs), which is only shown. A stage whose identity
matches is skipped; one that differs is refused with the differing keys named, until --overwrite moves the old
directory aside. Until it is done, started.json holds the same two as they were at the start.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.experiment import Experiment, add_experiment_arguments, load
from pipeline.files import digest, runs_dir, sha256, write_json
from pipeline.identity import differences, differs, expected_identity, operational, stage_dir
from pipeline.kinds import KINDS
from pipeline.lock import locked
from pipeline.provenance import provenance
from pipeline.results import StageFile, read_result, read_started, write_result
from pipeline.run import Run
from pipeline.world import RANK

__all__ = ["Run", "begin", "parse", "verify"]


def parse(kind: str, argv: list[str] | None, doc: str | None) -> tuple[argparse.Namespace, Experiment, str]:
    """The words that every stage script takes; (arguments, experiment, stage name)."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {KINDS[kind].module}",
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
    experiment.find_arm(args.condition, args.seed)
    return args, experiment, _stage_name(experiment, kind, args.stage)


def _stage_name(experiment: Experiment, kind: str, name: str | None) -> str:
    names = [n.removeprefix("eval_") for n in experiment.stage_names() if experiment.kind(n) == kind]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        if name:
            message = f"no {kind} stage '{name}'"
        else:
            message = f"several {kind} stages, so name one" if names else f"no {kind} stage"
        raise UserError(f"{experiment.path}: {message}; there are: {', '.join(names) or 'none'}")
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
    word whether the stage is done, once rank 0 has verified and cleared; until then none may read. Raises
    UserError before any work if the parent is unfinished, of another arm or damaged, or if the directory holds a
    result of another identity.
    """
    args, experiment, name = parse(kind, argv, doc)
    arm, overwrite = (experiment, args.condition, args.seed), args.overwrite
    directory, parent = stage_dir(*arm, name), experiment.parent(name)
    done = RANK == 0 and not overwrite and _is_done(directory, *arm, name)
    record = provenance() | {"operational": operational(experiment.stage(name))}
    with contextlib.ExitStack() as held:
        if RANK == 0 and not done:
            identity = expected_identity(*arm, name, fetch=True)
            directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(directory, wait=KINDS[kind].is_shared))
            done = not overwrite and _is_done(directory, *arm, name)  # by the process that it has waited for
            if not done:
                above = [*filter(None, [parent]), *(read.stage for read in experiment.reads(name))]
                read = [stage_dir(*arm, each) for each in above]
                _claim(directory, identity, record, read, overwrite, resumable)
        if agree(done):
            if RANK == 0:
                print(f"{args.condition}-s{args.seed} {name}: done already, skipped", file=sys.stderr)
            yield None
            return
        if RANK:
            identity = expected_identity(*arm, name)
        parent_dir = stage_dir(*arm, parent) if parent else None
        parent_result = read_result(parent_dir) if parent_dir else None
        parent_record = parent_result.record if parent_result else {}
        spec = experiment.stage(name, args.condition)
        run = Run(*arm, name, spec, directory, identity, parent_dir, parent_record, record)
        try:
            yield run
        except BaseException as error:
            told = (directory / "failed.json").exists()  # by the process that failed first
            if not told and not isinstance(error, KeyboardInterrupt | SystemExit):
                failure = {"error": f"{type(error).__name__}: {error}", "time": time.time()}
                with contextlib.suppress(OSError):  # of a full disk the error itself tells
                    write_json(directory / "failed.json", failure)
            raise
        if RANK == 0 and run.finished:
            print(f"{run.label}: done in {run.seconds():.0f} s", file=sys.stderr)


def _is_done(directory: Path, experiment: Experiment, condition: str, seed: int, name: str) -> bool:
    """Whether the stage is there as the file says it. Raises UserError if it is there otherwise."""
    result = read_result(directory)
    if result is None:
        return False
    _refuse_if(directory, differs(result, experiment, condition, seed, name))
    return True


def _refuse_if(directory: Path, differing: list[str]) -> None:
    if differing:
        message = f"made otherwise ({'; '.join(differing)})"
        raise UserError(f"{directory}: {message}; rerun with --overwrite, or undo the change")


def _claim(
    directory: Path, identity: dict, record: dict, read: list[Path], overwrite: bool, resumable: bool
) -> None:
    """Make the locked directory this start's: verify what it reads, clear or keep what is there, write started.json."""
    for each in read:
        verify(each)
    if overwrite and any((directory / file).exists() for file in ("stage.json", "started.json")):
        _move_aside(directory)
    elif started := read_started(directory):
        _refuse_if(directory, differences(started.identity, identity))
        if resumable:
            _go_on(directory, started, record)
    if not resumable:
        _clear(directory)
    (directory / "failed.json").unlink(missing_ok=True)
    write_result(directory / "started.json", StageFile(identity, record))


def _go_on(directory: Path, started: StageFile, record: dict) -> None:
    """Keep of earlier starts what may differ from this one; say which operational keys do."""
    kept = ("commit", "uncommitted", "source", "started", "host", "world_size", "operational")
    then = {key: started.record.get(key) for key in kept}
    record["earlier"] = [*started.record.get("earlier", []), then]
    if changed := differences(then["operational"], record["operational"]):
        message = f"{'; '.join(changed)} since it was started; bits may differ from an undisturbed run"
        print(f"{directory.name}: {message}", file=sys.stderr)


def verify(directory: Path) -> None:
    """Raises UserError unless every output of a finished stage still has the SHA-256 it was written with."""
    result = read_result(directory)
    if result is None:
        raise UserError(f"{directory}: is not finished; run its stage")
    for name, expected in result.identity["outputs"].items():
        if not (directory / name).exists() or sha256(directory / name) != expected:
            raise UserError(
                f"{directory / name}: damaged since it was written; rerun its stage with --overwrite"
            )


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _move_aside(directory: Path) -> None:
    """Keep the old result beside the new one, and name the children that it leaves stale."""
    old = _readable(directory)
    aside = directory.with_name(f"{directory.name}.old-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    aside.mkdir()
    for path in directory.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)
    print(f"{directory.name}: the old result is now {aside}", file=sys.stderr)
    if old:
        parent = digest(old.identity)
        others = (path.parent for path in sorted(runs_dir().glob("*/*/*/stage.json")))
        stale = [
            path for path in others if (child := _readable(path)) and child.identity.get("parent") == parent
        ]
        if stale:
            print(f"stale now, to be rerun with --overwrite: {', '.join(map(str, stale))}", file=sys.stderr)


def _readable(directory: Path) -> StageFile | None:
    """The result of a stage, if there is one that can be read."""
    with contextlib.suppress(UserError):
        return read_result(directory)
    return None
