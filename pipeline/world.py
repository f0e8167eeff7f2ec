"""This process among those that torchrun started."""

import os

RANK = int(os.environ.get("RANK", "0"))  # set by torchrun; rank 0 alone locks, verifies, logs and writes


WORLD = int(os.environ.get("WORLD_SIZE", "1"))  # processes, set by torchrun


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
