"""python -m tests.eval.programs.measure [words of an attack's name]

Runs the attacks against both walls, each in a process of its own, and reports what came through and the slowest and
the hungriest. All of them take some five minutes of one core.
"""

import builtins
import json
import math
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eval.programs import library, sandbox
from eval.programs.interpreter import run
from tests.eval.programs.attacks import ATTACKS, PRIZE

PATIENCE = 30  # seconds of processor time, after which a process hangs
MEGABYTES = 200  # more than a program may take


class Measure(NamedTuple):
    """`answer` is what the call gave, as JSON has it; None if its process did not live to tell."""

    answer: object
    seconds: float = PATIENCE  # of processor time
    megabytes: float = 0.0  # at the peak, on top of what the process had


def measured(call: Callable[[], object], patience: int = PATIENCE) -> Measure:
    """What a call takes, in a forked process and those that it starts."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (patience, patience))
            before = peak()
            answer = call()
            os.write(writing, json.dumps([answer, peak() - before]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    usage = os.wait4(child, 0)[2]
    if not text:
        return Measure(None)
    answer, megabytes = json.loads(text)
    return Measure(answer, usage.ru_utime + usage.ru_stime, megabytes)


def peak() -> float:
    """The most memory, in megabytes, that this process or one that it waited for has had."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / unit
    )


def surroundings() -> tuple:
    """What a program could have changed for its caller."""
    tables = [dict(table) for table in (vars(builtins), vars(math), library.BUILTINS, library.MATH.names)]
    return sys.getrecursionlimit(), os.getcwd(), tables, Path("/tmp/prize").exists()


def attacked(code: str) -> list:
    """[status, value, whether its surroundings are as before]"""
    before = surroundings()
    outcome = run(code)
    return [outcome.status, outcome.value, before == surroundings()]


def confined(code: str) -> list:
    """[status, value], as the sandbox's helper has it."""
    (answer,) = sandbox.answers(sandbox.judging(), [code], 1)
    return [answer, None] if isinstance(answer, str) else answer


WALLS: dict[str, Callable[[str], list]] = {
    "interpreter": lambda code: list(run(code)[:2]),
    "interpreter, tracing": lambda code: list(run(code, trace=True)[:2]),
    "sandbox": confined,
}


def main(argv: list[str]) -> None:
    attacks = {name: code for name, code in ATTACKS.items() if " ".join(argv) in name}
    if not attacks:
        sys.exit(f"error: no attack's name holds '{' '.join(argv)}'")
    report: dict = {"attacks": len(attacks)}
    for wall, judge in WALLS.items():
        measures = {name: measured(partial(judge, code)) for name, code in attacks.items()}
        slowest = max(measures, key=lambda name: measures[name].seconds)
        hungriest = max(measures, key=lambda name: measures[name].megabytes)
        alive = {name: measure.answer for name, measure in measures.items() if measure.answer}
        report[wall] = {
            "scored": [name for name, (_, value) in alive.items() if value == PRIZE],
            "hung or died": [name for name in measures if name not in alive],
            "statuses": Counter(status for status, _ in alive.values()),
            "slowest": [slowest, round(measures[slowest].seconds, 2), "s"],
            "hungriest": [hungriest, round(measures[hungriest].megabytes, 1), "MB"],
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
