"""SVAMP (Patel et al. 2021): one-step word problems, whose answers are bare numbers."""

from collections.abc import Iterator

from eval.tasks import gsm8k
from eval.tasks.task import Task
from pipeline.sample.named import nameless
from pipeline.sample.problems import word_problems


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return word_problems(split, n, 3 * seed + 2)  # other problems than gsm8k's and TinyGSM's


TASK = Task(gsm8k.FORMAT._replace(name="svamp", generate=generate), 1000, gsm8k.read)
