"""What an arm costs, and one independent command for each.

Measured against it: the arms of quickstart.yaml took 4.1 minutes of an AVX2 core each (4 expected),
an arm of miniature.yaml 2.0 on an AVX-512 core (2.4 expected). The hours are as good as `plan.flops`, which a
machine half as fast makes half as large; preparing 10B tokens, which waits for CPUs, is not in them.
"""

import sys

from pipeline import sweep
from pipeline.errors import UserError
from pipeline.experiment import Experiment, sweep_of
from pipeline.kinds import KINDS, Architecture
from pipeline.progress import size
from pipeline.sections import Plan

START = 8.0  # seconds of every stage before and after its work: imports, models, hashes


def decoding_share(flops: float) -> float:
    """Of `plan.flops`, what decoding reaches: it waits for memory, on a GPU (above 1e12) more than on a core."""
    return 0.1 if flops > 1e12 else 0.3


def cost(experiment: Experiment) -> tuple[float, float]:
    """(seconds of one device, bytes on disk) that one arm is expected to take, its share of prepared data included."""
    plan = _plan(experiment)
    seconds = held = 0.0
    for name in experiment.stage_names():
        model = experiment.architecture(name) or Architecture(experiment.tokenizer.base + 100)
        took = KINDS[experiment.kind(name)].cost(experiment.stage(name), model)
        seconds += START + (took.flops + took.decoding / decoding_share(plan.flops)) / plan.flops
        held += took.held
    return seconds, held


def _plan(experiment: Experiment) -> Plan:
    if experiment.plan is None:
        message = "plan: is missing; write plan: {flops: …}, the useful FLOP/s of one device"
        raise UserError(f"{experiment.path}: {message}")
    return experiment.plan


def print_plan(experiment: Experiment) -> None:
    """One command per arm, its expected cost behind it; the sum on stderr. Lines may run in any order, or at once.

    Of a sweep that has not chosen yet its own arms, without which the others cannot run.
    """
    plan, count, total, on_disk = _plan(experiment), 0, 0.0, 0.0
    sweeping = experiment.sweep is not None and sweep.read(experiment.name) is None
    for each in sweep_of(experiment) if sweeping else [experiment]:
        seconds, held = cost(each)
        gpus = f"NPROC={plan.devices} " if plan.devices > 1 else ""
        dollars = f", ${seconds / 3600 * plan.dollars_per_hour:,.2f}" if plan.dollars_per_hour else ""
        expected = f"{_duration(seconds / plan.devices)}, {size(held)}{dollars}"
        for condition, seed in (arms := each.arms()):
            print(f"{gpus}bash scripts/arm.sh {each.path} {condition} {seed}  # {expected}")
        count, total, on_disk = count + len(arms), total + seconds * len(arms), on_disk + held * len(arms)
    line = f"{count} arms, {_duration(total)} of one device, {size(on_disk)}"
    print(f"{experiment.path}: {line}, at {plan.flops:.2g} useful FLOP/s (plan.flops)", file=sys.stderr)
    if sweeping:
        then = f"python -m eval.verdict.sweep {experiment.path}"
        print(
            f"{experiment.path}: these are the sweep's; then {then}, and plan prints the others",
            file=sys.stderr,
        )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2g} h" if seconds >= 3600 else f"{max(1, seconds / 60):.0f} min"
