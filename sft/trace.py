"""Programs to plain-text steps, without a language model: every arithmetic operation that a program ran, in
exact rational arithmetic, with the name of the variable that took its value.

    1. trays = 6 * 9 = 54           one operation a step; of a product the smaller factor comes first
    2. cookies = 12 * 54            where the vocabulary has something to add, its working lines follow,
    2 * 4 = 8
    2 * 5 = 10
    1 * 4 = 4
    1 * 5 = 5
    500 + 40 = 540
    540 + 100 = 640
    640 + 8 = 648
    12 * 54 = 648                   and the operation is said again, with its result
    3. boxes = 648 / 5 = 129.6
    4. boxes needed = ceil(129.6) = 130
    #### 130

Numbers are written exactly: as decimals where those end, else as fractions, `2 / 3 = 2/3`, `(2/3) * 36 =
24`. A row converts only where this exact reading agrees with the floats that ran, at every step and in the
answer, to within TOLERANCE, and where the answer ends as a decimal; nothing is rounded that the program
does not round. So the answer is always the executed result, less the dust of binary floats
(8.000000000000002 is written 8). Rows that do not convert are counted by reason.
"""

import importlib
import math
import queue
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from eval.programs.interpreter import run
from eval.programs.sandbox import Job, Sandbox
from sft.exact import TraceLine, Unfit, exact_of, replay, spell

CHUNK = 512  # programs that share a worker
REASON = 60  # characters of the longest reason

Work = Callable[[int, str, int], list[str] | None]


class Trace(NamedTuple):
    """`text` ends in `#### answer`; `answer` is `value`, what the program returned, as an exact decimal."""

    text: str
    answer: str
    value: int | float


def steps(code: str, work: Work) -> Trace | str:
    """The trace of a program, or the reason why it has none. `work` is a vocabulary's."""
    status, value, trace = run(code, trace=True)
    if value is None:
        return "not a number" if status == "ok" else status
    try:
        lines, exact = replay(trace)
        answer = spell(exact_of(value, exact))
        if "/" in answer:
            return "endless decimal"
        return Trace("\n".join([*write(lines, work), f"#### {answer}"]), answer, value)
    except Unfit as reason:
        return str(reason)
    except ArithmeticError:
        return "float rounding"


# --- from lines to text -------------------------------------------------------------------------------------


def write(lines: list[TraceLine], work: Work) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        head = f"{number}. {words(line.name)} = " if line.name else f"{number}. "
        equation = f"{line.expression} = {spell(line.exact)}"
        working = worked(line, work)
        if working:
            yield head + line.expression
            yield from working
            yield equation
        else:
            yield head + equation


def worked(line: TraceLine, work: Work) -> list[str] | None:
    """What a vocabulary has to say on the way to a result; on decimals, about their digits."""
    if line.pair is None:
        return None
    a, op, b = line.pair
    if a.denominator == b.denominator == 1:
        return work(int(a), op, int(b))
    if op != "*" or "/" in spell(a) + spell(b):
        return None
    a, b = (int(spell(n).replace(".", "")) for n in (a, b))
    return work(a, op, b) or [f"{min(a, b)} * {max(a, b)} = {a * b}"]


def words(name: str) -> str:
    """total_eggs and totalEggs are both "total eggs"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("_", " ").strip().lower()


# --- many rows ----------------------------------------------------------------------------------------------


def tracing(vocabulary: str) -> Job:
    """What a sandbox's workers do with a program; `vocabulary` is the name of its module."""
    work = importlib.import_module(vocabulary).work
    return Job(lambda code: steps(code, work), is_answer)


def is_answer(answer: Any) -> bool:
    match answer:
        case str():
            return len(answer) <= REASON
        case [str(), str(), int() | float() as value]:
            return math.isfinite(value)
    return False


def sandbox(vocabulary: str) -> Sandbox:
    return Sandbox("sft.trace:tracing", vocabulary, together=CHUNK)


def in_sandbox(box: Sandbox, codes: Sequence[str]) -> list[Trace | str]:
    """`steps` of every program, in order; one that its worker does not survive has "limit" or "rejected"."""
    return [answer if isinstance(answer, str) else Trace(*answer) for answer in box.answers(codes)]


def convert(codes: Sequence[str], vocabulary: str, processes: int = 2) -> Iterator[Trace | str]:
    """`in_sandbox` with several sandboxes at a time."""
    free: queue.SimpleQueue = queue.SimpleQueue()

    def work(start: int) -> list[Trace | str]:
        box = free.get()
        try:
            return in_sandbox(box, codes[start : start + CHUNK])
        finally:
            free.put(box)

    boxes = [sandbox(vocabulary) for _ in range(processes)]
    for box in boxes:
        free.put(box)
    try:
        with ThreadPoolExecutor(processes) as pool:
            for traces in pool.map(work, range(0, len(codes), CHUNK)):
                yield from traces
    finally:
        for box in boxes:
            box.close()
