"""The lock of a stage's directory, which the kernel releases however the process ends."""

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import UserError

PATIENCE = 1.0  # seconds: `status` holds a lock for a moment when it looks


@contextlib.contextmanager
def locked(directory: Path, wait: bool) -> Iterator[None]:
    """Hold the lock, naming this process in it. Raises UserError if another holds it, or waits for that one."""
    with open(directory / ".lock", "a+", encoding="utf-8") as file:
        _take(file, directory, wait)
        file.truncate(0)
        job = os.environ.get("SLURM_JOB_ID")
        file.write(f"{socket.gethostname()} pid {os.getpid()}" + (f" job {job}" if job else ""))
        file.flush()
        yield


def _take(file: IO[str], directory: Path, wait: bool) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _flock(file, directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
        if time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        file.seek(0)
        holder = file.read(200).strip() or "another process"
        if not wait:
            raise UserError(f"{directory}: is being written by {holder}; wait for it or stop it")
        print(f"{directory.name}: waiting for {holder}", file=sys.stderr)
        _flock(file, directory, fcntl.LOCK_EX)
        return


def _flock(file: IO[str], directory: Path, operation: int) -> bool:
    """Whether the lock was got; False if another process holds it."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:  # EWOULDBLOCK alone says that it is held
        return False
    except OSError as error:
        remedy = "set RUNS to a disk that has them (mount Lustre with -o flock, start NFS's lock daemon)"
        raise UserError(f"{directory}: its file system gives no locks ({error.strerror}); {remedy}") from None
    return True


def is_locked(directory: Path) -> bool:
    try:
        with open(directory / ".lock", encoding="utf-8") as file:
            return not _flock(file, directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (OSError, UserError):
        return False
