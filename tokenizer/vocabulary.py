"""What a vocabulary is: its file, its source, and the contract that `check` holds it to.

A vocabulary is one file in tokenizer/vocabularies/ with six names:

    FACTS                   token names `<MUL_6_9_54>`, in the order of their ids
    spell(index)            a fact's expression and value in the canonical spelling: ("6 * 9", "54")
    find(text, weak=False)  [(start, end, index)] of every true fact in a text; `weak` also without its value
    work(a, op, b)          the steps of an operation through facts, ["6 * 7 = 42", …], or None
    probes()                {kind: [(expression, value)]} to ask a model
    cell(index)             (row, column) of a fact in a heat map
"""

import ast
import hashlib
import importlib
import inspect
import re
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from types import ModuleType

from pipeline.errors import UserError
from pipeline.files import ROOT

CALLS: dict[str, list[tuple]] = {
    "spell": [(0,)],
    "find": [("",), ("", True)],
    "work": [(1, "*", 2)],
    "probes": [()],
    "cell": [(0,)],
}
AWKWARD = ("", " ", "\n", "=", "* = +", "naïve 日本 ٣", "1 = 1 = 1", "6" * 400, "<|endoftext|>")
RARE = 10  # occurrences: below that words are the hard ones of Schick and Schütze 2020 (arXiv:1904.06707)
SAMPLE = 500  # facts whose false neighbours are tried, so that a large vocabulary is checked at once


def load(name: str) -> ModuleType:
    return importlib.import_module(f"tokenizer.vocabularies.{name}")


def check(name: str) -> None:
    """Raises UserError, one line, unless the vocabulary keeps its contract."""
    file = f"tokenizer/vocabularies/{name}.py"
    try:
        fault = first_fault(load(name))
    except Exception as error:  # whatever its author's code raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{place.name}, line {place.lineno}, raises {type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{file}: {' '.join(fault.split())}; see tokenizer/vocabulary.py for what is asked")


@cache  # it takes a hundredth of a second, and every stage of an arm asks again
def first_fault(facts: ModuleType) -> str | None:
    return next(faults(facts), None)


def faults(facts: ModuleType) -> Iterator[str]:
    """What is wrong with a vocabulary; what comes first may be the reason for what comes later."""
    for part in (_signatures, _names, _spellings, _false_facts, _many_facts, _working, _questions):
        yield from part(facts)


def _signatures(facts: ModuleType) -> Iterator[str]:
    if not hasattr(facts, "FACTS"):
        yield "has no FACTS"
    for name, calls in CALLS.items():
        function = getattr(facts, name, None)
        if not callable(function):
            yield f"has no function {name}"
            continue
        for arguments in calls:
            try:
                inspect.signature(function).bind(*arguments)
            except TypeError:
                yield f"{name}{inspect.signature(function)} does not take {name}({str(arguments)[1:-1]})"


def _names(facts: ModuleType) -> Iterator[str]:
    if not isinstance(facts.FACTS, tuple | list) or not facts.FACTS:
        yield "FACTS is not a tuple of names"
    for name in facts.FACTS:
        if not isinstance(name, str) or not re.fullmatch(r"<[A-Za-z][!-;=?-~]*>", name):
            yield f"FACTS: {name!r} is not a name like <NAME_1_2>, in ASCII and without spaces"
    if len(set(facts.FACTS)) < len(facts.FACTS):
        yield "FACTS names a fact twice"
    cells = [facts.cell(index) for index in range(len(facts.FACTS))]
    for index, cell in enumerate(cells):
        if not (isinstance(cell, tuple) and len(cell) == 2 and all(isinstance(n, int) for n in cell)):
            yield f"cell({index}) is {cell!r}, not (row, column)"
        elif cells.index(cell) < index:
            yield f"cell({index}) is {cell!r}, which is cell({cells.index(cell)}) too"


def _spellings(facts: ModuleType) -> Iterator[str]:
    for index, name in enumerate(facts.FACTS):
        pair = facts.spell(index)
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            yield f"spell({index}) is {pair!r}, not (expression, value)"
            continue
        if not all(text and text == " ".join(text.split()) for text in pair):
            yield f"spell({index}) is {pair!r}, with a part that is empty or has spaces to spare"
        text = " = ".join(pair)
        for weak, (before, after) in product((False, True), (("", ""), ("so ", " then"), ("\n", ".\n"))):
            spans = facts.find(before + text + after, weak)
            if spans != [(len(before), len(before) + len(text), index)]:
                how = "find with weak" if weak else "find"
                yield f"{how} gives {spans!r} for {name} in {before + text + after!r}, not that fact once"


def _false_facts(facts: ModuleType) -> Iterator[str]:
    spelled = [facts.spell(index) for index in range(len(facts.FACTS))]
    true = set(spelled)
    for index in range(0, len(spelled), -(-len(spelled) // SAMPLE)):
        expression, value = spelled[index]
        values = (
            [f"{value}0", f"1{value}", f"{value}.5", str(int(value) + 1)]
            if value.isdecimal()
            else [f"{value}x"]
        )
        wrong = [(expression, other) for other in (*values, spelled[index - 1][1])]
        wrong += [(f"1{expression}", value)] if expression[0].isdecimal() else []
        for weak, pair in product((False, True), wrong):
            text = " = ".join(pair)
            if pair not in true and facts.find(f"so {text} then", weak):
                yield f"find takes the false '{text}'" + (" with weak" if weak else "")


def _many_facts(facts: ModuleType) -> Iterator[str]:
    """Spans are ordered, disjoint and inside, in whatever text."""
    spelled = [" = ".join(facts.spell(index)) for index in range(len(facts.FACTS))]
    whole = [separator.join(spelled) for separator in ("\n", ", ", " and ", "; so ")]
    cut = ["".join(spelled), " ".join(spelled), "=".join(spelled), "\n".join(text[1:] for text in spelled)]
    for text, weak in product((*whole, *cut, *AWKWARD), (False, True)):
        spans = facts.find(text, weak)
        if not isinstance(spans, list):
            yield f"find gives a {type(spans).__name__}, not a list"
            continue
        if not all(isinstance(span, tuple) and list(map(type, span)) == [int] * 3 for span in spans):
            yield f"find gives {spans[:3]!r}, not (start, end, index) of integers"
            continue
        places = [0, *(place for start, end, _ in spans for place in (start, end)), len(text)]
        if places != sorted(places) or any(start == end for start, end, _ in spans):
            yield f"find gives spans that are empty, out of order or overlap in {text[:40]!r}"
        if not all(0 <= index < len(spelled) for _, _, index in spans):
            yield f"find gives an index beyond FACTS in {text[:40]!r}"
        elif text in whole and [index for _, _, index in spans] != list(range(len(spelled))):
            yield f"find does not give every fact once, in order, in {text[:40]!r}"


def _working(facts: ModuleType) -> Iterator[str]:
    for a, op, b in product((0, 1, 2, 7, 9, 12, 47, 605), "+-*/", (0, 1, 3, 8, 13, 86)):
        steps = facts.work(a, op, b)
        if steps is not None and not (
            isinstance(steps, list) and steps and all(isinstance(s, str) for s in steps)
        ):
            yield f"work({a}, {op!r}, {b}) is {steps!r}, neither None nor a list of steps"


def _questions(facts: ModuleType) -> Iterator[str]:
    probes = facts.probes()
    if not isinstance(probes, dict) or not probes:
        yield "probes() is not a dictionary of kinds"
        return
    for kind, pairs in probes.items():
        if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", kind):
            yield f"probes(): {kind!r} is no name for a kind: letters, digits, _ and - alone"
        if not pairs or not all(
            len(pair) == 2 and all(isinstance(s, str) and s for s in pair) for pair in pairs
        ):
            yield f"probes(): '{kind}' is not a list of (expression, value), both text"


def fact_use(facts: ModuleType, by_fact: Counter, tokens: int) -> str:
    """How often a training text held the facts, by `by_fact`, with a warning where that is rarely."""
    of, rare = len(facts.FACTS), len(facts.FACTS) - sum(n >= RARE for n in by_fact.values())
    counted = f"{by_fact.total():,} facts in {tokens:,} tokens, {by_fact.total() / max(tokens, 1) * 1e6:,.0f} a million"
    never = f", {of - len(by_fact)} of them never" if len(by_fact) < of else ""
    if not rare:
        return counted
    return f"{counted}; warning: {rare} of {of} facts occur less than {RARE} times{never}, too rarely to be learned"


# --- its source ---------------------------------------------------------------------------------------------


def sources(name: str) -> dict[str, str]:
    """SHA-256 of a vocabulary's file and of every file of the project that it imports, by its path."""
    digests: dict[str, str] = {}
    waiting = [f"tokenizer.vocabularies.{name}"]
    while waiting:
        path = _path(waiting.pop())
        if path and path not in digests:
            source = (ROOT / path).read_bytes()
            digests[path] = hashlib.sha256(source).hexdigest()
            waiting += _imports(source, path)
    return dict(sorted(digests.items()))


def _path(module: str) -> str | None:
    """The file of a module of the project, relative to its root; None for any other."""
    stem = module.replace(".", "/")
    return next((p for p in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / p).is_file()), None)


@cache
def _imports(source: bytes, path: str) -> list[str]:
    """The modules that a source imports, or may: in `from a import b`, b can be a module or a name."""
    package, found = path.split("/")[:-1], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return found
