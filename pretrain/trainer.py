"""A model, its optimizer and its place: what pretrain.train runs and pretrain.bench measures, by the step."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eval import bpb, likelihood
from eval.tasks.task import MultipleChoice
from model import GPT, GPTConfig, deterministic, tune
from pipeline import world
from pipeline.errors import UserError
from pipeline.sections import Pretrain
from tokenizer.encode import Encoder

LOG_EVERY = 10  # steps
HELLASWAG_ROWS = 64  # scored at once
CPU_PARAMETERS = 50e6  # more than this takes weeks without a GPU
PEAK = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 FLOP/s by part of the device's name, as NVIDIA states them."""


@dataclass
class Place:
    """Where this process runs."""

    device: torch.device
    rank: int
    world: int

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, number: int) -> list[int]:
        """The number of each rank."""
        numbers = torch.zeros(self.world, dtype=torch.long, device=self.device)
        numbers[self.rank] = number
        return self.sum(numbers).tolist()


@contextlib.contextmanager
def placed() -> Iterator[Place]:
    """This process's device and, under torchrun, its process group. Sets what speed and determinism need."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    deterministic()
    tune(device)
    if world.WORLD > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Place(device, world.RANK, world.WORLD)
    finally:
        if world.WORLD > 1:
            dist.destroy_process_group()


def learning_rate(spec: Pretrain, step: int) -> float:
    """Of the step counted from 0: linear up over `warmup`, then a cosine to min_lr at the last step."""
    if step < spec.warmup:
        return spec.lr * (step + 1) / spec.warmup
    done = (step - spec.warmup) / max(1, spec.steps - 1 - spec.warmup)
    return spec.min_lr + (spec.lr - spec.min_lr) * (1 + math.cos(math.pi * min(1.0, done))) / 2


class Trainer:
    """A model and its optimizer, a step at a time."""

    def __init__(self, config: GPTConfig, spec: Pretrain, seed: int, place: Place):
        self.spec, self.place = spec, place
        self.model = GPT(config).init_weights(seed).to(place.device)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        decay = spec.weight_decay
        self.optimizer = torch.optim.AdamW(groups, spec.lr, spec.betas, weight_decay=decay, fused=True)
        self.optimizer.found_inf = torch.zeros((), device=place.device)  # at 1, fused AdamW does nothing
        bf16 = spec.precision == "bf16"
        self.autocast = partial(torch.autocast, place.device.type, torch.bfloat16, enabled=bf16)
        self.network = self.forward = self.model  # bare, or distributed; and that, or compiled

    def wrap(self) -> None:
        """Compile and distribute, once the weights are in place."""
        if self.place.world > 1:
            devices = [self.place.device] if self.place.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.model, devices, gradient_as_bucket_view=True)
            self.forward = self.network
        if self.spec.compile:
            self.forward = self._compiled()

    def _compiled(self) -> nn.Module:
        """The compiled network; the plain one, and a line that says so, where compiling fails."""
        share = self.spec.batch_size // self.place.world
        shape = min(self.spec.micro_batch, share), self.spec.block_size + 1
        example = torch.zeros(shape, dtype=torch.long, device=self.place.device)
        try:
            compiled = torch.compile(self.forward)
            with self.autocast():
                compiled(example[:, :-1], example[:, 1:]).backward()
        except Exception as error:  # the compiler's own, a missing C++ compiler or Python.h
            said = str(error).strip().splitlines() or [type(error).__name__]
            print(f"torch.compile failed, so training is eager and slower: {said[0][:200]}", file=sys.stderr)
            compiled = self.forward
        self.model.zero_grad(set_to_none=True)
        return compiled

    def step(self, windows: Tensor, lr: float, stop: bool = False) -> Tensor:
        """One step on this rank's windows, int64 (n, T + 1): [loss, gradient norm, ranks told to stop].

        The report is on the device, the same on all ranks. Updates nothing if loss or gradient is not finite,
        nor in any later step.
        """
        loss = torch.zeros((), device=self.place.device)
        parts = windows.split(self.spec.micro_batch)
        for i, part in enumerate(parts):
            last = self.place.world == 1 or i + 1 == len(parts)  # ranks average their gradients once a step
            with contextlib.nullcontext() if last else self.network.no_sync():
                with self.autocast():
                    part_loss = self.forward(part[:, :-1], part[:, 1:]) * (len(part) / len(windows))
                part_loss.backward()
            loss += part_loss.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip, foreach=True)
        told = torch.full_like(loss, stop)
        report = self.place.sum(torch.stack([loss / self.place.world, norm / self.place.world, told]))
        self.optimizer.found_inf.logical_or_(~report[:2].isfinite().all())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return report

    @torch.inference_mode()
    def evaluate(self, texts: list[np.ndarray], counts: np.ndarray, eos: int) -> dict[str, float]:
        """Nats a token and bits per source byte of the validation documents; all ranks share the work."""
        rank, world = self.place.rank, self.place.world
        with self.autocast():
            nats = bpb.document_nats(self.model, texts[rank::world], eos, lambda n: None)
        lengths, counts = np.array([len(text) for text in texts[rank::world]]), counts[rank::world]
        plain = counts[:, 1] == 0
        sums = [nats.sum(), lengths.sum(), counts[:, 0].sum(), nats[plain].sum(), counts[plain, 0].sum()]
        sums = self.place.sum(torch.tensor(sums, dtype=torch.float64, device=self.place.device)).tolist()
        looks = {"val_loss": sums[0] / sums[1], "val_bits_per_byte": sums[0] / sums[2] / math.log(2)}
        if sums[4]:
            looks["val_bits_per_byte_without_facts"] = sums[3] / sums[4] / math.log(2)
        return looks

    def look_at_hellaswag(self, encoder: Encoder, table: list[MultipleChoice]) -> dict[str, float]:
        """acc_norm over the rows whose endings fit the context; all ranks share the work."""
        with self.autocast():
            share = table[self.place.rank :: self.place.world]
            outcomes = likelihood.score(self.model, encoder, share, HELLASWAG_ROWS)
        right = [float(outcome["acc_norm"]) for outcome in outcomes if outcome is not None]
        sums = self.place.sum(torch.tensor([sum(right), len(right)], device=self.place.device)).tolist()
        return {"hellaswag_acc_norm": sums[0] / max(sums[1], 1), "hellaswag_rows": int(sums[1])}


def refuse_cpu(config: GPTConfig, device: torch.device) -> None:
    """Raises UserError for a model that only a GPU can train, where there is none."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in GPT(config).parameters())
    if device.type == "cpu" and parameters > CPU_PARAMETERS and not os.environ.get("ALLOW_CPU"):
        millions = f"{parameters // 10**6}M parameters"
        raise UserError(
            f"no GPU is here, and {millions} take weeks without; to do it all the same set ALLOW_CPU=1"
        )


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a known GPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAK.items() if part in name), None)


class Meter:
    """Loss, rate and use of the hardware between log lines, what is paused left out."""

    def __init__(self, spec: Pretrain, place: Place, flops: float):
        self.tokens, self.last, self.device = spec.batch_size * spec.block_size, spec.steps, place.device
        peak = peak_flops(place.device)
        self.mfu = flops / (peak * place.world) if peak else None  # per token a second
        self.losses: list[float] = []
        self.began, self.rate, self.said = time.perf_counter(), 0.0, ""
        self.steps, self.spent = 0, 0.0  # in this process

    def read(self, step: int, loss: float, norm: float) -> dict[str, float] | None:
        """Metrics every LOG_EVERY steps, the loss a mean over them; None in between."""
        self.losses.append(loss)
        self.said = f"loss {loss:.3f}, {self.rate:,.0f} tokens/s"
        if step % LOG_EVERY and step != self.last:
            return None
        now, count = time.perf_counter(), len(self.losses)
        self.rate = count * self.tokens / (now - self.began)
        self.steps, self.spent = self.steps + count, self.spent + now - self.began
        metrics = {"step": step, "tokens": step * self.tokens, "loss": sum(self.losses) / count}
        metrics |= {"norm": norm, "tokens_per_second": round(self.rate)}
        if self.mfu:
            metrics["mfu"] = round(self.rate * self.mfu, 4)
        if self.device.type == "cuda":
            metrics["memory_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
        self.losses, self.began = [], now
        return metrics

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        now = time.perf_counter()
        yield
        self.began += time.perf_counter() - now
