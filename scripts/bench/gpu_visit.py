"""Ten minutes on a GPU that nobody has tried: what holds there and how fast it is, in one table.

    python -m scripts.bench.gpu_visit                        # GPT-2 124M; also writes gpu_visit.json
    python -m scripts.bench.gpu_visit --only steps decoding  # some of the checks
    python -m scripts.bench.gpu_visit --dry                  # the same checks at a toy's size, on a CPU too

A check that fails is a line of the table like the others, and the next one goes on. Needs torch, and for the
stages at the end what requirements.txt names, in whatever versions are there.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import cross_entropy
from eval.decode.generate import generate
from model import GPT, GPTConfig
from pipeline.errors import UserError
from pipeline.sections import Pretrain
from pretrain import checkpoint
from pretrain.meter import peak_flops
from pretrain.network import Network
from pretrain.train import update
from training import optimizers, placed, tune

STEPS = 30
EXPERIMENT = """
vocabulary: multiplication
tokenizer: {{base: {base}}}
conditions: {{mul_tokens: {{mode: token}}}}
seeds: [0]
stages:
  tokenizer: {{run: tokenizer}}
  prepare: {{run: prepare, data: sample, tokens: 200e3, val_tokens: 5e3}}
  pretrain: {{run: pretrain, from: prepare, n_layer: {n_layer}, n_head: {n_head}, n_embd: {n_embd},
    block_size: {block_size}, steps: 5, batch_size: 8, micro_batch: auto, lr: 1e-3, min_lr: 1e-4, warmup: 1,
    weight_decay: 0.1, precision: {precision}, compile: false, eval_every: 5, save_every: 5}}
  export: {{run: export, from: pretrain}}
  sft_packed: &sft {{run: sft, from: export, task: tulu, data: sample, examples: {packed}, batch_size: {rows},
    micro_batch: {rows}, max_length: {max_length}, packing: true, lr: 1e-4, schedule: cosine, warmup: 1,
    weight_decay: 0.0, precision: {precision}}}
  sft_plain: {{<<: *sft, packing: false, examples: {plain}}}
  grpo: {{run: grpo, from: sft_plain, data: sample, rewards: fair, steps: {grpo}, batch_size: {rows},
    group_size: {group}, micro_batch: {rows}, prompts: 100, pass_at: 0, max_new_tokens: {new_tokens},
    temperature: 1.0, lr: 1e-6, schedule: constant, warmup: 0, beta: 0.0, loss: dr_grpo, precision: {precision}}}
"""
FULL = {
    "base": 50256,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "block_size": 1024,
    "rows": 32,
    "group": 16,
}
FULL |= {"packed": 4000, "plain": 640, "max_length": 512, "grpo": 5, "new_tokens": 256, "precision": "bf16"}
DRY = {"base": 1024, "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 192, "rows": 8, "group": 4}
DRY |= {"packed": 48, "plain": 16, "max_length": 128, "grpo": 2, "new_tokens": 8, "precision": "fp32"}


class Visit:
    """What the checks share: the machine, the sizes, and the rows of the table."""

    def __init__(self, device: torch.device, dry: bool):
        self.device, self.dry, self.cuda = device, dry, device.type == "cuda"
        self.sizes = DRY if dry else FULL
        shape = [self.sizes[key] for key in ("n_layer", "n_head", "n_embd", "block_size")]
        self.config = GPTConfig(1117 if dry else 50349, *shape)
        self.rows: list[tuple[str, str]] = []

    def tell(self, name: str, result: str) -> None:
        self.rows.append((name, result))
        print(f"{name:<44} {result}", flush=True)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def training(self, **keys) -> "Training":
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return Training(self, **keys)


class Training:
    """pretrain.train's own step on random tokens."""

    def __init__(self, visit: Visit, **keys):
        words = {"run": "pretrain", "from": "prepare", "steps": 100, "lr": 6e-4, "min_lr": 0.0, "warmup": 0}
        words |= {"weight_decay": 0.1, "eval_every": 1, "save_every": 1, "compile": False}
        words |= {"batch_size": 4 if visit.dry else 64, "micro_batch": 2 if visit.dry else 32}
        words |= {key: visit.sizes[key] for key in ("n_layer", "n_head", "n_embd", "block_size", "precision")}
        self.spec, self.visit = Pretrain(**words | keys), visit
        self.model = GPT(visit.config).init_weights(0).to(visit.device)
        self.optimizers = optimizers(self.model, self.spec.optimizer, 6e-4, (0.9, 0.95), 0.1)
        self.network = Network(self.model, self.optimizers, self.spec, visit.place, refuse)
        shape = self.spec.batch_size, self.spec.block_size + 1
        self.windows = torch.randint(1000, shape, generator=torch.Generator().manual_seed(0)).to(visit.device)

    def step(self) -> Tensor:
        return update(self.network, self.optimizers, self.windows, 6e-4, 1.0)

    def rate(self) -> str:
        """Tokens/s over STEPS steps in three turns, and what the memory came to."""
        for _ in range(2):
            self.step()
        steps, seconds = 2 if self.visit.dry else STEPS // 3, []
        for _ in range(3):
            self.visit.wait()
            start = time.perf_counter()
            for _ in range(steps):
                self.step()
            self.visit.wait()
            seconds.append((time.perf_counter() - start) / steps)
        rate = self.windows[:, 1:].numel() / statistics.median(seconds)
        result = f"{rate:,.0f} tokens/s, {1e3 * statistics.median(seconds):.1f} ms a step"
        if peak := peak_flops(self.visit.device):
            result += f", MFU {rate * self.model.flops_per_token() / peak:.1%}"
        if self.visit.cuda:
            result += f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
        return f"{result}, micro-batch {self.network.micro_batch}, {'compiled' if self.network.compiled else 'eager'}"


def refuse(key: str, why: str) -> None:
    raise UserError(f"{key}: {why}")


# --- the checks, in order -----------------------------------------------------------------------------------


def versions(visit: Visit) -> Iterator[tuple[str, str]]:
    names = "torch", "triton", "transformers", "trl", "accelerate", "safetensors", "numpy"
    found = []
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    yield "versions", ", ".join(found)
    if visit.cuda:
        free, total = torch.cuda.mem_get_info()
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        cuda = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        name = f"{torch.cuda.get_device_name()}, capability {capability}"
        yield "device", f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, {cuda}"
    else:
        yield "device", f"CPU, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def attention(visit: Visit) -> Iterator[tuple[str, str]]:
    yield "attention by cuDNN", "on" if torch.backends.cuda.cudnn_sdp_enabled() else "off, as it should be"
    dtype = torch.bfloat16 if visit.cuda else torch.float32

    def attend(length: int) -> None:
        q = torch.randn(4, visit.config.n_head, length, 64, device=visit.device, dtype=dtype)
        F.scaled_dot_product_attention(q, q, q, is_causal=True)
        visit.wait()

    attend(64)
    firsts = []
    for length in (65, 130, 195, 260, 325):
        start = time.perf_counter()
        attend(length)
        firsts.append(f"{1e3 * (time.perf_counter() - start):.1f}")
    yield "attention, first call of five new shapes", f"{', '.join(firsts)} ms (cuDNN took 500 each)"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if visit.cuda else []
    with torch.profiler.profile(activities=activities) as profile:
        attend(128)
    words = "flash", "fmha", "cudnn", "efficient", "sdp"
    kernels = {e.key[:60] for e in profile.key_averages() if any(word in e.key.lower() for word in words)}
    yield "attention that runs", ", ".join(sorted(kernels)) or "none that is known by name"


def steps(visit: Visit) -> Iterator[tuple[str, str]]:
    yield "30 steps, eager, loss in chunks", visit.training().rate()
    with patch.object(cross_entropy, "LOSS_CHUNK", 1 << 40):
        yield "30 steps, eager, whole logits", visit.training().rate()
    if visit.dry:
        return
    yield "30 steps, compiled, as the studies run", visit.training(compile=True).rate()
    compiled = torch.compile
    tuned = "max-autotune-no-cudagraphs"
    with patch.object(torch, "compile", lambda network, **keys: compiled(network, mode=tuned, **keys)):
        yield f"30 steps, compiled, {tuned}", visit.training(compile=True).rate()
    yield "30 steps, compiled, micro_batch auto", visit.training(compile=True, micro_batch="auto").rate()
    yield "30 steps, compiled, Muon", visit.training(compile=True, optimizer="muon").rate()


def exactness(visit: Visit) -> Iterator[tuple[str, str]]:
    training = visit.training()
    training.step()
    visit.wait()
    if visit.cuda:
        torch.cuda.set_sync_debug_mode("error")
        try:
            training.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        yield "synchronisation inside a step", "none"
    first = visit.training()
    first.step()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), 1, [], first.model, first.optimizers, 1)
        second = visit.training()
        checkpoint.load(Path(folder), second.model, second.optimizers)
    pairs = [(first.step(), second.step()) for _ in range(5)]
    off = max((abs(a[:2] - b[:2]) / abs(a[:2])).max().item() for a, b in pairs)
    yield "saved, loaded, 5 steps", "the same bits" if off == 0 else f"differ by {off:.1e} of the loss"
    before = {name: p.detach().clone() for name, p in first.model.named_parameters()}
    first.model.ln_f.bias.data.fill_(math.inf)
    report = first.step()
    first.model.ln_f.bias.data.copy_(before["ln_f.bias"])
    same = all(torch.equal(before[name], p) for name, p in first.model.named_parameters())
    held = same and not report[0].isfinite()
    yield "a gradient that is not finite", "changes nothing" if held else "CHANGED THE WEIGHTS"


def decoding(visit: Visit) -> Iterator[tuple[str, str]]:
    random, count, new = Random(0), *((20, 8) if visit.dry else (1319, 256))
    prompts = [[random.randrange(1000) for _ in range(random.randint(20, 90))] for _ in range(count)]
    exact = GPT(visit.config).init_weights(0)
    with torch.no_grad():
        exact.wte.weight.mul_(8)  # else replies hardly differ
    few = [generate(m, prompts[:8], 16, eos=1, suppress=[]) for m in (exact, exact.to(visit.device))]
    same = sum(a == b for a, b in zip(*few))
    yield "greedy replies in fp32, beside the CPU's", f"{same} of {len(few[0])} equal"
    bf16 = exact.to(torch.bfloat16 if visit.cuda else torch.float32)
    for name in ("first", "again"):
        visit.wait()
        start = time.perf_counter()
        generate(bf16, prompts, new, eos=-1, suppress=[])
        visit.wait()
        took = time.perf_counter() - start
        yield f"{count} × {new} tokens decoded, {name}", f"{took:.1f} s, {count * new / took:,.0f} tokens/s"


def stages(visit: Visit) -> Iterator[tuple[str, str]]:
    from pretrain import export_hf, prepare, train
    from rl import grpo
    from sft import train as sft
    from tokenizer import build

    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, RUNS=folder):
        file = Path(folder, "visit.yaml")
        file.write_text(EXPERIMENT.format(**visit.sizes))
        words = [str(file), "mul_tokens", "0"]
        for stage in (build, prepare, train, export_hf):
            stage.main(words)
        yield "tokenizer, prepare, pretrain, export", "done"
        for name, main in (("sft_packed", sft), ("sft_plain", sft), ("grpo", grpo)):
            start = time.perf_counter()
            main.main([*words, name])
            took = time.perf_counter() - start
            log = (Path(folder) / f"visit/mul_tokens-s0/{name}/metrics.jsonl").read_text().splitlines()
            last = json.loads(log[-1])
            yield name, f"{last['step']} steps in {took:.1f} s with its start, last loss {last['loss']:.3f}"


CHECKS: dict[str, Callable[[Visit], Iterator[tuple[str, str]]]] = {
    check.__name__: check for check in (versions, attention, steps, exactness, decoding, stages)
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.gpu_visit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry", action="store_true", help="a toy's size")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="these checks alone")
    parser.add_argument("--out", type=Path, help="the table as JSON; gpu_visit.json, or nothing when dry")
    args = parser.parse_args(argv)
    with placed() as place:
        if place.device.type != "cuda" and not args.dry:
            sys.exit("error: no GPU is here; --dry tries the script itself")
        tune(place.device)
        visit = Visit(place.device, args.dry)
        visit.place, began = place, time.perf_counter()
        for name in args.only:
            try:
                for row in CHECKS[name](visit):
                    visit.tell(*row)
            except BaseException as error:  # whatever a strange machine raises is a finding
                if isinstance(error, KeyboardInterrupt):
                    raise
                message = next(itertools.chain(str(error).strip().splitlines(), [""]))
                visit.tell(name, f"FAILED: {type(error).__name__}: {message[:150]}")
        visit.tell("all of it", f"{time.perf_counter() - began:.0f} s")
    if out := args.out or (None if args.dry else Path("gpu_visit.json")):
        out.write_text(json.dumps(visit.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
