"""What is done, from disk alone."""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import read_json
from pipeline.identity import differences, expected_identity, stage_dir
from pipeline.progress import clock


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
        return (
            ("differs", "; ".join(differs)) if differs else ("done", f"in {clock(done['record']['seconds'])}")
        )
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
                print(
                    f"{arm[0]}-s{arm[1]} {number}/{len(experiment.stage_names())} {name} {detail}", flush=True
                )
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
        progress = read_json(stage_dir(experiment, condition, seed, name) / "progress.json") or {
            "done": 0,
            "total": 1,
        }
        bar = ProgressBar(total=progress["total"], completed=progress["done"], width=30)
        table.add_row(f"{condition}-s{seed}", f"{number}/{total}", name, bar, detail)
    return table
