"""Conditions: the modes of writing a fact, as text → segments, and their inverse, ids → text.

Every condition first brings a true fact into the canonical spelling `6 * 9 = 54`, so that conditions differ in
tokens and not in spelling; then

    plain    6 * 9 = 54             the standard tokenizer
    token    <MUL_6_9_54>           the hypothesis as published
    echo     <MUL_6_9_54> 54        token and value
    placebo  <MUL_1_1_1> 54         one fixed token: same vocabulary, same length, no information
    value    54                     compression without vocabulary

Ids are base + {0: EOS, 1: pad, 2..47: fillers, 48..: the facts in order}; a condition that does not use a fact's id
keeps it reserved. A rewrite gives segments and never a string: a string could not tell a literal `<MUL_6_9_54>` in a
source from a fact.
"""

import hashlib
import importlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType

FILLERS = 47  # the ids behind EOS, the first of them the pad; 50257 + 47 = 50304 is where GPT-2's facts begin
EOS, PAD = "<|endoftext|>", "<|pad|>"
MODES = ("plain", "token", "echo", "placebo", "value")


@dataclass(frozen=True)
class Condition:
    """A mode of writing the facts of one vocabulary over the first `base` ranks of GPT-2's BPE."""

    name: str
    mode: str
    vocabulary: str
    base: int
    match: str = "strict"

    @classmethod
    def of(cls, experiment, name: str) -> "Condition":
        """The condition `name` of an experiment."""
        mode, tokenizer = experiment.conditions[name].mode, experiment.tokenizer
        return cls(name, mode, experiment.vocabulary, tokenizer.base, tokenizer.match)

    @cached_property
    def facts(self) -> ModuleType:
        """The vocabulary's module."""
        return importlib.import_module(f"tokenizer.vocabularies.{self.vocabulary}")

    @property
    def first_fact(self) -> int:
        return self.base + 1 + FILLERS

    @property
    def size(self) -> int:
        """Ids in all: the same for every condition of an experiment."""
        return self.first_fact + len(self.facts.FACTS)

    @property
    def invertible(self) -> bool:
        """True if `render` gives back every text, up to the canonical spelling."""
        return self.mode in ("plain", "token", "echo")

    @cached_property
    def trained(self) -> range:
        """The fact ids that occur in this condition's training text; the others are reserved."""
        count = {"token": len(self.facts.FACTS), "echo": len(self.facts.FACTS), "placebo": 1}.get(
            self.mode, 0
        )
        return range(self.first_fact, self.first_fact + count)

    @cached_property
    def names(self) -> list[str]:
        """The names of ids base, base + 1, …: EOS, pad, fillers, then facts or their reserved places."""
        facts = [
            name if self.first_fact + i in self.trained else f"<|reserved_{i}|>"
            for i, name in enumerate(self.facts.FACTS)
        ]
        return [EOS, PAD, *(f"<|filler_{i}|>" for i in range(1, FILLERS)), *facts]

    @cached_property
    def never(self) -> list[int]:
        """Ids never to be sampled: pad, fillers and reserved facts."""
        return [i for i in range(self.base + 1, self.size) if i not in self.trained]

    def rewrite(self, text: str) -> list[str | int]:
        """Segments of a training text: text and fact ids, no two texts adjacent, none empty."""
        segments, position = [], 0
        for start, end, index in self.facts.find(text, self.match == "weak"):
            segments += [text[position:start], *self._write(index)]
            position = end
        return _merge([*segments, text[position:]])

    def _write(self, index: int) -> list[str | int]:
        expression, value = self.facts.spell(index)
        return {
            "plain": [f"{expression} = {value}"],
            "token": [self.first_fact + index],
            "echo": [self.first_fact + index, f" {value}"],
            "placebo": [self.first_fact, f" {value}"],
            "value": [value],
        }[self.mode]

    def say(self, token: int) -> str:
        """The plain text that a control id stands for; an echo's value is text already and follows by itself."""
        if token not in self.trained or self.mode == "placebo":
            return ""
        expression, value = self.facts.spell(token - self.first_fact)
        return f"{expression} =" if self.mode == "echo" else f"{expression} = {value}"

    def written(self, segments: list[str | int]) -> str:
        """Segments as people and Hugging Face's tokenizer read them, ids by their names."""
        return "".join(s if isinstance(s, str) else self.names[s - self.base] for s in segments)

    def canonical(self, text: str) -> str:
        """`text` with its facts in the canonical spelling: what every condition starts from."""
        return "".join(self.plain.rewrite(text))

    @cached_property
    def plain(self) -> "Condition":
        """The condition that writes facts as text, all else alike."""
        return replace(self, mode="plain")

    def fingerprint(self) -> str:
        """SHA-256 of what decides how this condition writes facts: its names, and what it does to examples.

        It changes with behaviour (a vocabulary's facts, the lexer's rules), not with comments or file names. What else
        a vocabulary says, its working of traces and its probes, is no part of it: overwrite stages that used them.
        """
        spelled = [self.facts.spell(i) for i in range(len(self.facts.FACTS))]
        texts = [
            f"so {e}{equals}{v}{tail}"
            for e, v in spelled
            for equals in (" = ", "=")
            for tail in (" eggs.", "0", "*2")
        ]
        texts += [text.replace(" ", "") for text in texts] + [text.replace("*", "×") for text in texts]
        behaviour = [
            self.base,
            self.match,
            self.names,
            [self.rewrite(text) for text in texts],
            [self.say(i) for i in self.trained],
        ]
        return hashlib.sha256(json.dumps(behaviour).encode()).hexdigest()


def _merge(segments: list[str | int]) -> list[str | int]:
    merged: list[str | int] = []
    for segment in segments:
        if isinstance(segment, str) and merged and isinstance(merged[-1], str):
            merged[-1] += segment
        elif segment != "":
            merged.append(segment)
    return merged
