"""Next-token training of a GPT-2 on prepared shards.

    python -m pretrain.train experiments/quickstart.yaml mul_tokens 0
    torchrun --standalone --nproc_per_node=8 -m pretrain.train experiments/gpt2_124m.yaml mul_tokens 0

The batch of a step is a function of the step alone (pretrain/loader.py), so a run that was stopped goes on
exactly: its state is parameters, the optimizer's moments and the step. SIGTERM saves a checkpoint and ends with
exit code 0 within a step; run the same command again, with another micro_batch, compile, report_to, keep or
save_every if you like. A loss or gradient that is not finite ends the run before anything is saved. On CPUs the
same hardware, threads, world size and micro-batch give the same bits.

The host never waits for the GPU inside a step: a step's loss, and whether it was finite, are read one step
later, when the next is already queued. Until then a flag on the device itself keeps the optimizers from stepping.
"""

import contextlib
import math
import signal
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

import training
from model import GPT, GPTConfig
from pipeline import stage, world
from pipeline.errors import UserError, cli
from pipeline.files import forget_lines, sha256, write_json
from pretrain import checkpoint
from pretrain.loader import Documents, Windows
from pretrain.looks import Looks
from pretrain.meter import Meter
from pretrain.network import Network, refuse_cpu
from tokenizer import encode
from training import Place

# --- the loop -----------------------------------------------------------------------------------------------


def update(
    network: Network,
    optimizers: list[torch.optim.Optimizer],
    windows: Tensor,
    lr: float,
    clip: float,
    stop: bool = False,
) -> Tensor:
    """One step on this rank's windows, int64 (n, T + 1): [loss, gradient norm, ranks told to stop].

    The report is on the device, the same on all ranks. No weight changes if loss or gradient is not finite, nor
    in any later step.
    """
    place, loss = network.place, torch.zeros((), device=windows.device)
    parts = windows.split(network.micro_batch)
    for i, part in enumerate(parts):
        last = i + 1 == len(parts)  # ranks average their gradients once a step
        with contextlib.nullcontext() if last else network.alone():
            with network.autocast():
                part_loss = network(part[:, :-1], part[:, 1:]) * (len(part) / len(windows))
            part_loss.backward()
        loss += part_loss.detach()
    norm = nn.utils.clip_grad_norm_(network.model.parameters(), clip, foreach=True)
    told = torch.full_like(loss, stop)
    report = place.sum(torch.stack([loss / place.world, norm / place.world, told]))
    network.poisoned.logical_or_(~report[:2].isfinite().all())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.found_inf = network.poisoned  # at 1, its step changes no weight
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return report


def train(run: stage.Run, place: Place) -> None:
    """Train to the last step, or to the step in which SIGTERM arrives."""
    spec, encoder = run.spec, encode.for_run(run.experiment, run.condition)
    config = GPTConfig(encoder.size, spec.n_layer, spec.n_head, spec.n_embd, spec.block_size)
    refuse_cpu(config, place.device)
    training.tune(place.device)
    windows, steps = data(run, place, encoder)
    share, on_gpu = spec.batch_size // place.world, place.device.type == "cuda"

    model = GPT(config).init_weights(run.seed).to(place.device)
    if spec.fact_rows == "mean":
        model.average_rows(encoder.spellings())
    optimizers = training.optimizers(model, spec.optimizer, spec.lr, spec.betas, spec.weight_decay)
    rate = training.schedule(spec.schedule, spec.warmup, steps, spec.lr, spec.min_lr)
    saved = run.dir / "checkpoints"
    step, losses = checkpoint.load(saved, model, optimizers)
    refuse_other_steps(saved, place.gather(step))
    checkpoint.set_aside(saved, step)
    say_missed(run, step)
    # A checkpoint comes before the looks at its own step, so those are looked at again.
    forget_lines(run.dir / "metrics.jsonl", step, lambda line: line["step"] + ("loss" not in line) / 2)
    dashboard = training.dashboards(run, spec.report_to, step)
    network = Network(model, optimizers, spec, place, run.refuse)
    looks = Looks(run, encoder, place, network.autocast)
    meter = Meter(spec.batch_size * spec.block_size, steps, place, model.flops_per_token(), losses)
    reports: deque[tuple[int, Tensor]] = deque()  # steps under way and their reports

    def log(**metrics: float) -> None:
        run.log(**metrics)
        dashboard(metrics)

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
                raise UserError(diverged(run, windows, at, loss, norm))
            stop |= told > 0
            if metrics := meter.read(at + 1, loss, norm):
                log(**metrics, lr=rate(at))
            bar.update(1, meter.note)
        return stop

    def save() -> None:
        if place.rank == 0:
            checkpoint.save(saved, step, meter.losses, model, optimizers, spec.keep)

    stopping = False
    with terminated() as asked, run.bar(steps, "steps", done=step) as bar:
        batch = fetch()
        while True:
            at_end = step == steps
            to_save, to_validate, to_score = (
                every and step and (at_end or step % every == 0)
                for every in (spec.save_every, spec.eval_every, spec.hellaswag_every)
            )
            to_keep = step in spec.milestones
            if stopping or to_save or to_keep or to_validate or to_score:
                stopping |= read(behind=0) or (at_end and sum(place.gather(bool(asked))) > 0)
                with meter.paused():
                    if stopping or to_save:
                        save()
                    if stopping:
                        break
                    if to_keep and place.rank == 0:
                        write_weights(checkpoint.milestone(run.dir, step), model)
                    if to_validate:
                        log(step=step, **looks.validate(model, whole=at_end))
                    if to_score:
                        log(step=step, **looks.hellaswag(model))
            if at_end:
                break
            with network.within_memory():
                reports.append((step, update(network, optimizers, batch, rate(step), spec.clip, bool(asked))))
            step += 1
            batch = fetch()  # while the device works
            stopping |= read(behind=int(on_gpu))
    if stopping:
        if place.rank == 0:
            print(f"stopped at step {step:,} and saved; run it again to go on", file=sys.stderr)
        return
    finish(run, config, network, meter, windows, steps)


# --- around it ----------------------------------------------------------------------------------------------


def data(run: stage.Run, place: Place, encoder: encode.Encoder) -> tuple[Windows, int]:
    """The training windows, and in how many steps the budget is spent. Raises UserError for what cannot be."""
    spec = run.spec
    if spec.batch_size % place.world:
        message = f"{spec.batch_size} is not a multiple of {place.world} processes; start another number"
        run.refuse("batch_size", message)
    windows = Windows(Documents(run.parent, "train", encoder.fingerprint()), spec.block_size, run.seed)
    steps = spec.steps or -(-windows.holding(spec.examples) // spec.batch_size)
    for key, value in (("warmup", spec.warmup), ("milestones", max(spec.milestones, default=0))):
        if value > steps:
            run.refuse(key, f"{value} is more than the {steps} steps of {spec.examples} examples")
    return windows, steps


def refuse_other_steps(saved, steps: list[int]) -> None:
    """Raises UserError unless every rank goes on from the same step."""
    if min(steps) < max(steps):
        message = f"rank {steps.index(min(steps))} finds it at step {min(steps)}, another at {max(steps)}"
        raise UserError(
            f"{saved}: is not the same for all processes: {message}; wait for the disk they share, run it again"
        )


def say_missed(run: stage.Run, step: int) -> None:
    """Say which milestones a run that goes on from `step` has passed and does not keep."""
    missed = [m for m in run.spec.milestones if m < step and not checkpoint.milestone(run.dir, m).exists()]
    if missed and world.RANK == 0:
        steps = ", ".join(f"{each:,}" for each in missed)
        print(f"{run.label}: the weights of step {steps} are gone: milestones was set later", file=sys.stderr)


def write_weights(path: Path, model: GPT) -> None:
    path.parent.mkdir(exist_ok=True)
    checkpoint.write(path, dict(model.named_parameters()), {})


def diverged(run: stage.Run, windows: Windows, step: int, loss: float, norm: float) -> str:
    """Save which documents made the batch of a step; what to tell."""
    first = step * run.spec.batch_size
    batch = {number: list(windows.pieces(number)) for number in range(first, first + run.spec.batch_size)}
    if world.RANK == 0:
        head = {"step": step + 1, "pieces": "of each window: [document, first token, tokens]"}
        write_json(run.dir / "bad_batch.json", head | {"windows": batch})
    message = f"step {step + 1:,} has loss {loss} and gradient norm {norm}, so nothing of it is kept"
    remedy = f"its documents are in bad_batch.json; lower stages.{run.name}.lr, or mend the data"
    return f"{run.dir}: {message}; {remedy}"


def finish(
    run: stage.Run, config: GPTConfig, network: Network, meter: Meter, windows: Windows, steps: int
) -> None:
    """Write the model, and declare the stage done."""
    if network.place.rank == 0:
        write_json(run.dir / "config.json", asdict(config))
        write_weights(run.dir / "model.safetensors", network.model)
    tokens, milestones = steps * meter.tokens, {}
    for step in run.spec.milestones if network.place.rank == 0 else ():
        if (path := checkpoint.milestone(run.dir, step)).exists():
            milestones[step] = sha256(path)
    record = {
        "steps": steps,
        "tokens": tokens,
        "flops": tokens * network.model.flops_per_token(),
        "epochs": steps * run.spec.batch_size / windows.per_epoch,
        "tokens_left_out_per_epoch": windows.left_out,
        "tokens_per_second": meter.tokens_per_second(),
        "micro_batch": network.micro_batch,
        "compiled": network.compiled,
        "milestones": milestones,  # no outputs: which are kept says nothing of what was trained
    }
    run.finish(["config.json", "model.safetensors"], **record)


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
    with training.begin("pretrain", argv, __doc__) as (run, place):
        if run is not None:
            train(run, place)


if __name__ == "__main__":
    cli(main)
