"""The benchmarks. Who adds one writes its file here, with a TASK in it, and its name below."""

import importlib
from collections.abc import Callable

from eval.tasks.task import Task
from eval.verdict import at_k
from pipeline.errors import UserError
from pipeline.rows import load_rows
from pipeline.sections import Eval, ProblemSet

NAMES = ("arithmetic", "gsm8k", "hellaswag", "svamp")
DEFAULT = "gsm8k"  # what one's own rows of a question and an answer are
VERSION = 1  # of how problems are asked and graded; raise it with any change of that


def get(name: str) -> Task:
    """What eval/tasks/NAME.py defines; it imports no torch."""
    return importlib.import_module(f"eval.tasks.{name}").TASK


def check(experiment: object, spec: Eval, refuse: Callable[[str, str], None]) -> None:
    """What `pipeline check` cannot know of an evaluation."""
    for name, each in spec.sets.items():
        if each.task not in NAMES:
            refuse(f"sets.{name}.task", f"no task '{each.task}'; there are {', '.join(NAMES)}")
        if at_k.set_of(name) != name or name.endswith(".gold_bits") or name.startswith("probes."):
            refuse(f"sets.{name}", "is how a metric is named; choose another name")
        if each.data == "sample":
            _check_sample(each, lambda message, name=name: refuse(f"sets.{name}", message))


def _check_sample(each: ProblemSet, refuse: Callable[[str], None]) -> None:
    """Whether `sample` has such a split and name."""
    split = "train" if each.split == "dev" else each.split
    try:
        first = next(load_rows("sample", get(each.task).format, split, name=each.name, limit=1), None)
    except UserError as error:
        refuse(str(error))
    else:
        if first is None:
            refuse(f"sample has no problem named '{each.name}' in {split}; give another name or split")
