"""The network that pretrain.train trains: one model, distributed, compiled where that works, in parts that fit."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model import GPT, GPTConfig
from muon import Muon
from pipeline.errors import UserError
from pipeline.sections import Pretrain
from training import Place, Refuse, largest_that_fits, micro_batches, out_of_memory, refuse_memory

CPU_PARAMETERS = 50e6  # more than this takes weeks without a GPU


class Network:
    """A model in its place. `network(ids, targets)` is the loss; its gradients are the mean over all ranks.

    `refuse(key, why)` raises UserError for a key of the stage.
    """

    def __init__(
        self,
        model: GPT,
        optimizers: list[torch.optim.Optimizer],
        spec: Pretrain,
        place: Place,
        refuse: Refuse,
    ):
        self.model, self.optimizers, self.place, self.refuse = model, optimizers, place, refuse
        self.poisoned = torch.zeros((), device=place.device)  # 1 once a loss or gradient was not finite
        self.share = spec.batch_size // place.world  # windows of a step, for this rank
        self.block_size = spec.block_size
        bf16 = spec.precision == "bf16"
        self.autocast = partial(torch.autocast, place.device.type, torch.bfloat16, enabled=bf16)
        self.distributed: nn.Module = model
        if place.world > 1:
            devices = [place.device] if place.device.type == "cuda" else None
            self.distributed = DistributedDataParallel(model, devices, gradient_as_bucket_view=True)
        self.forward, self.compiled = self.distributed, False
        auto = spec.micro_batch == "auto"
        self.micro_batch = micro_batches(self.share, None if auto else spec.micro_batch)[0]
        if spec.compile:
            self._compile(1 if auto else self.micro_batch)
        if auto:
            fits = largest_that_fits(self.attempt, micro_batches(self.share), place)
            self.micro_batch = fits or refuse_memory(refuse, 1, None)
        if place.rank == 0 and self.micro_batch != spec.micro_batch:
            of = f"of the {self.share} windows that a process has in a step"
            print(f"micro_batch: {self.micro_batch} ({spec.micro_batch} is asked) {of}", file=sys.stderr)

    def __call__(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.forward(ids, targets)

    def alone(self) -> contextlib.AbstractContextManager:
        """Gradients are added up here and not averaged over ranks."""
        return self.distributed.no_sync() if self.place.world > 1 else contextlib.nullcontext()

    def attempt(self, size: int) -> None:
        """A forward and backward pass on `size` windows that trains nothing and needs no other rank."""
        room = torch.empty(_moments_to_come(self.optimizers), device=self.place.device)
        ids = torch.zeros(size, self.block_size + 1, dtype=torch.long, device=self.place.device)
        try:
            with self.alone(), self.autocast():
                self.forward(ids[:, :-1], ids[:, 1:]).backward()
        finally:
            del room
            self.model.zero_grad(set_to_none=True)

    @contextlib.contextmanager
    def within_memory(self) -> Iterator[None]:
        """Raises UserError, with a micro-batch that fits here, where memory runs out."""
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled it
            full = True
        else:
            full = False
        if full:  # the other ranks may be waiting in a collective, so what fits is found here alone
            smaller = micro_batches(self.share, self.micro_batch - 1) if self.micro_batch > 1 else []
            fits = largest_that_fits(self.attempt, smaller, Place(self.place.device))
            refuse_memory(self.refuse, self.micro_batch, fits)

    def _compile(self, size: int) -> None:
        """Compile, unless that fails on any rank: then all train eagerly, since their collectives must pair."""
        message = ""
        try:
            self.forward = torch.compile(self.distributed, dynamic=False)
            with self.within_memory():
                self.attempt(size)
        except UserError:
            raise
        except Exception as error:  # the compiler's own, a missing C++ compiler or Python.h
            message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.compiled = not sum(self.place.gather(bool(message)))
        if not self.compiled:
            self.forward = self.distributed
            message = message or "on another process"
            print(f"torch.compile failed, so training is eager and slower: {message[:200]}", file=sys.stderr)


def _moments_to_come(optimizers: list[torch.optim.Optimizer]) -> int:
    """Numbers that the optimizers will keep of parameters they have not yet stepped, nor got from a checkpoint."""
    kept = {torch.optim.AdamW: 2, Muon: 1}  # moments of each number
    return sum(
        kept[type(optimizer)] * p.numel()
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
        if not optimizer.state.get(p)
    )


def refuse_cpu(config: GPTConfig, device: torch.device) -> None:
    """Raises UserError for a model that only a GPU can train, where there is none."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in GPT(config).parameters())
    if device.type == "cpu" and parameters > CPU_PARAMETERS and not os.environ.get("ALLOW_CPU"):
        millions = f"{parameters // 10**6}M parameters"
        raise UserError(
            f"no GPU is here, and {millions} take weeks without; to do it all the same set ALLOW_CPU=1"
        )
