"""What is done, from disk alone."""

import contextlib
from pathlib import Path

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import arm_dir
from pipeline.identity import differs, is_gone, stage_dir
from pipeline.lock import is_locked
from pipeline.progress import clock
from pipeline.results import read_failure, read_progress, read_result


def state(experiment: Experiment, condition: str, seed: int, name: str) -> tuple[str, str]:
    """(state, detail) of a stage: done, running, failed, stopped, differs, damaged or waiting."""
    arm = (experiment, condition, seed)
    try:
        directory = stage_dir(*arm, name)
    except UserError as error:  # data that names the directory is not here
        return ("done", "removed since") if _is_used_up(*arm, name) else ("waiting", str(error))
    try:
        if (directory / "stage.json").exists():
            return _of_result(directory, *arm, name)
        if (directory / "started.json").exists():
            return _of_start(directory)
    except UserError as error:
        return "damaged", str(error)
    if _is_used_up(*arm, name):
        return "done", "removed since"
    parent = experiment.parent(name)
    if parent and _is_open(*arm, parent):
        return "waiting", "for its parent"
    others = [read.stage for read in experiment.reads(name) if _is_open(*arm, read.stage)]
    return "waiting", f"for '{others[0]}'" if others else ""


def _of_result(
    directory: Path, experiment: Experiment, condition: str, seed: int, name: str
) -> tuple[str, str]:
    result = read_result(directory)
    assert result is not None
    try:
        differing = differs(result, experiment, condition, seed, name)
    except UserError:
        return "waiting", "for its parent"
    return (
        ("differs", "; ".join(differing)) if differing else ("done", f"in {clock(result.record['seconds'])}")
    )


def _of_start(directory: Path) -> tuple[str, str]:
    progress = read_progress(directory)
    at = f"{progress['done']:,}/{progress['total']:,} {progress['unit']}" if progress else "starting"
    if is_locked(directory):
        return "running", at + (f", {clock(progress['eta'])} left" if progress else "")
    failure = read_failure(directory)
    return ("failed", failure["error"]) if failure else ("stopped", f"at {at}; run it again to go on")


def _is_open(experiment: Experiment, condition: str, seed: int, name: str) -> bool:
    """Whether a parent, which may be another experiment's, has no result."""
    try:
        return not (stage_dir(experiment, condition, seed, name) / "stage.json").exists()
    except UserError:
        return True


def _is_used_up(experiment: Experiment, condition: str, seed: int, name: str) -> bool:
    """Whether all that is made of a stage is done, so that the stage itself is needed no more."""
    if not is_gone(experiment, condition, seed, name):
        return False
    below = [each for each in experiment.stage_names() if each != name and _needs(experiment, each, name)]
    for each in below:
        with contextlib.suppress(UserError):
            result = read_result(arm_dir(experiment.name, condition, seed) / each)
            if result and not differs(result, experiment, condition, seed, each):
                continue
        return False
    return bool(below)


def _needs(experiment: Experiment, below: str, name: str) -> bool:
    """Whether a stage is made of `name`, through its parents or what they read."""
    line = experiment.line(below)
    return name in line or any(read.stage == name for each in line for read in experiment.reads(each))


def print_status(experiment: Experiment) -> None:
    for condition, seed in experiment.arms():
        print(f"{condition}-s{seed}")
        for name in experiment.stage_names():
            print("  {:<24}{:<9}{}".format(name, *state(experiment, condition, seed, name)).rstrip())


def todo(experiment: Experiment, condition: str, seed: int) -> list[tuple[str, str]]:
    """(kind, stage) of every stage of an arm that is not done, in running order.

    A stage that differs from its result is listed too: its script then refuses and says what differs.
    """
    return [
        (experiment.kind(name), name.removeprefix("eval_"))
        for name in experiment.stage_names()
        if state(experiment, condition, seed, name)[0] != "done"
    ]
