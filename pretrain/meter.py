"""How training goes: its loss, its rate, its use of the hardware."""

import contextlib
import time
from collections.abc import Iterator

import torch

from training import Place

LOG_EVERY = 10  # steps
PEAK = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 FLOP/s by part of the device's name, as NVIDIA states them."""


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a known GPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAK.items() if part in name), None)


class Meter:
    """Loss, rate and use of the hardware between log lines, what is paused left out.

    `losses` are those that a run before this one had read since its last line: they are part of the next.
    """

    def __init__(self, tokens: int, last: int, place: Place, flops: float, losses: list[float]):
        self.tokens, self.last, self.device = tokens, last, place.device  # tokens a step; the last step
        peak = peak_flops(place.device)
        self.mfu = flops / (peak * place.world) if peak else None  # per token a second
        self.losses = losses
        self.began, self.rate, self.note, self.timed = time.perf_counter(), 0.0, "", 0
        self.steps, self.spent = 0, 0.0  # in this process

    def read(self, step: int, loss: float, norm: float) -> dict[str, float] | None:
        """Metrics every LOG_EVERY steps, the loss a mean over them; None in between."""
        self.losses.append(loss)
        self.timed += 1
        self.note = f"loss {loss:.3f}, {self.rate:,.0f} tokens/s"
        if step % LOG_EVERY and step != self.last:
            return None
        now = time.perf_counter()
        self.rate = self.timed * self.tokens / (now - self.began)
        self.steps, self.spent = self.steps + self.timed, self.spent + now - self.began
        metrics = {
            "step": step,
            "tokens": step * self.tokens,
            "loss": sum(self.losses) / len(self.losses),
            "norm": norm,
            "tokens_per_second": round(self.rate),
        }
        if self.mfu:
            metrics["mfu"] = round(self.rate * self.mfu, 4)
        if self.device.type == "cuda":
            metrics["memory_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
        self.losses, self.began, self.timed = [], now, 0
        return metrics

    def tokens_per_second(self) -> int:
        """Over all steps of this process."""
        return round(self.tokens * self.steps / max(self.spent, 1e-9))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        now = time.perf_counter()
        yield
        self.began += time.perf_counter() - now
