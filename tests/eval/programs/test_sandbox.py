"""The second wall holds by itself: without the interpreter, a worker can still do nothing but answer."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.programs.interpreter import run
from eval.programs.sandbox import CALLS, Sandbox
from tests.eval.programs.attacks import ATTACKS, PRIZE

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as found:
        yield found


def test_it_gives_what_the_interpreter_gives_in_order(sandbox):
    bodies = ["7 / 2", "2**8000 + 1", "9**9**9", "'x'", "1 / 0", "len(f'\\N{BULLET}{3:.2f}')", "open('x')"]
    codes = [f"é = 3\ndef f():\n    return {body}" for body in bodies]
    codes += ["x = 1", "def f(", "import os", "\ud800"]
    assert sandbox.run(codes) == [run(code) for code in codes]


def test_programs_that_share_a_worker_get_what_they_get_alone(sandbox):
    codes = [
        f"def f():\n    return {body}"
        for body in ("7 / 2", "9**9**9", "open('x')", "2**8000", "1 / 0", "'x'")
    ]
    with Sandbox(together=4) as shared:
        assert shared.run(codes) == sandbox.run(codes)
        assert shared.run([]) == []


def test_it_says_what_is_in_force(sandbox):
    assert sandbox.in_force["wall_s"] == 2.0
    assert {"CPU", "NOFILE", "FSIZE", "CORE", "NPROC"} <= set(sandbox.in_force["rlimits"])
    if sys.platform == "linux" and os.uname().machine in CALLS:
        assert sandbox.in_force["seccomp"] is True and "AS" in sandbox.in_force["rlimits"]
    json.dumps(sandbox.in_force, allow_nan=False)


@pytest.mark.parametrize(
    "name",
    [
        "deep tuple, hashed",
        "list times a billion",
        "import os",
        "fork bomb",
        "subclasses",
        "tower of powers",
        "print of a protocol line",
        "finally bomb",
        "minus signs",
        "perm of None",
        "percent named, width",
        "max by a key that gives twins",
        "literal that is never reached",
    ],
)
def test_attacks_are_contained(sandbox, name):
    assert sandbox.run([ATTACKS[name]])[0].value != PRIZE


HOSTILE = {
    "loop": ("while True: pass", "limit"),
    "memory": ("x = [bytearray(2**20) for i in range(100)]; return 'ok', 1", "limit"),
    "file": ("open('/etc/passwd'); return 'ok', 1", "limit"),
    "write": ("open(PRIZE, 'w'); return 'ok', 1", "limit"),
    "folder": ("os.mkdir(PRIZE); return 'ok', 1", "rejected"),
    "fork": ("os.fork(); return 'ok', 1", "rejected"),
    "socket": ("import _socket; _socket.socket(); return 'ok', 1", "rejected"),
    "execute": ("os.execv('/bin/true', ['true'])", "rejected"),
    "kill": ("os.kill(os.getppid(), 9); return 'ok', 1", "rejected"),
    "thread": ("import _thread; _thread.start_new_thread(print, ()); time.sleep(9)", "rejected"),
    "exit": ("os._exit(0)", "limit"),
    "crash": ("ctypes.string_at(0); return 'ok', 1", "limit"),
    "raise": ("raise SystemExit", "limit"),
    "flood": ("while True: os.write(KEEP, b'x' * 10**5)", "limit"),
    "nonsense": ("os.write(KEEP, b'}{'); os._exit(0)", "limit"),
    "nesting": ("os.write(KEEP, b'[' * 10**4); os._exit(0)", "limit"),
    "nan": ("return 'ok', float('nan')", "limit"),
    "text for a number": ("return 'ok', 'x'", "limit"),
    "a status of its own": ("return 'correct', 1", "limit"),
    "other descriptors": ("return 'ok', sum(writes(fd) for fd in range(200))", 0),
}
WORKER = """
import ctypes, os, time
from eval.programs import sandbox
PRIZE = {prize!r}
def writes(fd):
    try:
        return fd != KEEP and os.write(fd, b"x")
    except OSError:
        return 0
def hostile(code):
    {body}
def confine(keep, programs, confine=sandbox.confine):
    globals()["KEEP"] = keep
    return confine(keep, programs)
sandbox.confine = confine
os.dup2(1, 150)
import socket
print("answer", *sandbox.answers(sandbox.Job(hostile, sandbox.is_outcome), ["x"], 1))
"""


@pytest.mark.parametrize("body, expected", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine not in CALLS, reason="no seccomp here")
def test_a_worker_without_its_interpreter_is_harmless(body, expected, tmp_path):
    started = time.perf_counter()
    command = [sys.executable, "-c", WORKER.format(body=body, prize=str(tmp_path / "prize"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    expected = ["ok", 0] if expected == 0 else expected
    assert done.stdout.splitlines()[-1:] == [f"answer {expected}"], done.stderr
    assert time.perf_counter() - started < 15  # of which starting Python may take some
    assert not list(tmp_path.iterdir())


def test_a_helper_that_died_is_an_error_and_not_a_score():
    with Sandbox() as sandbox:
        sandbox._helper.kill()
        with pytest.raises(RuntimeError, match="helper"):
            sandbox.run(["def f():\n    return 1"])
