"""Conditions: the modes of writing a fact, as text → segments, and their inverse, ids → text.

Every condition first brings a true fact into the canonical spelling `6 * 9 = 54`, so that conditions differ in
tokens and not in spelling; then

    plain    6 * 9 = 54             the standard tokenizer
    token    <MUL_6_9_54>           the hypothesis as published
    echo     <MUL_6_9_54> 54        token and value
    placebo  <MUL_1_1_1> 54         one fixed token: same vocabulary, same length, no information
    value    54                     compression without vocabulary
    mixed    6 * 9 = 54, or <MUL_6_9_54> for a share of the facts: do tokens replace practice with digits?

How it splits numbers is another property (tokenizer/numbers.py). Ids are base + {0: EOS, 1: pad, 2..47: fillers, 48..:
the facts in order, then groups of digits}; what a condition does not use of them it keeps reserved. A rewrite gives
segments and never a string: a string could not tell a literal `<MUL_6_9_54>` in a source from a fact.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from types import ModuleType

from tokenizer import numbers, vocabulary

FILLERS = 47  # the ids behind EOS, the first of them the pad; 50257 + 47 = 50304 is where GPT-2's facts begin
EOS, PAD = "<|endoftext|>", "<|pad|>"
MODES = ("plain", "token", "echo", "placebo", "value", "mixed")
SHARED = ("mixed",)  # the modes that take a share
Spans = tuple[tuple[int, int, int], ...]  # start, end, index


@dataclass(frozen=True)
class Condition:
    """A mode of writing the facts of one vocabulary, and a way to split numbers, over GPT-2's first `base` ranks."""

    name: str
    mode: str
    vocabulary: str
    base: int
    match: str = "strict"
    numbers: str = "bpe"
    group: int | None = None  # digits of the longest group id; None: there are no such ids
    share: float | None = None  # of the facts that `mixed` writes as their tokens

    @classmethod
    def of(cls, experiment, name: str) -> "Condition":
        """The condition `name` of an experiment."""
        own, shared = experiment.conditions[name], experiment.tokenizer
        return cls(
            name,
            own.mode,
            experiment.vocabulary,
            shared.base,
            shared.match,
            own.numbers,
            shared.group,
            own.share,
        )

    @cached_property
    def facts(self) -> ModuleType:
        """The vocabulary's module."""
        return vocabulary.load(self.vocabulary)

    @property
    def first_fact(self) -> int:
        return self.base + 1 + FILLERS

    @property
    def first_group(self) -> int:
        return self.first_fact + len(self.facts.FACTS)

    @property
    def size(self) -> int:
        """Ids in all: the same for every condition of an experiment."""
        return self.first_group + len(numbers.groups(self.group))

    @property
    def invertible(self) -> bool:
        """True if `render` gives back every text, up to the canonical spelling."""
        return self.mode in ("plain", "token", "echo", "mixed")

    @cached_property
    def trained(self) -> range:
        """The fact ids that occur in this condition's training text; the others are reserved."""
        every = len(self.facts.FACTS)
        count = {"token": every, "echo": every, "mixed": every, "placebo": 1}.get(self.mode, 0)
        return range(self.first_fact, self.first_fact + count)

    @cached_property
    def groups(self) -> range:
        """The ids of groups of digits that this condition uses; they are text, and no control ids."""
        return range(self.first_group, self.size if self.numbers in numbers.GROUPED else self.first_group)

    @cached_property
    def names(self) -> list[str]:
        """The names of ids base, base + 1, …: EOS, pad, fillers, facts, groups of digits, or reserved places."""
        own = [*self.facts.FACTS, *numbers.groups(self.group)]
        for i in range(len(own)):
            if self.first_fact + i not in self.trained and self.first_fact + i not in self.groups:
                own[i] = f"<|reserved_{i}|>"
        return [EOS, PAD, *(f"<|filler_{i}|>" for i in range(1, FILLERS)), *own]

    @cached_property
    def never(self) -> list[int]:
        """Ids behind EOS that are never to be sampled: pad, fillers, and what is reserved."""
        return [i for i in range(self.base + 1, self.size) if i not in self.trained and i not in self.groups]

    def rewrite(self, text: str) -> list[str | int]:
        """Segments of a training text: text and fact ids, no two texts adjacent, none empty."""
        segments: list[str | int] = []
        position = 0
        for start, end, written in self.rewrites(text):
            segments += [text[position:start], *written]
            position = end
        return _merge([*segments, text[position:]])

    def find(self, text: str) -> Spans:
        """(start, end, index) of each fact in a text, in order."""
        return _find(self.facts.find, text, self.match == "weak")

    def rewrites(self, text: str) -> list[tuple[int, int, list[str | int]]]:
        """(start, end, segments) of each fact in a text."""
        spans = self.find(text)
        modes = self._draws(text) if spans and self.mode == "mixed" else itertools.repeat(self.mode)
        return [(start, end, self._write(index, mode)) for (start, end, index), mode in zip(spans, modes)]

    def _draws(self, text: str) -> Iterator[str]:
        """How `mixed` writes the first fact of a text, the second, and so on.

        Drawn from a hash of the whole canonical text and of the fact's place in it: alike in every run, with every
        seed, and in pretraining as in the scoring of a reference answer. What one share writes as a token, every
        larger share does too.
        """
        assert self.share is not None
        key = hashlib.sha256(self.canonical(text).encode(errors="surrogatepass")).digest()
        for place in itertools.count():
            draw = hashlib.blake2b(str(place).encode(), key=key, digest_size=8).digest()
            yield "token" if int.from_bytes(draw, "big") < self.share * 2**64 else "plain"

    def _write(self, index: int, mode: str) -> list[str | int]:
        expression, value = self.facts.spell(index)
        ways: dict[str, list[str | int]] = {
            "plain": [f"{expression} = {value}"],
            "token": [self.first_fact + index],
            "echo": [self.first_fact + index, f" {value}"],
            "placebo": [self.first_fact, f" {value}"],
            "value": [value],
        }
        return ways[mode]

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
        return self.written(self.plain.rewrite(text))

    @cached_property
    def plain(self) -> "Condition":
        """The condition that writes facts and numbers as GPT-2 does: in its tokens budgets are counted."""
        return replace(self, mode="plain", numbers="bpe", share=None)

    def fingerprint(self) -> str:
        """SHA-256 of what this condition's ids mean and how it writes facts: its names, what it does to examples.

        It changes with behaviour, not with comments, and is what a model directory is held against.
        """
        return _fingerprint(self, self.facts)

    def _behaviour(self) -> list:
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
        if self.numbers != "bpe":
            behaviour.append(numbers.piece(self.numbers, self.group))
        if self.mode == "mixed":
            behaviour.append(self.share)
        return behaviour

    def identity(self) -> str:
        """SHA-256 of the fingerprint and of the vocabulary's source files: a stage's tokenizer, as it was then.

        No example tells every change of a `find`, and its probes and its working decide results too.
        """
        content = [self.fingerprint(), vocabulary.sources(self.vocabulary)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@cache  # every stage of an arm asks several times; a vocabulary that is loaded anew is another key
def _fingerprint(condition: Condition, facts: ModuleType) -> str:
    return hashlib.sha256(json.dumps(condition._behaviour()).encode()).hexdigest()


@lru_cache(maxsize=4)  # a document's facts are counted, then spelled plainly, then as the condition does
def _find(find: Callable[[str, bool], Iterable[tuple[int, int, int]]], text: str, weak: bool) -> Spans:
    return tuple(find(text, weak))


def _merge(segments: list[str | int]) -> list[str | int]:
    merged: list[str | int] = []
    for segment in segments:
        if isinstance(segment, str) and merged and isinstance(merged[-1], str):
            merged[-1] += segment
        elif segment != "":
            merged.append(segment)
    return merged
