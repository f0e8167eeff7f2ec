"""What an arm costs, and one independent command for each."""

import sys

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.kinds import MODEL_KINDS
from pipeline.sections import Pretrain

GENERATION_SHARE = 0.1  # of `plan.flops` that is reached when decoding, which waits for memory


ROWS = {"gsm8k": 1319, "svamp": 1000, "hellaswag": 10042}  # of the whole test sets


def parameters(experiment: Experiment, shape: Pretrain | None = None) -> tuple[int, int]:
    """(parameters, FLOPs of a training token) of a model, the first pretrained one; without any, GPT-2's 124M.

    FLOPs per token are 6N + 12·L·d·T (PaLM, arXiv:2204.02311, appendix B).
    """
    shape = shape or next((s for s in experiment.stages.values() if s.run == "pretrain"), None)
    layers, width, context = (shape.n_layer, shape.n_embd, shape.block_size) if shape else (12, 768, 1024)
    count = 12 * layers * width**2 + (experiment.tokenizer.base + 100 + context) * width
    return count, 6 * count + 12 * layers * width * context


def cost(experiment: Experiment) -> tuple[float, float]:
    """(hours of one device, GB on disk) that one arm is expected to take, its share of prepared data included."""
    if experiment.plan is None:
        raise UserError(
            f"{experiment.path}: plan: is missing; write plan: {{flops: …}}, the useful FLOP/s of one device"
        )
    count, per_token = parameters(experiment)
    flops = held = 0.0
    for name, spec in experiment.stages.items():
        if spec.run == "prepare":
            held += 2 * (spec.tokens + spec.val_tokens)
        elif spec.run == "pretrain":
            tokens = spec.steps and spec.steps * spec.batch_size * spec.block_size
            own_count, own_per_token = parameters(experiment, spec)
            flops += own_per_token * (tokens or spec.examples * spec.block_size / 2)
            held += 12 * own_count * spec.keep
        elif spec.run == "sft":
            rows = spec.examples or sum(phase.examples for phase in spec.phases or ())
            flops += spec.flops or per_token * (spec.tokens or rows * spec.max_length / 2)
        elif spec.run == "grpo":
            tokens = spec.steps * spec.batch_size * spec.max_new_tokens
            sampled = tokens + spec.prompts * spec.pass_at * spec.max_new_tokens
            flops += per_token * tokens + 2 * count * sampled / GENERATION_SHARE
        if spec.run in MODEL_KINDS:
            held += 4 * count
            for problems in experiment.eval.sets.values() if experiment.eval else ():
                rows = min(problems.limit or ROWS[problems.task], ROWS[problems.task])
                flops += 2 * count * rows * experiment.eval.max_new_tokens / GENERATION_SHARE
    return flops / experiment.plan.flops / 3600, held / 1e9


def print_plan(experiment: Experiment) -> None:
    """One command per arm, its expected cost behind it; the sum on stderr. Lines may run in any order, or at once."""
    hours, held = cost(experiment)
    plan, arms = experiment.plan, experiment.arms()
    gpus = f"NPROC={plan.devices} " if plan.devices > 1 else ""
    for condition, seed in arms:
        dollars = f", ${hours * plan.dollars_per_hour:,.2f}" if plan.dollars_per_hour else ""
        said = f"{hours / plan.devices:.2g} h, {held:.2g} GB{dollars}"
        print(f"{gpus}bash scripts/arm.sh {experiment.path} {condition} {seed}  # {said}")
    total = f"{len(arms)} arms, {hours * len(arms):.2g} device hours, {held * len(arms):.2g} GB"
    print(f"{experiment.path}: {total}, at {plan.flops:.2g} useful FLOP/s a device", file=sys.stderr)
