"""Processes of a test's own, forked from one that has imported already what a new Python takes seconds to import."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.errors import cli

Main = Callable[[list[str]], object]


def start(main: Main, argv: list[str], log: Path, **environment: object) -> BaseProcess:
    """A process that runs a stage's main as its command does; what it says to stderr is appended to `log`."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(main, argv, log, environment))
    process.start()
    return process


def launch(main: Main, ranks: int, argv: list[str], logs: Path, **environment: object) -> list[BaseProcess]:
    """So many processes of it as torchrun starts them; their logs are logs/rank0.log, …"""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    logs.mkdir(parents=True, exist_ok=True)
    place = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [
        start(main, argv, logs / f"rank{rank}.log", RANK=rank, LOCAL_RANK=rank, **place, **environment)
        for rank in range(ranks)
    ]


def _run(main: Main, argv: list[str], log: Path, environment: dict[str, object]) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    for module in [module for name, module in sys.modules.items() if name.startswith("pipeline.")]:
        for attribute, name in (("RANK", "RANK"), ("WORLD", "WORLD_SIZE")):
            if hasattr(module, attribute):  # it took its own before the fork
                setattr(module, attribute, int(os.environ.get(name, getattr(module, attribute))))
    sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115, for as long as the process lives
    os.dup2(sys.stderr.fileno(), 2)
    cli(lambda: main(argv))


def finish(processes: list[BaseProcess], seconds: float = 120) -> list[int]:
    """Exit codes; a process that has not ended in time is killed and counts as an error."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, end - time.monotonic()))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
    assert not late, f"{len(late)} of {len(processes)} processes still ran after {seconds} s"
    return [process.exitcode for process in processes]
