"""Progress of a stage: a bar on a terminal, and progress.json for `status`."""

import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.files import write_json
from pipeline.world import RANK


class Bar:
    """Progress on stderr (a bar on a terminal, else one line a minute) and in progress.json, once a second."""

    def __init__(self, directory: Path, label: str, total: int, unit: str, done: int = 0):
        self.path, self.label, self.total, self.unit = directory / "progress.json", label, total, unit
        self.first = self.done = done
        self.started = self.printed = time.time()
        self.written = 0.0
        self.terminal = None

    def __enter__(self) -> "Bar":
        if RANK == 0 and sys.stderr.isatty():
            kwargs = {"total": self.total, "unit": f" {self.unit}", "initial": self.done, "unit_scale": True}
            self.terminal = tqdm(desc=self.label, mininterval=0.2, dynamic_ncols=True, **kwargs)
        return self

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; `note` is shown behind the bar."""
        self.done += n
        if RANK:
            return
        if self.terminal is not None:
            self.terminal.update(n)
            if note:
                self.terminal.set_postfix_str(note, refresh=False)
        now = time.time()
        if self.terminal is None and now - self.printed >= 60:
            self.printed = now
            print(f"{self.label}: {self.text()} {note}", file=sys.stderr, flush=True)
        if now - self.written >= 1 or self.done >= self.total:
            self.written = now
            state = {"done": self.done, "total": self.total, "unit": self.unit, "note": note}
            write_json(self.path, state | {"rate": self.rate(), "eta": self.eta(), "time": now})

    def rate(self) -> float:
        return (self.done - self.first) / max(time.time() - self.started, 1e-9)

    def eta(self) -> float:
        """Seconds left at the mean rate so far."""
        return (self.total - self.done) / max(self.rate(), 1e-9)

    def text(self) -> str:
        return f"{self.done:,}/{self.total:,} {self.unit}, {self.rate():,.1f}/s, {clock(self.eta())} left"

    def __exit__(self, *exception: Any) -> None:
        if self.terminal is not None:
            self.terminal.close()


def size(count: float) -> str:
    """Bytes for a person."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
