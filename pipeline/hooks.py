"""What the pipeline asks of the layers above it. It imports none of them: each is looked up when it is asked.

A hook is `module:name`. A row of pipeline.kinds may name one for its own checks.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

CONDITION = "tokenizer.conditions:Condition"  # Condition.of(experiment, name).identity()
VOCABULARY = "eval.tasks.probes:check"  # (name) refuses a vocabulary that does not keep its contract
TASK = "eval.tasks:get"  # (name) → a benchmark, whose `size` is the rows of its whole test split
GROUPED = "tokenizer.numbers:GROUPED"  # the ways to split numbers that take `tokenizer.group`
SHARED = "tokenizer.conditions:SHARED"  # the modes that take a `share`
METRIC = "eval.verdict.metrics:check"  # (experiment, refuse) refuses a `metric` that there is not


def hook(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def fingerprint(experiment: Any, condition: str) -> str:
    """SHA-256 of what decides how a condition writes text, its vocabulary's source included."""
    condition_type = hook(CONDITION)
    return _fingerprint(condition_type.of(experiment, condition), condition_type.identity)


@functools.cache  # it takes a tenth of a second, and `status` asks for every stage
def _fingerprint(condition: Any, work_out: Callable[[Any], str]) -> str:
    return work_out(condition)
