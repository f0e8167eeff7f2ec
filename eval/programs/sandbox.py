"""Processes in which programs that a model wrote can do nothing but compute: a second wall.

    with Sandbox() as sandbox:
        outcomes = sandbox.run(codes)       # as eval.interpreter.run, in order
        record["sandbox"] = sandbox.in_force

`Sandbox` starts a helper (`python -m eval.programs.sandbox`), a fresh Python that holds nothing of the caller's: no
torch, no GPU, no descriptors, no environment but its library path. For every program the helper forks a
worker, which closes every descriptor but the pipe for its answer, bounds its processor time, memory, files
and processes, and where the system has seccomp gives up every system call but the few that computing needs;
then it interprets. The helper kills a worker that is not done in WALL seconds. A fork costs a few
milliseconds, and no program can touch the next one's score.

`in_force` is what a worker found to hold on this machine, not what was asked for: put it next to the
scores.
"""

import contextlib
import ctypes
import errno
import gc
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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.programs.interpreter import Outcome, run

WALL = 2.0  # seconds a program
MEMORY = 48 * 2**20  # bytes of address space on top of what the helper has
NOTHING_OF = ("NOFILE", "FSIZE", "CORE", "NPROC")
ANSWER = 2**14  # bytes; the longest honest answer is an integer of 2,466 digits
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


class Sandbox:
    """Runs programs one after another in confined workers; closes its helper at the end of a `with`."""

    def __init__(self) -> None:
        self._helper = subprocess.Popen(
            [sys.executable, "-E", "-s", "-m", "eval.programs.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            close_fds=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
        )
        self.in_force: dict[str, Any] = self._answer()

    def run(self, codes: Iterable[str]) -> list[Outcome]:
        return [self._one(code) for code in codes]

    def _one(self, code: str) -> Outcome:
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._helper.stdin.write(json.dumps(code).encode() + b"\n")
            self._helper.stdin.flush()
        return Outcome(*self._answer())

    def _answer(self) -> Any:
        line = self._helper.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox's helper ended with status {self._helper.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._helper.stdin.close()
        self._helper.wait(timeout=WALL + 1)
        self._helper.stdout.close()


# --- in the worker ------------------------------------------------------------------------------------------


def confine(keep: int) -> dict[str, Any]:
    """Give up for good all that this process could do but to compute and to write to descriptor `keep`.

    Returns what is in force then: the limits that the system took, and for seccomp True or why not."""
    os.setsid()
    os.closerange(0, keep)
    os.closerange(keep + 1, 2**16)
    limits = {"CPU": int(WALL) + 1, "AS": address_space() + MEMORY} | dict.fromkeys(NOTHING_OF, 0)
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


def serve() -> None:
    """Answer programs, one JSON string a line, with [status, value]; the first line says what is in force."""
    run('"\\N{BULLET}", f"{é:.2f}"')  # what Python loads late, while files can still be opened
    gc.freeze()  # forks share the memory
    print(json.dumps(ask(None)), flush=True)
    for line in sys.stdin:
        print(json.dumps(ask(json.loads(line))), flush=True)


def ask(code: str | None) -> Any:
    """[status, value] of a program, from a worker of its own; of None, what is in force in a worker."""
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            in_force = confine(writing)
            os.write(writing, json.dumps(in_force if code is None else run(code)[:2]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer, deadline = b"", time.monotonic() + WALL
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reading, ANSWER)
        answer += part
        if not part or len(answer) > ANSWER:
            break
    os.close(reading)
    os.kill(worker, signal.SIGKILL)  # if it is still there; it stays ours until waited for
    ended = os.waitpid(worker, 0)[1]
    try:
        found = json.loads(answer)
        if code is None:
            return found
        status, value = found
        if status in STATUSES and (value is None or (type(value) in (int, float) and abs(value) < math.inf)):
            return [status, value]
    except (ValueError, TypeError, RecursionError):
        pass
    return ["rejected" if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGSYS else "limit", None]


if __name__ == "__main__":
    serve()
