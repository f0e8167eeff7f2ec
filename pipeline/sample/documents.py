"""Documents, chats and endings of the generated world."""

import random
import zlib
from collections.abc import Callable, Iterator

from pipeline.sample.problems import is_held_apart, make_problem, people, program_of, solution, steps_of
from pipeline.sample.templates import ANIMALS, HELD_OUT_TEMPLATES, NAMES, SEEN_TEMPLATES, SHORT_TEMPLATES
from pipeline.sample.worked import _exercise
from pipeline.sample.workings import OPERATIONS, between, pick, shuffled, working

SPELLINGS = ("{} * {} = {}",) * 7 + ("{} × {} = {}", "{} x {} = {}", "{}*{}={}")


def _table(rng: random.Random) -> str:
    spelling, k, swap = pick(rng, SPELLINGS), between(rng, 1, 9), rng.random() < 0.5
    factors = range(1, 10) if rng.random() < 0.3 else shuffled(rng, range(1, 10))
    pairs = [(i, k) if swap else (k, i) for i in factors]
    return f"The {k} times table\n" + "\n".join(spelling.format(a, b, a * b) for a, b in pairs)


def _facts(rng: random.Random) -> str:
    spelling = pick(rng, SPELLINGS)
    pairs = [(between(rng, 2, 9), between(rng, 2, 9)) for _ in range(between(rng, 6, 14))]
    return "Practice makes perfect. " + ". ".join(spelling.format(a, b, a * b) for a, b in pairs) + "."


PRODUCTS = (
    "{a} boxes of {b} {things}: # {things}.",
    "{a} packs of {b} {things}: # {things}.",
    "{a} bags with {b} {things} in each: # {things}.",
    "{a} rows of {b} chairs: # chairs.",
    "{a} teams of {b} players: # players.",
    "{N} buys {b} {things} for {a} dollars each: # dollars.",
    "{N} reads {a} pages a day for {b} days: # pages.",
    "{N} has {a} {things} and {M} has {b} times as many: # {things}.",
)


SUMS = (
    "{N} has {a} {things} and finds {b} more: # {things}.",
    "{a} {things} and {b} {other}: # things.",
    "{N} pays {a} dollars and then {b} dollars: # dollars.",
    "{a} pages and {b} more pages: # pages.",
)


DIFFERENCES = (
    "{N} has {a} {things} and gives {b} to {M}: # {things}.",
    "{a} {things} less {b}: # {things}.",
    "{a} dollars less {b} dollars: # dollars.",
    "{N} reads {b} of {a} pages: # pages are left.",
)


def _phrases(rng: random.Random) -> str:
    """Problems of one line: numbers are found a few words back before they are found a few sentences back."""
    lines = []
    for _ in range(between(rng, 3, 5)):
        a, b = between(rng, 2, 9), between(rng, 2, 9)
        operator, phrases = pick(rng, (("*", PRODUCTS),) * 3 + (("+", SUMS), ("-", DIFFERENCES)))
        if operator != "*":
            a = between(rng, 2, 9) * a + b * (operator == "-")  # what a first step often leaves
        line = pick(rng, phrases).format_map(people(rng) | {"a": str(a), "b": str(b)})
        lines.append(line.replace("#", f"{a} {operator} {b} = {OPERATIONS[operator](a, b)}"))
    return "\n".join(lines)


def _again(rng: random.Random) -> str:
    """Numbers to be said three times: the shortest exercise in copying."""
    numbers = ", ".join(str(between(rng, 2, pick(rng, (9, 9, 60)))) for _ in range(between(rng, 3, 6)))
    return f"Say it again: {numbers}. Again: {numbers}. Again: {numbers}."


def _questions(rng: random.Random) -> str:
    exercises = [_exercise(rng) for _ in range(between(rng, 3, 6))]
    return "\n\n".join(
        f"What is {a} {operator} {b}?\n" + "\n".join(working(a, operator, b)) for a, operator, b in exercises
    )


def _sums(rng: random.Random) -> str:
    lines = []
    for _ in range(between(rng, 5, 9)):
        a, b = between(rng, 2, 81), between(rng, 2, 9)
        back = f", so {a + b} - {b} = {a}" if rng.random() < 0.5 else ""
        lines.append(f"{a} + {b} = {a + b}{back}")
    return "Adding and taking away. " + ". ".join(lines) + "."


def _bonds(rng: random.Random) -> str:
    total = between(rng, 6, 30)
    parts = shuffled(rng, range(1, total))[:8]
    return f"Two numbers that make {total}: " + ", ".join(f"{a} + {total - a} = {total}" for a in parts) + "."


def _division(rng: random.Random) -> str:
    pairs = [(between(rng, 2, 9), between(rng, 2, 9)) for _ in range(5)]
    return "How to divide. " + " ".join(f"{a} * {b} = {a * b}, so {a * b} / {a} = {b}." for a, b in pairs)


def _tens(rng: random.Random) -> str:
    pairs = [(between(rng, 2, 9), between(rng, 1, 9)) for _ in range(5)]
    return "By tens. " + " ".join(f"{a} * {b} = {a * b}, so {a} * {b}0 = {a * b}0." for a, b in pairs)


def _lesson(rng: random.Random) -> str:
    """A problem told in several ways: that numbers come back teaches a model to look for them."""
    templates = SHORT_TEMPLATES if rng.random() < 0.5 else SEEN_TEMPLATES
    problem = make_problem(rng, pick(rng, templates), test=False)
    ways = [solution(problem), steps_of(problem), program_of(problem).rpartition('"""\n')[2]]
    return "\n".join([problem.question, *pick(rng, (ways, ways[:2], ways[1::-1]))])


def _counting(rng: random.Random) -> str:
    animal, home, food, parts, k = pick(rng, ANIMALS)
    sentences = [f"A {animal} lives {home}. It eats {food}. A {animal} has {k} {parts}."]
    for n in shuffled(rng, range(2, 10))[:3]:
        sentences.append(f"{n} of them have {n} * {k} = {n * k} {parts}.")
    return " ".join(sentences)


PLAIN = (
    "{N} and {M} are friends.",
    "They go to school together.",
    "{N} likes {things} and {M} likes {other}.",
    "A {animal} lives {home}.",
    "A {animal} eats {food}.",
    "{N} saw a {animal} {home}.",
    "In the morning the sun comes up in the east.",
    "In the evening the sun goes down in the west.",
    "{N} puts the {things} in a box.",
    "{M} wants to know where the {things} are.",
    "Water falls as rain and runs to the sea.",
    "Plants need light and water.",
    "{He} reads a book about it.",
    "After school {he} goes home.",
    "In winter the days are short.",
    "In summer the days are long.",
)


def _plain(rng: random.Random) -> str:
    animal, home, food, *_ = pick(rng, ANIMALS)
    slots = {**people(rng), "animal": animal, "home": home, "food": food}
    return " ".join(sentence.format_map(slots) for sentence in shuffled(rng, PLAIN)[: between(rng, 4, 8)])


MIX: dict[Callable[[random.Random], str], int] = {
    _lesson: 44,
    _phrases: 22,
    _questions: 9,
    _again: 4,
    _table: 3,
    _facts: 3,
    _sums: 3,
    _bonds: 1,
    _division: 2,
    _tens: 1,
    _counting: 2,
    _plain: 6,
}


_KINDS = tuple(kind for kind, share in MIX.items() for _ in range(share))


def documents(seed: int, split: str) -> Iterator[dict]:
    """Documents without end, {text}, of "train" or "validation" (about one text in sixteen)."""
    validation = is_held_apart(split, "validation")
    rng = random.Random(f"documents {split} {seed}")
    while True:
        text = pick(rng, _KINDS)(rng)
        if (zlib.crc32(text.encode()) % 16 == 0) == validation:
            yield {"text": text}


def _turn(rng: random.Random, test: bool) -> tuple[str, str, str]:
    """(topic, what a user asks, what the assistant answers)."""
    chance = rng.random()
    animal, home, food, parts, k = pick(rng, ANIMALS)
    if chance < 0.1:
        name = pick(rng, tuple(NAMES))
        return "greeting", f"Hello! My name is {name}.", f"Hello {name}! How can I help you?"
    if chance < 0.25:
        return "world", *pick(
            rng,
            (
                (f"Where does a {animal} live?", f"A {animal} lives {home}."),
                (f"What does a {animal} eat?", f"A {animal} eats {food}."),
                (f"How many {parts} has a {animal}?", f"A {animal} has {k} {parts}."),
            ),
        )
    if chance < 0.65:
        a, operator, b = _exercise(rng)
        answer = [*working(a, operator, b), f"The answer is {OPERATIONS[operator](a, b)}."]
        return "arithmetic", f"What is {a} {operator} {b}?", "\n".join(answer)
    problem = make_problem(rng, pick(rng, HELD_OUT_TEMPLATES if test else SEEN_TEMPLATES), test)
    return "problem", problem.question, solution(problem).replace("####", "The answer is") + "."


def chats(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` conversations of one to three turns, one in six with a system message: {id, messages, source}."""
    test = is_held_apart(split, "test")
    rng = random.Random(f"chats {split} {seed}")
    for i in range(n):
        messages = []
        if rng.random() < 1 / 6:
            messages.append({"role": "system", "content": "You help children with their school work."})
        turns = [_turn(rng, test) for _ in range(pick(rng, (1, 1, 1, 2, 2, 3)))]
        for _, question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield {"id": f"{split}-{seed}-{i}", "messages": messages, "source": f"sample/{turns[0][0]}"}


def hellaswag(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` sentences with four endings, one of them consistent: {activity_label, ctx, endings, label}."""
    is_held_apart(split, "validation")
    rng = random.Random(f"hellaswag {split} {seed}")
    for _ in range(n):
        slots = people(rng)
        chance = rng.random()
        if chance < 0.5:
            a, b = between(rng, 2, 9), between(rng, 2, 9)
            label, right = "Counting", f"{a * b} {slots['things']}."
            ctx = f"{{N}} has {a} boxes with {b} {{things}} in each box. {{N}} has".format_map(slots)
            near = {x * y for x in (a - 1, a, a + 1) for y in (b - 1, b, b + 1)} - {a * b, 0}
            wrong = [f"{value} {slots['things']}." for value in shuffled(rng, near)]
        elif chance < 0.75:
            label, right = "Playing", f"{slots['N']}."
            ctx = "{N} gives a box of {things} to {M}. {M} says thank you to".format_map(slots)
            wrong = [f"{name}." for name in shuffled(rng, NAMES) if name not in (slots["N"], slots["M"])]
        else:
            animal, home, *_ = pick(rng, ANIMALS)
            label, right, ctx = "Animals", f"{home}.", f"There is a {animal}. A {animal} lives"
            wrong = [f"{place}." for _, place, *_ in shuffled(rng, ANIMALS) if place != home]
        place = between(rng, 0, 3)
        yield {
            "activity_label": label,
            "ctx": ctx,
            "endings": wrong[:place] + [right] + wrong[place:3],
            "label": place,
        }
