"""Processes in which strangers' programs can do nothing but compute: a second wall.

    with Sandbox() as sandbox:
        outcomes = sandbox.run(codes)       # as eval.programs.interpreter.run, in order
        record["sandbox"] = sandbox.in_force

`Sandbox` starts a helper (`python -m eval.programs.sandbox`), a fresh Python that holds nothing of the caller's:
no torch, no GPU, no descriptors, no environment but its library path. For every program the helper forks a
worker, which closes every descriptor but the pipe for its answer, bounds its processor time, memory, files
and processes, and where the system has seccomp gives up every system call but the few that computing needs;
then it interprets. The helper kills a worker that is not done in WALL seconds. A fork costs a few
milliseconds, and no program can touch the next one's score.

A dataset's programs share a worker, `together` at a time, because a fork costs more than one of them takes. A
worker that ends early costs no other program its answer: the one it stopped at is tried once more, alone, and
those behind it get a new worker.

`in_force` is what a worker found to hold on this machine, not what was asked for: put it next to the
scores.
"""

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import math
import os
import platform
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from eval.programs.interpreter import Outcome, run

WALL = 2.0  # seconds a program
PAUSE = 0.004  # seconds for answers to gather: waking for each of them costs a tenth of the speed
MEMORY = 48 * 2**20  # bytes of address space on top of what the helper has
NOTHING_OF = ("NOFILE", "FSIZE", "CORE", "NPROC")
ANSWER = 2**18  # bytes; a trace of 40 steps with all its working is 2**17
STATUSES = frozenset({"ok", "no_function", "syntax", "rejected", "limit", "error"})

# Linux system calls by number: write, mmap, munmap, brk, rt_sigprocmask, rt_sigreturn, mremap, madvise,
# futex, clock_gettime, exit, exit_group; and openat, which fails: Python's parser looks for the file of a
# syntax error. (linux/audit.h for the architectures, asm/unistd.h for the calls.)
CALLS = {
    "x86_64": (0xC000003E, (1, 9, 11, 12, 14, 15, 25, 28, 202, 228, 60, 231), 257),
    "aarch64": (0xC00000B7, (64, 222, 215, 214, 135, 139, 216, 233, 98, 113, 93, 94), 56),
}
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 22, 38, 2
KILL, FAIL, ALLOW = 0x80000000, 0x00050000 | errno.EACCES, 0x7FFF0000  # SECCOMP_RET_…


class Job(NamedTuple):
    """What a worker does with a program: the answer has to be JSON, and what comes out of a worker is believed
    only where it is `honest`."""

    work: Callable[[str], Any]
    honest: Callable[[Any], bool]


def judging() -> Job:
    """[status, value] of a program."""
    return Job(lambda code: run(code)[:2], is_outcome)


def is_outcome(answer: Any) -> bool:
    match answer:
        case [str() as status, None]:
            return status in STATUSES
        case [str() as status, int() | float() as value]:
            return status in STATUSES and not isinstance(value, bool) and abs(value) < math.inf
    return False


class Sandbox:
    """Runs programs one after another in confined workers. `job`: "module:function" that gives, from `args`, the
    helper's Job. Close it, or use it in a `with`; its helper ends with its caller in any case."""

    def __init__(self, job: str = "eval.programs.sandbox:judging", *args: str, together: int = 1) -> None:
        self.together = together
        self._helper = subprocess.Popen(
            [sys.executable, "-E", "-s", "-m", "eval.programs.sandbox", str(together), job, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            close_fds=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
        )
        self.in_force: dict[str, Any] = self._answer()

    def run(self, codes: Iterable[str]) -> list[Outcome]:
        """Of a judging sandbox: as the interpreter has it, "limit" or "rejected" where a worker was lost."""
        return [
            Outcome(answer) if isinstance(answer, str) else Outcome(*answer) for answer in self.answers(codes)
        ]

    def answers(self, codes: Iterable[str]) -> Iterator[Any]:
        """What the job says to each program, or "limit" or "rejected" where its worker was lost."""
        codes = list(codes)
        for start in range(0, len(codes), self.together):
            chunk = codes[start : start + self.together]
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                self._helper.stdin.write(json.dumps(chunk).encode() + b"\n")
                self._helper.stdin.flush()
            for _ in chunk:
                yield self._answer()

    def _answer(self) -> Any:
        line = self._helper.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox's helper ended with status {self._helper.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._helper.kill()  # and with it a worker that is still at work: PR_SET_PDEATHSIG
        self._helper.wait()
        with contextlib.suppress(BrokenPipeError):
            self._helper.stdin.close()
        self._helper.stdout.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- in the worker ------------------------------------------------------------------------------------------


def confine(keep: int, programs: int) -> dict[str, Any]:
    """Give up for good all that this process could do but to compute `programs` and to write to descriptor `keep`.

    Returns what is in force then: the limits that the system took, and for seccomp True or why not."""
    os.setsid()
    os.closerange(0, keep)
    os.closerange(keep + 1, 2**16)
    limits = {"CPU": int(WALL * programs) + 1, "AS": address_space() + MEMORY} | dict.fromkeys(NOTHING_OF, 0)
    taken = {}
    for name, limit in limits.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
            taken[name] = limit
        except (ValueError, OSError, AttributeError):  # not on this system: then it is not in force
            pass
    return {"interpreter": "default-deny", "wall_s": WALL, "rlimits": taken, "seccomp": filter_calls()}


def address_space() -> int:
    """Bytes that this process has mapped; more than it uses."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**30


def filter_calls() -> bool | str:
    """seccomp: from here on, any system call that is not in CALLS kills the process (seccomp(2), bpf(4))."""
    if sys.platform != "linux" or platform.machine() not in CALLS:
        return f"none for {sys.platform} on {platform.machine()}"
    architecture, allowed, failing = CALLS[platform.machine()]
    load, equal, back = 0x20, 0x15, 0x06  # BPF_LD+W+ABS, BPF_JMP+JEQ+K, BPF_RET+K
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (back, 0, 0, KILL), (load, 0, 0, 0)]
    for i, number in enumerate(allowed):  # jump over the rest of them and the next three lines
        program.append((equal, len(allowed) - i + 2, 0, number))
    program += [(equal, 0, 1, failing), (back, 0, 0, FAIL), (back, 0, 0, KILL), (back, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_PDEATHSIG, signal.SIGKILL),
        (PR_SET_NO_NEW_PRIVS, 1),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header)),
    ):
        if libc.prctl(*map(ctypes.c_ulong, (*arguments, 0, 0, 0)[:5])) != 0:
            return f"refused: {os.strerror(ctypes.get_errno())}"
    return True


# --- in the helper ------------------------------------------------------------------------------------------


def serve(together: int, job: Job) -> None:
    """Answer lines of programs, JSON lists of strings, with a line each; the first line says what is in force."""
    job.work('"\\N{BULLET}", f"{é:.2f}"\ndef f():\n    x = 6 * 9 / 4\n    return round(x, 1)')
    job.work("def f(")  # what Python loads late, while files can still be opened
    gc.freeze()  # forks share the memory
    (in_force,), _ = ask(Job(None, lambda answer: True), [None])
    print(json.dumps(in_force), flush=True)
    for line in sys.stdin:
        for answer in answers(job, json.loads(line), together):
            print(json.dumps(answer))
        sys.stdout.flush()


def answers(job: Job, codes: list[str], together: int) -> Iterator[Any]:
    while codes:
        done, lost = ask(job, codes[:together])
        yield from done
        codes = codes[len(done) :]
        if lost:
            if together > 1:  # had it been alone, it might have had enough time
                done, lost = ask(job, codes[:1])
            yield lost or done[0]
            codes = codes[1:]


def ask(job: Job, codes: list[str | None]) -> tuple[list, str | None]:
    """The answers to programs, from one worker, and if not to all of them, how it was lost: "limit" or "rejected".
    To None, what is in force in a worker."""
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            in_force = confine(writing, len(codes))
            for code in codes:
                answer = in_force if code is None else job.work(code)
                os.write(writing, json.dumps(answer).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        done = [answer for _, answer in zip(codes, honest_answers(job, reading))]
    finally:
        os.close(reading)
        os.kill(worker, signal.SIGKILL)  # if it is still there; it stays ours until waited for
        ended = os.waitpid(worker, 0)[1]
    if len(done) == len(codes):
        return done, None
    return done, "rejected" if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGSYS else "limit"


def honest_answers(job: Job, reading: int) -> Iterator[Any]:
    """A worker's answers until it ends, takes longer than WALL, or says what the job would not say."""
    text, deadline = b"", time.monotonic() + WALL
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        time.sleep(PAUSE)
        part = os.read(reading, 2**16)
        *lines, text = (text + part).split(b"\n")
        for line in lines:
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not job.honest(answer):
                return
            yield answer
            deadline = time.monotonic() + WALL
        if not part or len(text) > ANSWER:
            return


if __name__ == "__main__":
    module, function = sys.argv[2].split(":")
    serve(int(sys.argv[1]), getattr(importlib.import_module(module), function)(*sys.argv[3:]))
