"""This process among those that torchrun started."""

import os

RANK = int(os.environ.get("RANK", "0"))  # set by torchrun; rank 0 alone locks, verifies, logs and writes
WORLD = int(os.environ.get("WORLD_SIZE", "1"))  # processes, set by torchrun; see `leave`


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divisor(units: int, most: int) -> int:
    """Among how many processes, at most `most`, so many units can be shared out evenly."""
    return next(n for n in range(min(units, most), 0, -1) if units % n == 0)


def leave(processes: int) -> bool:
    """Go on with the first so many processes; False in one of the others, which then has to end.

    torchrun lets a process end early with code 0. The others connect as if they alone had been started, so this
    comes before they do.
    """
    global WORLD
    if RANK >= processes:
        return False
    WORLD = processes
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    if processes == 1:
        for name in names:
            os.environ.pop(name, None)
    else:
        before = RANK - int(os.environ["LOCAL_RANK"])  # on other machines
        here = min(int(os.environ["LOCAL_WORLD_SIZE"]), processes - before)
        os.environ.update(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(here))
    return True
