"""What an experiment has on disk, as the report reads it: a study of arms, each with the results of its stages."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from eval.verdict import metrics
from eval.verdict.metrics import Metric
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import read_json, sha256
from pipeline.kinds import MODEL_KINDS
from pipeline.sections import Compare

POINTS = 60  # of a curve, at most: a longer one is averaged over neighbouring steps


class Items(NamedTuple):
    """One set of problems as one model answered it; the arrays are aligned, and all arms share ids and golds."""

    ids: np.ndarray  # str
    golds: np.ndarray  # str
    correct: np.ndarray  # bool
    gold_bits: np.ndarray  # float32, of the reference answers; nan where they were not scored
    gold_bytes: np.ndarray  # float32, likewise
    cells: dict[str, np.ndarray] | None = None  # of a grid of arithmetic: where each problem lies in it


@dataclass
class Result:
    """One stage of one arm."""

    state: str  # done, unverified (done, but its parent is gone), running, failed, stopped, waiting
    detail: str = ""
    directory: Path = Path()  # what follows is there if it is done or unverified
    identity: dict = field(default_factory=dict)
    record: dict = field(default_factory=dict)

    def json(self, name: str, *keys: str) -> dict:
        """A JSON file of its directory, which has to hold the keys and, if it is an output, to be undamaged."""
        content = read_json(self.directory / name)
        if content is None:
            raise UserError(f"{self.directory / name}: is not there; rerun its stage with --overwrite")
        if self.identity.get("outputs", {}).get(name) not in (None, sha256(self.directory / name)):
            raise UserError(
                f"{self.directory / name}: damaged since it was written; rerun its stage with --overwrite"
            )
        if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
            raise UserError(
                f"{self.directory / name}: holds no {missing[0]}; rerun its stage with --overwrite"
            )
        return content

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Each measure of metrics.jsonl over the steps that logged it, thinned: what a further arm takes of memory does
        not grow with its training."""
        path = self.directory / "metrics.jsonl"
        if not self.identity or not path.exists():
            return {}
        curves: dict[str, list[tuple[int, float]]] = {}
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                content = _metrics(line, f"{path}:{number}")
                for key, value in content.items():
                    curves.setdefault(key, []).append((content["step"], value))
        return {key: thinned(curve) for key, curve in curves.items() if key != "step"}


def thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means over neighbouring points, each at its last step."""
    size = -(-len(curve) // POINTS)
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(part[-1][0], statistics.fmean(value for _, value in part)) for part in parts]


def _metrics(line: bytes, where: str) -> dict:
    """A line of metrics.jsonl."""
    try:
        content = json.loads(line)
        json.dumps(content, allow_nan=False)
    except ValueError:
        content = None
    if (
        not isinstance(content, dict)
        or "step" not in content
        or not all(isinstance(value, int | float) for value in content.values())
    ):
        raise UserError(f"{where}: is not what a step has logged; rerun its stage with --overwrite")
    return content


@dataclass
class Arm:
    """One condition and seed."""

    condition: str
    seed: int
    results: dict[str, Result] = field(default_factory=dict)  # by stage, in running order
    above: dict[str, Result] = field(default_factory=dict)  # stages of other experiments that it goes on from
    summaries: dict[str, dict] = field(default_factory=dict)  # model stage → its evaluation's summary.json
    items: dict[str, dict[str, Items]] = field(default_factory=dict)  # model stage → set → outcomes
    samples: dict[str, dict[str, np.ndarray]] = field(
        default_factory=dict
    )  # model stage → SET.METRIC of its samples → (problems,), see eval.verdict.at_k
    texts: dict[tuple[str, str], pa.Table] = field(default_factory=dict)  # (stage, set) → what was answered
    drawn: dict[tuple[str, str], pa.Table] = field(
        default_factory=dict
    )  # likewise, samples of its first problems
    facts_written: np.ndarray | None = None  # (facts,) in answers to the question's metric, after its stage

    @property
    def name(self) -> str:
        return f"{self.condition}-s{self.seed}"

    def training_flops(self, name: str) -> float | None:
        """FLOPs of a stage and of all above it; None where one of them has not been counted."""
        total, results = 0.0, self.results | self.above
        while name:
            result = results.get(name)
            if result is None or not result.identity:
                return None
            section = result.identity["section"]
            if section.get("step"):  # an export from the middle of its pretraining, with what that had taken
                return total + result.record["flops"]
            if section.get("run") in ("pretrain", "sft", "grpo"):
                if "flops" not in result.record:
                    return None
                total += result.record["flops"]
            other, slash, _ = name.rpartition("/")  # a stage of another experiment has its parents there
            parent = section.get("parent")
            name = f"{other}/{parent}" if slash and parent and "/" not in parent else parent
        return total or None


@dataclass
class Study:
    """An experiment and all that was found of it."""

    experiment: Experiment
    arms: list[Arm]
    unplanned: list[str]  # on disk and not in the file, in words

    @property
    def question(self) -> Compare:
        """What the file preregistered; `eval.verdict.compare` has refused files without."""
        assert self.experiment.compare is not None
        return self.experiment.compare

    @property
    def metric(self) -> Metric:
        return metrics.find(self.question.metric)

    def arms_of(self, condition: str, name: str) -> list[Arm]:
        """The arms of a condition that were evaluated after a stage, by seed."""
        return [arm for arm in self.arms if arm.condition == condition and name in arm.items]

    def model_stages(self) -> list[str]:
        """The stages with a model, in running order."""
        return [name for name, spec in self.experiment.stages.items() if spec.run in MODEL_KINDS]

    def evaluated(self) -> Iterator[tuple[str, str, list[Arm]]]:
        """(stage, condition, arms) of all evaluations."""
        for name in self.model_stages():
            for condition in self.experiment.conditions:
                if arms := self.arms_of(condition, name):
                    yield name, condition, arms

    def finished(self, *kinds: str) -> Iterator[tuple[str, str, dict[int, Result]]]:
        """(stage, condition, results by seed) of the finished stages of some kinds."""
        for name in (name for name, spec in self.experiment.stages.items() if spec.run in kinds):
            for condition in self.experiment.conditions:
                arms = [arm for arm in self.arms if arm.condition == condition and arm.results[name].identity]
                if arms:
                    yield name, condition, {arm.seed: arm.results[name] for arm in arms}


def matrix(arms: list[Arm], name: str, set_name: str) -> np.ndarray:
    """(arms, problems) bool: who got which problem of a set right after a stage, in one order."""
    return np.array([arm.items[name][set_name].correct for arm in arms], dtype=bool)


def has(arm: Arm, name: str, metric: Metric) -> bool:
    """Whether an arm's evaluation after a stage can tell of a metric."""
    if metric.sampled:
        return metric.name in arm.samples.get(name, ())
    items = arm.items.get(name, {}).get(metric.set)
    return items is not None and not (metric.lower_is_better and np.isnan(items.gold_bits).all())


def values(arms: list[Arm], name: str, metric: Metric) -> np.ndarray:
    """(arms, problems) of a metric after a stage: bool, shares of samples, or bits of the answers that were scored in
    all of the arms.

    Bits are in units of a mean answer's bytes, so that their mean is bits per byte over all answers together.
    """
    if metric.sampled:
        return np.array([arm.samples[name][metric.name] for arm in arms])
    if not metric.lower_is_better:
        return matrix(arms, name, metric.set)
    items = [arm.items[name][metric.set] for arm in arms]
    bits, size = (
        np.array([getattr(each, key) for each in items], float) for key in ("gold_bits", "gold_bytes")
    )
    scored = ~np.isnan(bits).any(axis=0)
    return bits[:, scored] / size[:, scored].mean(axis=1, keepdims=True)
