"""Next-token training of a GPT-2 on prepared shards.

    python -m pretrain.train experiments/quickstart.yaml mul_tokens 0
    torchrun --standalone --nproc_per_node=8 -m pretrain.train experiments/gpt2_124m.yaml mul_tokens 0

The batch of a step is a function of the step alone (pretrain/loader.py), so a run that was stopped goes on
exactly: its state is parameters, AdamW's moments and the step. SIGTERM saves a checkpoint and ends with exit
code 0 within a step; run the same command again. A loss or gradient that is not finite ends the run before
anything is updated. On CPUs the same hardware, threads and world size give the same bits.

The host never waits for the GPU inside a step: a step's loss, and whether it was finite, are read one step
later, when the next is already queued. Until then a flag on the device itself keeps the optimizer from
stepping.
"""

import contextlib
import math
import signal
import sys
from collections import deque
from collections.abc import Iterator
from copy import copy
from dataclasses import asdict

import torch
from torch import Tensor

from eval import bpb
from eval.tasks import hellaswag
from eval.tasks.task import load as load_task
from model import GPTConfig
from pipeline import stage, world
from pipeline.errors import UserError, cli
from pipeline.files import forget_lines, write_json
from pretrain import checkpoint
from pretrain.loader import Documents, Windows
from pretrain.mirror import mirror
from pretrain.trainer import Meter, Place, Trainer, learning_rate, placed, refuse_cpu
from tokenizer import encode

# --- the stage ----------------------------------------------------------------------------------------------


def train(run: stage.Run, place: Place) -> None:
    """Train to the last step, or to the step in which SIGTERM arrives."""
    spec, encoder = run.spec, encode.for_run(run.experiment, run.condition)
    config = GPTConfig(encoder.size, spec.n_layer, spec.n_head, spec.n_embd, spec.block_size)
    refuse_cpu(config, place.device)
    if spec.batch_size % place.world:
        run.refuse(
            "batch_size",
            f"{spec.batch_size} is not a multiple of {place.world} processes; start another number",
        )
    share = spec.batch_size // place.world
    windows = Windows(Documents(run.parent, "train", encoder.fingerprint()), spec.block_size, run.seed)
    if spec.examples:
        spec = copy(spec)
        spec.steps = -(-windows.holding(spec.examples) // spec.batch_size)
    texts, counts = bpb.load(run.parent)
    table = load_task(hellaswag.TASK, spec.hellaswag, "validation")[0] if spec.hellaswag_every else []
    trainer = Trainer(config, spec, run.seed, place)
    if spec.fact_rows == "mean":
        trainer.model.average_rows(encoder.spellings())
    saved = run.dir / "checkpoints"
    step = checkpoint.load(saved, trainer.model, trainer.optimizer)
    steps = place.gather(step)
    if min(steps) < max(steps):
        said = f"rank {steps.index(min(steps))} finds it at step {min(steps)}, another at {max(steps)}"
        raise UserError(
            f"{saved}: is not the same for all processes: {said}; wait for the disk they share, run it again"
        )
    # A checkpoint comes before the looks at its own step, so those are looked at again.
    forget_lines(run.dir / "metrics.jsonl", step, lambda line: line["step"] + ("loss" not in line) / 2)
    trainer.wrap()
    reported = mirror(run, spec.report_to, step)
    meter = Meter(spec, place, trainer.model.flops_per_token())
    reports: deque[tuple[int, Tensor]] = deque()  # steps under way and their reports
    stopping, on_gpu = False, place.device.type == "cuda"

    def log(**metrics: float) -> None:
        run.log(**metrics)
        reported(metrics)

    def fetch() -> Tensor:
        batch = torch.from_numpy(windows.batch(step * spec.batch_size + place.rank * share, share))
        return batch.pin_memory().to(place.device, non_blocking=True) if on_gpu else batch

    def read(behind: int) -> bool:
        """Read the reports of all but the last `behind` steps; whether to stop."""
        stop = False
        while len(reports) > behind:
            at, report = reports.popleft()
            loss, norm, told = report.tolist()
            if not math.isfinite(loss + norm):
                raise UserError(_diverged(run, windows, at, loss, norm))
            stop |= told > 0
            if metrics := meter.read(at + 1, loss, norm):
                log(**metrics, lr=learning_rate(spec, at))
            bar.update(1, meter.said)
        return stop

    with terminated() as asked, run.bar(spec.steps, "steps", done=step) as bar:
        batch = fetch()
        while not stopping:
            at_end = step == spec.steps
            save, look, score = (
                every and step and (at_end or step % every == 0)
                for every in (spec.save_every, spec.eval_every, spec.hellaswag_every)
            )
            if save or look or score:
                stopping = read(0)
                with meter.paused():
                    if save and place.rank == 0:
                        checkpoint.save(saved, step, trainer.model, trainer.optimizer, spec.keep)
                    if look:
                        log(step=step, **trainer.evaluate(texts, counts, encoder.eos))
                    if score:
                        log(step=step, **trainer.look_at_hellaswag(encoder, table))
            if at_end:
                break
            reports.append((step, trainer.step(batch, learning_rate(spec, step), stop=bool(asked))))
            step += 1
            batch = fetch()  # while the device works
            stopping |= read(behind=int(on_gpu))
        read(0)
    if step < spec.steps:
        if place.rank == 0:
            checkpoint.save(saved, step, trainer.model, trainer.optimizer, spec.keep)
            print(f"stopped at step {step:,} and saved; run it again to go on", file=sys.stderr)
        return
    if place.rank == 0:
        write_json(run.dir / "config.json", asdict(config))
        checkpoint.write(run.dir / "model.safetensors", dict(trainer.model.named_parameters()), {})
    tokens = spec.steps * meter.tokens
    record = {
        "tokens": tokens,
        "flops": tokens * trainer.model.flops_per_token(),
        "epochs": spec.steps * spec.batch_size / windows.per_epoch,
        "tokens_left_out_per_epoch": windows.left_out,
        "tokens_per_second": round(meter.tokens * meter.steps / max(meter.spent, 1e-9)),
    }
    run.finish(["config.json", "model.safetensors"], **record)


def _diverged(run: stage.Run, windows: Windows, step: int, loss: float, norm: float) -> str:
    """Save which documents made the batch of a step; what to tell."""
    first = step * run.spec.batch_size
    batch = {number: list(windows.pieces(number)) for number in range(first, first + run.spec.batch_size)}
    if world.RANK == 0:
        told = {"step": step + 1, "pieces": "of each window: [document, first token, tokens]"}
        write_json(run.dir / "bad_batch.json", told | {"windows": batch})
    said = f"step {step + 1:,} has loss {loss} and gradient norm {norm}, so nothing was updated"
    remedy = f"its documents are in bad_batch.json; lower stages.{run.name}.lr, or mend the data"
    return f"{run.dir}: {said}; {remedy}"


@contextlib.contextmanager
def terminated() -> Iterator[list[int]]:
    """A list that SIGTERM fills."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: list[str] | None = None) -> None:
    with stage.begin("pretrain", argv, __doc__, resumable=True) as run:
        if run is not None:
            with placed() as place:
                train(run, place)


if __name__ == "__main__":
    cli(main)
