"""How fast this machine pretrains: the step of `pretrain.train`, beside that of a plain loop.

    python -m scripts.bench.pretrain experiments/quickstart.yaml
    python -m scripts.bench.pretrain experiments/quickstart.yaml --gains         # what each change gained on a CPU
    python -m scripts.bench.pretrain experiments/gpt2_124m.yaml --set stages.pretrain.micro_batch=32 --name try

The reference is a loop in the manner of nanoGPT: the same architecture, threads, precision and fused AdamW,
not compiled, fused attention, whole logits and plain cross-entropy, at whichever micro-batch is best for it.
Each runs in a process of its own on random tokens. On CPUs they take turns, so that a busy machine slows
both; rates are medians. The table says what was measured: whether ours was compiled in the end, and its
micro-batch. Where the file looks at HellaSwag while it trains, what that costs is measured too.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

import cross_entropy
import model
import training
from eval import likelihood
from eval.tasks import hellaswag
from eval.tasks.task import load as load_task
from model import GPT, GPTConfig
from pipeline.errors import UserError, cli
from pipeline.experiment import add_experiment_arguments, load
from pipeline.progress import clock
from pipeline.sections import Pretrain
from pretrain.looks import HELLASWAG_ROWS
from pretrain.meter import peak_flops
from pretrain.network import Network, refuse_cpu
from pretrain.train import update
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder
from training import Place, optimizers, placed

TURNS = 5  # on CPUs, where rates vary
SECONDS = 5.0  # of a turn, about
LOOKED_AT = 400  # rows of HellaSwag
MICRO_BATCHES = (64, 32, 16, 8, 4, 2, 1)  # the reference tries the four largest that divide the batch


class Ours:
    """The step of pretrain.train."""

    def __init__(self, config: GPTConfig, spec: Pretrain, place: Place):
        self.spec, self.model = spec, GPT(config).init_weights(0).to(place.device)
        self.optimizers = optimizers(self.model, spec.optimizer, spec.lr, spec.betas, spec.weight_decay)
        self.network = Network(self.model, self.optimizers, spec, place, refuse)
        self.micro_batch, self.compiled = self.network.micro_batch, self.network.compiled

    def step(self, windows: Tensor) -> None:
        update(self.network, self.optimizers, windows, self.spec.lr, self.spec.clip)


def refuse(key: str, why: str) -> NoReturn:
    raise UserError(f"stages.pretrain.{key}: {why}")


class Reference:
    """The plain loop, a step at a time."""

    compiled = False

    def __init__(self, config: GPTConfig, spec: Pretrain, micro_batch: int, place: Place):
        self.spec, self.micro_batch, self.device = spec, micro_batch, place.device.type
        self.model = GPT(config).init_weights(0).to(place.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), spec.lr, spec.betas, weight_decay=0.1, fused=True
        )

    def step(self, windows: Tensor) -> None:
        parts = windows.split(self.micro_batch)
        for part in parts:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.spec.precision == "bf16"):
                hidden = self.model.hidden(part[:, :-1], attend=_fused_attention)
                logits = F.linear(hidden, self.model.wte.weight)
                loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) / len(parts)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _fused_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@contextlib.contextmanager
def _plain_place():
    """As nanoGPT sets it: TF32 on CUDA, nothing on a CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    yield Place(device, 0, 1)


def _whole_attention() -> None:
    model._causal_halves = lambda q, k, v: _fused_attention(0, q, k, v)


def _whole_logits() -> None:
    cross_entropy.fuses = lambda hidden: False


def _products_as_they_are() -> None:
    torch.set_float32_matmul_precision = lambda precision: None


def _memory_as_it_is() -> None:
    training.ctypes.CDLL = lambda name: None  # then tune() takes the C library for another than glibc


LEFT_OUT = {  # what makes CPU training fast, and how to do without
    "attention in halves": _whole_attention,
    "the fused loss": _whole_logits,
    "products by oneDNN": _products_as_they_are,
    "freed memory kept": _memory_as_it_is,
}


def contend(
    config: GPTConfig, spec: Pretrain, reference: int | None, left_out: str | None, pipe: Connection
) -> None:
    """A process: for every number of steps received, send (seconds, bytes of GPU memory, micro-batch, compiled), or
    None where memory runs out.

    `reference` is the plain loop's micro-batch; None is our own step, perhaps with one change left out.
    """
    if left_out:
        LEFT_OUT[left_out]()
    with _plain_place() if reference else placed() as place, contextlib.suppress(EOFError):
        if not reference:
            training.tune(place.device)
        windows = torch.randint(
            config.vocab_size, (spec.batch_size, spec.block_size + 1), device=place.device
        )
        try:
            loop = Reference(config, spec, reference, place) if reference else Ours(config, spec, place)
            while steps := pipe.recv():
                start = time.perf_counter()
                for _ in range(steps):
                    loop.step(windows)
                if place.device.type == "cuda":
                    torch.cuda.synchronize()
                memory = torch.cuda.max_memory_allocated() if place.device.type == "cuda" else 0
                pipe.send((time.perf_counter() - start, memory, loop.micro_batch, loop.compiled))
        except torch.OutOfMemoryError:
            pipe.send(None)


class Contender:
    """`contend` at the other end of a pipe, warmed up."""

    def __init__(
        self, config: GPTConfig, spec: Pretrain, reference: int | None = None, left_out: str | None = None
    ):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=contend, args=(config, spec, reference, left_out, other), daemon=True
        )
        self.process.start()
        other.close()
        self.tokens = spec.batch_size * spec.block_size  # of a step
        self.rates: list[float] = []  # tokens a second
        self.steps, self.memory, self.micro_batch, self.compiled = 1, 0, 0, False
        for _ in range(3):  # the first turn compiles, the others give the pace
            self.turn()
            self.steps = max(1, round(SECONDS / 10 * self.rates[-1] / self.tokens))
        self.steps = max(1, round(SECONDS * self.rates[-1] / self.tokens))
        self.rates.clear()

    def turn(self) -> None:
        try:
            self.pipe.send(self.steps)
            answer = self.pipe.recv()
        except (EOFError, BrokenPipeError):
            raise UserError("a measuring process ended; its error stands above") from None
        if answer is None:
            raise MemoryError
        seconds, self.memory, self.micro_batch, self.compiled = answer
        self.rates.append(self.steps * self.tokens / seconds)

    def end(self) -> None:
        self.pipe.close()
        self.process.join()


def best_reference(config: GPTConfig, spec: Pretrain) -> int:
    """The micro-batch at which the plain loop is fastest."""
    candidates = [m for m in MICRO_BATCHES if spec.batch_size % m == 0][:4]
    if len(candidates) == 1:
        return candidates[0]
    rates = {}
    for micro_batch in candidates:
        with contextlib.suppress(MemoryError):
            contender = Contender(config, spec, micro_batch)
            contender.turn()
            contender.end()
            rates[micro_batch] = contender.rates[0]
    return max(rates, key=rates.get)


def measured(args: argparse.Namespace) -> tuple[Condition, GPTConfig, Pretrain]:
    """The first condition, the model and the stage of an experiment that pretrains. Raises UserError without one."""
    experiment = load(args.experiment, args.set, args.name)
    spec = next((spec for spec in experiment.stages.values() if spec.run == "pretrain"), None)
    if spec is None:
        raise UserError(f"{args.experiment}: has no pretrain stage to measure; name a file that has")
    condition = Condition.of(experiment, next(iter(experiment.conditions)))
    return condition, GPTConfig(condition.size, spec.n_layer, spec.n_head, spec.n_embd, spec.block_size), spec


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_arguments(parser)
    parser.add_argument(
        "--gains", action="store_true", help="also leave out, one at a time, what makes CPUs fast"
    )
    args = parser.parse_args(argv)
    condition, config, spec = measured(args)
    with torch.device("meta"):
        network = GPT(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    refuse_cpu(config, device)
    if args.gains and device.type == "cuda":
        raise UserError("--gains: measures what makes CPUs fast, and here is a GPU; leave the option out")

    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    tokens = spec.batch_size * spec.block_size
    size = f"{millions:.1f}M parameters, T {spec.block_size}, {tokens:,} tokens a step"
    print(f"{size}, {spec.precision}; {name}", flush=True)
    rival = best_reference(config, spec)
    names = ["ours", "reference", *(f"ours without {change}" for change in LEFT_OUT if args.gains)]
    if device.type == "cuda":  # one after the other: each may need all the memory
        contenders = []
        for reference in (None, rival):
            contenders.append(Contender(config, spec, reference))
            contenders[-1].turn()
            contenders[-1].end()
    else:
        contenders = [Contender(config, spec), Contender(config, spec, rival)]
        contenders += [Contender(config, spec, left_out=change) for change in LEFT_OUT if args.gains]
        for _ in range(TURNS):
            for contender in contenders:
                contender.turn()
    report(names, contenders, spec, network.flops_per_token(), peak_flops(device))
    if spec.hellaswag_every:
        rate = statistics.median(contenders[0].rates)
        tokens_of_look = rate * look(config, spec, Encoder(condition))
        share = tokens_of_look / (spec.hellaswag_every * tokens)
        print(
            f"a look at all of HellaSwag costs what {tokens_of_look:,.0f} tokens do: {share:.2%} of the training"
        )


def look(config: GPTConfig, spec: Pretrain, encoder: Encoder) -> float:
    """Seconds for all rows of HellaSwag, judged by some of them."""
    with placed() as place:
        network = Ours(config, spec, place).network
        table = load_task(hellaswag.TASK, spec.hellaswag, "validation", limit=LOOKED_AT)[0]
        with network.autocast():
            likelihood.score(network.model, encoder, table[:16], HELLASWAG_ROWS)
            start = time.perf_counter()
            likelihood.score(network.model, encoder, table, HELLASWAG_ROWS)
        return (time.perf_counter() - start) * hellaswag.TASK.size / len(table)


def report(
    names: list[str], contenders: list[Contender], spec: Pretrain, flops: float, peak: float | None
) -> None:
    heads = (
        ("", 10),
        ("micro-batch", 12),
        ("tokens/s", 12),
        ("ms/step", 10),
        ("TFLOP/s", 10),
        ("MFU", 7),
        ("GB", 7),
    )
    wide = max(map(len, names)) + 2
    print(" " * wide + "".join(f"{head:>{width}}" for head, width in heads) + "   the whole run")
    for name, contender in zip(names, contenders):
        rate = statistics.median(contender.rates)
        run = clock(spec.steps * contender.tokens / rate) if spec.steps else "–"
        mfu = f"{rate * flops / peak:.1%}" if peak else "–"
        memory = f"{contender.memory / 1e9:.1f}" if contender.memory else "–"
        print(
            f"{name:<{wide}}{'compiled' if contender.compiled else 'eager':>10}{contender.micro_batch:>12}{rate:>12,.0f}{1e3 * contender.tokens / rate:>10.1f}"
            f"{rate * flops / 1e12:>10.3f}{mfu:>7}{memory:>7}   {run}"
        )
    for name, contender in list(zip(names, contenders))[1:]:
        ratios = sorted(ours / theirs for ours, theirs in zip(contenders[0].rates, contender.rates))
        ratio = f"{statistics.median(ratios):.2f} (turns: {ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"ours is {ratio} times as fast as {'the ' if name == 'reference' else ''}{name}")


if __name__ == "__main__":
    cli(main)
