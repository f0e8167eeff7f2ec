"""What an arm costs, and one independent command for each."""

import sys

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.kinds import KINDS, Architecture
from pipeline.sections import Plan

DECODING = 0.1  # of `plan.flops` that is reached when decoding, which waits for memory


def cost(experiment: Experiment) -> tuple[float, float]:
    """(hours of one device, GB on disk) that one arm is expected to take, its share of prepared data included."""
    plan = _plan(experiment)
    seconds = held = 0.0
    for name in experiment.stage_names():
        model = experiment.architecture(name) or Architecture(experiment.tokenizer.base + 100)
        took = KINDS[experiment.kind(name)].cost(experiment.stage(name), model)
        seconds += (took.flops + took.decoding / DECODING) / plan.flops
        held += took.held
    return seconds / 3600, held / 1e9


def _plan(experiment: Experiment) -> Plan:
    if experiment.plan is None:
        message = "plan: is missing; write plan: {flops: …}, the useful FLOP/s of one device"
        raise UserError(f"{experiment.path}: {message}")
    return experiment.plan


def print_plan(experiment: Experiment) -> None:
    """One command per arm, its expected cost behind it; the sum on stderr. Lines may run in any order, or at once."""
    plan = _plan(experiment)
    hours, held = cost(experiment)
    arms = experiment.arms()
    gpus = f"NPROC={plan.devices} " if plan.devices > 1 else ""
    for condition, seed in arms:
        dollars = f", ${hours * plan.dollars_per_hour:,.2f}" if plan.dollars_per_hour else ""
        expected = f"{hours / plan.devices:.2g} h, {held:.2g} GB{dollars}"
        print(f"{gpus}bash scripts/arm.sh {experiment.path} {condition} {seed}  # {expected}")
    total = f"{len(arms)} arms, {hours * len(arms):.2g} device hours, {held * len(arms):.2g} GB"
    print(f"{experiment.path}: {total}, at {plan.flops:.2g} useful FLOP/s a device", file=sys.stderr)
