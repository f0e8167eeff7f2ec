"""What all training shares: its place (device, process group), learning rates, optimizers, memory, dashboards.

Pretraining, SFT and GRPO take each of these from here, so that a schedule or an optimizer is one function and
serves them all. A stage opens with

    with training.begin("pretrain", argv, __doc__) as (run, place):
        if run is not None:
            ...
"""

import contextlib
import ctypes
import gc
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from muon import Muon
from pipeline import stage, world
from pipeline.errors import UserError
from pipeline.files import digest
from pipeline.identity import section

Refuse = Callable[[str, str], NoReturn]  # stage.Run.refuse: (key, why) → UserError
GROUP_TIMEOUT = timedelta(hours=6)  # others wait while rank 0 verifies 20 GB of shards on a slow disk

# --- the place ----------------------------------------------------------------------------------------------


@dataclass
class Place:
    """Where this process runs."""

    device: torch.device
    rank: int = 0
    world: int = 1  # processes

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

    def agree(self, value: bool) -> bool:
        """Rank 0's value. No rank gets it before rank 0 has come here, so this is a barrier behind its work."""
        return bool(self.gather(value)[0])


@contextlib.contextmanager
def placed() -> Iterator[Place]:
    """This process's device and, under torchrun, its process group."""
    _see_one_gpu()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        if local >= (there := torch.cuda.device_count()):
            raise UserError(
                f"process {local} of this machine finds {there} GPUs: start no more than one for each"
            )
        torch.cuda.set_device(device)
    deterministic()
    if world.WORLD > 1:
        # With a device_id NCCL connects here, and not in the first collective, where ranks come at any time.
        kwargs = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group("nccl" if kwargs else "gloo", timeout=GROUP_TIMEOUT, **kwargs)
    yield Place(device, world.RANK, world.WORLD)
    if world.WORLD > 1:  # not after an error: it would wait for ranks that do not come
        dist.destroy_process_group()


def _see_one_gpu() -> None:
    """Let a single process see one GPU, the first of those it was given: TRL refuses to see several.

    Has an effect only before CUDA is initialised.
    """
    if world.WORLD == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def deterministic() -> None:
    """Make training on CPUs give the same bits every time: else the embedding's backward adds in any order."""
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # it would cost 15%, and nothing reads it


def tune(device: torch.device) -> None:
    """Settings of this process under which fp32 products and, on CPUs, large tensors cost least.

    They are chosen by what the processor can do and not by a stopwatch: with another choice come other bits.
    CUDA: TF32. CPUs: PyTorch leaves fp32 products to MKL unless they may be bf16; then they are oneDNN's, which
    without AMX computes them in fp32 all the same: that is looked at here and not assumed. And glibc keeps what is
    freed, so that a step has fewer page faults. On the one processor measured (AMD, AVX-512; four noisy rounds of
    `scripts.bench.pretrain --gains`) a step was slower without either; how much, and elsewhere, is not known well.
    """
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "medium")
    if device.type == "cpu":
        a = torch.linspace(-1, 1, 256 * 256).sin().view(256, 256)
        if (a @ a - (a.double() @ a.double())).abs().max() > 1e-4:  # fp32 errs by 1e-5, bf16 by 1e-2
            torch.set_float32_matmul_precision("highest")
        with contextlib.suppress(AttributeError):  # not glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its maximum
            mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


@contextlib.contextmanager
def begin(
    kind: str,
    argv: list[str] | None,
    doc: str | None,
    resumable: bool = True,
    usable: Callable[[Any, int], int] = lambda spec, processes: processes,
) -> Iterator[tuple[stage.Run | None, Place]]:
    """`stage.begin` on all ranks: they connect first, and none reads before rank 0 has verified and cleared.

    `usable(section, processes)` is how many processes the stage has work for; the others get no run and end.
    """
    if world.WORLD > 1 and not _needed(kind, argv, doc, usable):
        yield None, Place(torch.device("cpu"))
        return
    with placed() as place, stage.begin(kind, argv, doc, resumable, place.agree) as run:
        yield run, place


def _needed(kind: str, argv: list[str] | None, doc: str | None, usable: Callable[[Any, int], int]) -> bool:
    """Whether the stage has work for this process; where it has not for all of them, a line says so."""
    _, experiment, name = stage.parse(kind, argv, doc)
    there, used = world.WORLD, usable(experiment.stage(name), world.WORLD)
    if used < there and world.RANK == 0:
        message = f"stages.{name}.batch_size: feeds {used} of {there} processes evenly; the others end"
        print(f"{experiment.path}: {message}", file=sys.stderr)
    return world.leave(used) if used < there else True


# --- learning rates -----------------------------------------------------------------------------------------


def cosine(at: float, span: float) -> float:
    """Of the peak, `at` steps into a decay of `span`."""
    return (1 + math.cos(math.pi * (at / span))) / 2


def linear(at: float, span: float) -> float:
    return (span - at) / span


def constant(at: float, span: float) -> float:
    return 1.0


def wsd(at: float, span: float) -> float:
    """Warm-up, stable, decay: constant, and down as 1 − √ over the last fifth (Hägele et al. 2024)."""
    return 1 - math.sqrt(max(0.0, 1 - (span - at) / (0.2 * span)))


SCHEDULES = {"cosine": cosine, "linear": linear, "constant": constant, "wsd": wsd}


def schedule(
    name: str, warmup: int, steps: int, peak: float = 1.0, end: float = 0.0, from_zero: bool = False
) -> Callable[[int], float]:
    """The learning rate of a step, counted from 0; with a peak of 1, what torch's LambdaLR takes.

    Linear up over `warmup` steps, then the named decay from `peak` to `end`. The first step is one part of the
    warm-up and the last one is at `end`; or, `from_zero`, the first step is at 0 and the one behind the last
    would be at `end`, which is how transformers counts.
    """
    decay, first, last = SCHEDULES[name], 0 if from_zero else 1, steps if from_zero else steps - 1

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + first) / warmup
        span = max(1, last - warmup)
        return end + (peak - end) * decay(min(step - warmup, span), span)

    return rate


# --- optimizers ---------------------------------------------------------------------------------------------


def optimizers(
    model: nn.Module, name: str, lr: float, betas: tuple[float, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """What updates the model's parameters. Matrices decay; biases and gains do not.

    `adamw`: fused AdamW for all. `muon`: Muon for the matrices inside the blocks, and AdamW for embeddings and
    vectors; learning rate and decay mean the same for both.
    """
    parameters = dict(model.named_parameters())
    inside = [
        p for key, p in parameters.items() if name == "muon" and p.dim() == 2 and ".h." in f".{key}"
    ]  # GPT-2 calls its blocks h
    rest = [p for p in parameters.values() if not any(p is q for q in inside)]
    groups = [
        {"params": [p for p in rest if p.dim() > 1]},
        {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
    ]
    chosen: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr, betas, eps=1e-8, weight_decay=weight_decay, fused=True)
    ]
    if name == "muon":
        chosen.append(Muon(inside, lr, weight_decay))
    return chosen


# --- memory -------------------------------------------------------------------------------------------------


def micro_batches(share: int, ceiling: int | None = None) -> list[int]:
    """Into which equal parts a process may cut its share of a batch, the largest first, none above `ceiling`."""
    return [n for n in range(min(share, ceiling or share), 0, -1) if share % n == 0]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no memory left."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in said and "memory" in said
    )


def largest_that_fits(attempt: Callable[[int], None], sizes: list[int], place: Place) -> int | None:
    """The first of `sizes` whose attempt runs out of memory on no rank; None if none is such."""
    for size in sizes:
        full = False
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:  # OutOfMemoryError is a RuntimeError
            if not out_of_memory(error):
                raise
            full = True
        if full:
            gc.collect()  # the failed attempt's graph
            if place.device.type == "cuda":
                torch.cuda.empty_cache()
        if not sum(place.gather(full)):
            return size
    return None


def refuse_memory(refuse: Refuse, size: int, fits: int | None, unit: str = "windows") -> NoReturn:
    """Raises UserError after an out-of-memory error at micro_batch `size`."""
    remedy = "not even 1 fits; take a GPU with more memory, or a smaller model or context"
    if fits:
        remedy = f"{fits} would fit; set micro_batch: {fits} and run it again to go on"
    refuse("micro_batch", f"{size} {unit} at once do not fit into this device's memory; {remedy}")


# --- dashboards ---------------------------------------------------------------------------------------------

Report = Callable[[dict[str, float]], None]


def dashboards(run: stage.Run, names: str | list[str], step: int) -> Report:
    """What to hand every line of metrics to, which holds its `step`; a run that goes on keeps its id.

    The project is the experiment, the group the condition. metrics.jsonl is written always, and is what
    everything else reads. Raises UserError where a package or a login is missing.
    """
    chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    trackers = [_tracker(run, name, step) for name in chosen if name != "none" and world.RANK == 0]

    def report(metrics: dict[str, float]) -> None:
        for tracker in trackers:
            tracker.log(metrics, step=int(metrics["step"]))

    return report


def _tracker(run: stage.Run, name: str, step: int):
    """One of accelerate's trackers, started."""
    from accelerate import PartialState, tracking  # three seconds

    label, config = f"{run.condition}-s{run.seed} {run.name}", section(run.spec)
    project, group = run.experiment.name, run.condition
    identity = digest([run.identity, str(run.dir)])[:16]
    make = {
        "tensorboard": lambda: tracking.TensorBoardTracker(name, str(run.dir), purge_step=step + 1),
        "wandb": lambda: tracking.WandBTracker(
            project, group=group, name=label, id=identity, resume="allow", dir=str(run.dir), config=config
        ),
        "trackio": lambda: tracking.TrackioTracker(
            project, group=group, name=label, resume="allow", config=config
        ),
    }
    PartialState(cpu=not torch.cuda.is_available())  # what the trackers' own log lines ask for
    try:
        tracker = make[name]()
        tracker.start()
    except ImportError:
        run.refuse("report_to", f"{name} is not installed; run: .venv/bin/pip install {name}, or say none")
    except Exception as error:  # no login, no network, no right to write: each package has its own kinds
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        run.refuse("report_to", f"{name}: {message[:200]}; log in to it, or say none")
    return tracker
