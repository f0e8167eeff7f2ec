"""An experiment as its file says it: arms, stages, parents."""

import copy
from typing import Any

from pydantic import Field

from pipeline import sweep
from pipeline.errors import UserError
from pipeline.kinds import KINDS, MODEL_KINDS, Architecture, Read, Spec
from pipeline.sections import Compare, ConditionSection, Eval, Name, Plan, Seed, Sweep, Tokenizer, strict


@strict
class Experiment:
    path: str
    name: Name
    vocabulary: Name
    tokenizer: Tokenizer
    conditions: dict[Name, ConditionSection] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    stages: dict[Name, Any] = Field(min_length=1)
    eval: Eval | None = None
    compare: Compare | None = None
    sweep: Sweep | None = None
    plan: Plan | None = None

    def seeds_of(self, condition: str) -> list[int]:
        return self.seeds[: self.conditions[condition].seeds]

    def arms(self) -> list[tuple[str, int]]:
        """(condition, seed), seed by seed, so that an interrupted study is still paired."""
        return [(c, s) for s in self.seeds for c in self.conditions if s in self.seeds_of(c)]

    def find_arm(self, condition: str, seed: int) -> None:
        """Raises UserError unless the file has this condition and gives it this seed."""
        if condition not in self.conditions:
            there = ", ".join(self.conditions)
            raise UserError(f"{self.path}: no condition '{condition}'; there are {there}")
        if seed not in self.seeds_of(condition):
            there = ", ".join(map(str, self.seeds_of(condition)))
            raise UserError(f"{self.path}: condition '{condition}' has no seed {seed}; its seeds are {there}")

    def stage(self, name: str, condition: str | None = None) -> Spec:
        """A stage's section; `eval_X` is the experiment's `eval`, for the model of X.

        For a condition, with the learning rate that a sweep has chosen for it. Raises UserError before the choice.
        """
        if self.sweep and condition and name == self.sweep.stage:
            spec = copy.copy(self.stages[name])
            spec.lr = self._chosen(condition)
            return spec
        if name in self.stages:
            return self.stages[name]
        if self.eval is None:
            raise UserError(f"{self.path}: eval: is missing, so there is nothing to evaluate; write it out")
        if not self.eval.samples:
            return self.eval
        asked = copy.copy(self.eval)
        asked.sampled = None  # where else samples are drawn decides nothing here
        if not self.samples_after(name.removeprefix("eval_")):
            asked.samples, asked.temperature, asked.verifier = 0, Eval.temperature, None
        return asked

    def samples_after(self, stage: str) -> int:
        """How many answers to a problem an evaluation of the stage draws beside the greedy one."""
        if self.eval is None or (self.eval.sampled is not None and stage not in self.eval.sampled):
            return 0
        return self.eval.samples

    def _chosen(self, condition: str) -> float:
        if (done := sweep.read(self.name)) is None:
            command = (
                f"python -m pipeline plan {self.path}, and then python -m eval.verdict.sweep {self.path}"
            )
            raise UserError(f"{self.path}: sweep: nothing is chosen yet; run what this prints: {command}")
        return done["chosen"][condition]

    def kind(self, name: str) -> str:
        return self.stages[name].run if name in self.stages else "eval"

    def stage_names(self) -> list[str]:
        """Every stage of an arm in running order, each model's evaluation behind it, and behind the verifier that
        scores its samples."""
        names: list[str] = []
        waiting: list[str] = []
        for name, spec in self.stages.items():
            names.append(name)
            waiting += [f"eval_{name}"] if self.eval and spec.run in MODEL_KINDS else []
            ready = [
                each for each in waiting if getattr(self.stage(each), "verifier", None) in (None, *names)
            ]
            names += ready
            waiting = [each for each in waiting if each not in ready]
        return names + waiting

    def parent(self, name: str) -> str | None:
        """The parent of a stage, `EXPERIMENT/STAGE` if it is another experiment's."""
        if name not in self.stages:
            return name.removeprefix("eval_")
        return getattr(self.stages[name], "parent", None)

    def reads(self, name: str) -> list[Read]:
        """The stages that a stage reads beside its parent."""
        return KINDS[self.kind(name)].reads(self.stage(name))

    def line(self, name: str) -> list[str]:
        """A stage and its ancestors in this experiment, the nearest first."""
        line = []
        above: str | None = name
        while above in self.stages or above and above.startswith("eval_"):
            line.append(above)
            above = self.parent(above)
        return line

    def ancestor(self, name: str, kind: str) -> str | None:
        """The nearest stage of `kind` at or above `name` in this experiment; None if there is none."""
        return next((each for each in self.line(name) if self.kind(each) == kind), None)

    def architecture(self, name: str) -> Architecture | None:
        """Of the model of a stage, where this experiment says it."""
        for each in self.line(name):
            if make := KINDS[self.kind(each)].architecture:
                return make(self.stages[each], self.tokenizer.base + 100)
        return None
