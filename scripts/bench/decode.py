"""How fast we decode, beside transformers' `generate` and beside the floor, in one run.

    python -m scripts.bench.decode                                            # minutes, on 2 CPU cores
    python -m scripts.bench.decode --device cuda --prompts 1319 --tokens 256  # all of GSM8K; the last time is hot
    python -m scripts.bench.decode --model runs/quickstart/baseline-s0/grpo --samples 16   # beside one greedy pass

GPT-2 124M in bf16. The weights are random: speed does not depend on them. Prompts and replies have the
lengths of GSM8K's test problems and their answers in GPT-2 tokens, and each reply ends where its answer would,
as at an EOS; --tokens makes all of one length. Only tokens up to there are useful and counted. `generate` runs
in batches of 16 in the problems' own order, the usual way to evaluate; half of its batches are measured before
ours and half after, so that other load on the machine weighs on both. The floor is the model's linear layers,
head included, on 128 rows, and nothing else.

With --model its samples of generated word problems are timed beside a greedy pass over the same problems, which is run
before and after. Here the weights count: samples of a prompt are one row for as long as they agree. Both times are also
given in seconds of processor time, which other processes change less.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

import torch

from eval.decode.generate import generate
from eval.models import open_model
from eval.tasks import gsm8k
from eval.tasks.task import load
from model import GPT, GPTConfig, to_hf
from pipeline.errors import UserError, cli

# Deciles of the tokens of GSM8K's test problems, in the chat template, and of their answers with EOS.
PROMPTS = (26, 38, 43, 48, 53, 57, 63, 69, 77, 91, 187)
REPLIES = (23, 51, 62, 72, 81, 92, 102, 116, 131, 155, 303)
CONFIG = GPTConfig(50349, 12, 12, 768, 1024)
EOS, PAD = 50256, 50257
FLOOR_ROWS = 128


def problems(count: int, tokens: int | None, seed: int = 0) -> list[tuple[list[int], int]]:
    """(prompt ids, reply length) of random problems whose lengths follow the deciles."""
    random = Random(seed)

    def draw(deciles: tuple[int, ...]) -> int:
        at = random.random() * (len(deciles) - 1)
        low = int(at)
        return round(deciles[low] + (at - low) * (deciles[low + 1] - deciles[low]))

    rows = [([random.randrange(EOS) for _ in range(draw(PROMPTS))], draw(REPLIES)) for _ in range(count)]
    return [(prompt, tokens or length) for prompt, length in rows]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def floor(model: GPT) -> float:
    """Tokens/s of the linear layers alone."""
    weight = model.wte.weight
    narrow = torch.randn(FLOOR_ROWS, CONFIG.n_embd, device=weight.device).to(weight.dtype)
    wide = torch.randn(FLOOR_ROWS, 4 * CONFIG.n_embd, device=weight.device).to(weight.dtype)

    def linears() -> None:
        for block in model.h:
            for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                linear(narrow if linear.in_features == CONFIG.n_embd else wide)
        model.logits(narrow)

    linears()
    return FLOOR_ROWS / median(seconds(linears, weight.device) for _ in range(10))


def theirs(model, rows: list[tuple[list[int], int]], batch: int) -> None:
    """Decode the rows with transformers, in order, each reply ending at its length."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        width = max(len(prompt) for prompt, _ in part)
        ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt, _ in part]).to(model.device)
        ends = width + torch.tensor([length for _, length in part], device=model.device)
        ended = [lambda ids, _, ends=ends: ids.shape[1] >= ends]
        kwargs = {"do_sample": False, "eos_token_id": None, "pad_token_id": PAD, "stopping_criteria": ended}
        limit = max(length for _, length in part)
        model.generate(input_ids=ids, attention_mask=(ids != PAD).long(), max_new_tokens=limit, **kwargs)


def models(device: torch.device) -> tuple[GPT, torch.nn.Module]:
    """Ours and transformers', of the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT(CONFIG).init_weights(0).to(device, torch.bfloat16).eval()
    sizes = {name: getattr(CONFIG, name) for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    reference = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD))
    reference.load_state_dict(to_hf(model.state_dict(), CONFIG), strict=False)  # the tied head has none
    return model, reference.to(device, torch.bfloat16).eval()


def compare(device: torch.device, ours: list[tuple[list[int], int]], compared: list[tuple[list[int], int]]):
    """Print the rates: ours on the problems `ours`, transformers' on `compared`, and the floor."""
    model, reference = models(device)
    prompts, limits = [prompt for prompt, _ in ours], [length for _, length in ours]
    useful, half = sum(limits), len(compared) // 2
    on_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads"
    print(f"GPT-2 124M, bf16, {where}; useful tokens per second", flush=True)

    def decode() -> None:
        generate(model, prompts, limits, eos=EOS, suppress=list(range(EOS, CONFIG.vocab_size)))

    theirs(reference, compared[:2], 2)
    spent = seconds(lambda: theirs(reference, compared[:half], 16), device)
    floor_rate = floor(model)
    print(f"{'floor: linear layers, 128 rows':<34}{floor_rate:10,.0f}", flush=True)
    runs = [seconds(decode, device) for _ in range(3 if on_gpu else 1)]
    rate = useful / runs[-1]
    times = ", ".join(f"{run:.2f} s" for run in runs)
    print(f"{'ours':<34}{rate:10,.0f}   {len(ours)} replies, {useful:,} tokens in {times}", flush=True)
    spent += seconds(lambda: theirs(reference, compared[half:], 16), device)
    reference_rate = sum(length for _, length in compared) / spent
    amount = f"{len(compared)} replies in {spent:.2f} s"
    print(f"{'generate, batches of 16':<34}{reference_rate:10,.0f}   {amount}")
    print(f"ours is {rate / reference_rate:.1f} × generate and {rate / floor_rate:.0%} of the floor")


def samples(
    directory: Path, count: int, problems: int, temperature: float = 0.7, batch_size: int = 64
) -> None:
    """Print what `count` samples of each problem take, as a multiple of one greedy pass."""
    model, encoder = open_model(directory)
    prompts = [each.prompt(encoder) for each in load(gsm8k.TASK, "sample", "test", limit=problems)[0]]
    kwargs = {"eos": encoder.eos, "suppress": encoder.suppressed}
    taken: list[tuple[float, float]] = []

    def timed(name: str, **more) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        replies = generate(model, prompts, 96, **kwargs, **more)
        taken.append((time.perf_counter() - wall, time.process_time() - processor))
        tokens = sum(len(ids) for each in replies for ids in (each if "samples" in more else [each]))
        print(
            f"{name:<24}{taken[-1][0]:8.1f} s {taken[-1][1]:8.1f} s of processors {tokens:>10,} tokens",
            flush=True,
        )

    timed("greedy", batch_size=batch_size)
    more = {"samples": count, "temperature": temperature, "keys": list(range(len(prompts)))}
    timed(f"{count} samples", batch_size=batch_size * count, **more)
    timed("greedy", batch_size=batch_size)
    by_wall, by_processor = (2 * taken[1][i] / (taken[0][i] + taken[2][i]) for i in (0, 1))
    print(f"{count} samples take {by_wall:.1f} × one greedy pass ({by_processor:.1f} × by processor time)")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompts", type=int, default=512, help="problems that we decode")
    parser.add_argument("--tokens", type=int, help="length of every reply; GSM8K's own lengths if not said")
    parser.add_argument("--reference", type=int, default=64, help="problems that transformers decodes")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="a trained model, to sample --samples answers"
    )
    parser.add_argument("--samples", type=int, default=16, help="a problem, of the first 400 of --prompts")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU here; leave the option out")
    if args.model:
        return samples(args.model, args.samples, min(args.prompts, 400))
    rows = problems(max(args.prompts, args.reference), args.tokens)
    compare(torch.device(args.device), rows[: args.prompts], rows[: args.reference])


if __name__ == "__main__":
    cli(main)
