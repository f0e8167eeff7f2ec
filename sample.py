"""The generated data: a small, regular world with the same columns as the real sets, from a seed alone.

No downloads, no files, standard library only. `documents` is the text to pretrain on; `word_problems` serves
GSM8K's and TinyGSM's columns at once; `chats`, `drills` and `hellaswag` the rest. A model of a million
parameters has to learn this world in a million tokens, so it has few names and things and spells its
equations in few ways.

Held apart: half of the test problems have templates that no training row and no document uses (`seen` is
False); the other half have training templates with number tuples that appear in no training row or document
of that template. A document belongs to the validation split if its own hash says so: none is in both.

A seeded generator's `random()` is the only source of chance: the one method that Python promises not to
change. Raise VERSION with any change of content; a test holds the hash of the present one.
"""

import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

VERSION = 2

NAMES = {"Sam": "he", "Ben": "he", "Jack": "he", "John": "he", "Paul": "he", "David": "he",
         "Jan": "she", "Pat": "she", "Val": "she", "Angel": "she", "Mary": "she", "Rose": "she"}
PRONOUNS = {"he": {"he": "he", "He": "He", "him": "him"}, "she": {"he": "she", "He": "She", "him": "her"}}
THINGS = ("books", "cards", "balls", "coins", "apples", "pens", "cakes", "games", "toys", "keys")
# One of it, where it lives, what it eats, what it has how many of.
ANIMALS = (("cow", "on a farm", "grass", "legs", 4), ("bird", "in a tree", "seeds", "wings", 2),
           ("spider", "in a web", "flies", "legs", 8), ("bee", "in a garden", "honey", "legs", 6),
           ("horse", "in a field", "hay", "legs", 4), ("fish", "in the sea", "plants", "fins", 7))
# Facts that no question asks about: noise, as real problems have it.
ASIDES = ("{N} lives {k} miles from school.", "The bus takes {k} minutes.", "The shop has {k} windows.",
          "The door has {k} locks.")

# A template is one block: its id and numbers, then, indented, the question and one line per step. A number is
# drawn from 2-9 unless it names a range or is computed from others. A step is one operation and a sentence in
# which # stands for the equation. {N} and {M} are two people, {things} and {other} two kinds of things.
SEEN = """
boxes: boxes each
    {N} has {boxes} boxes with {each} {things} in each box. How many {things} does {N} have?
    total = boxes * each | {N} has # {things}.
packs: each packs
    There are {each} {things} in a pack. {N} buys {packs} packs. How many {things} does {he} buy?
    total = packs * each | {N} buys # {things}.
cost: price count
    {N} buys {count} {things} for {price} dollars each. How many dollars does {he} pay?
    cost = count * price | {N} pays # dollars.
pages: pages days
    {N} reads {pages} pages every day. How many pages does {he} read in {days} days?
    total = pages * days | {N} reads # pages.
wage: pay hours
    {N} gets ${pay} for each hour of work. {He} works {hours} hours. How much money does {he} get in dollars?
    money = pay * hours | {N} gets # dollars.
chairs: rows chairs
    A room has {rows} rows with {chairs} chairs in each row. How many chairs are in the room?
    total = rows * chairs | There are # chairs.
teams: teams players
    There are {teams} teams in a game. Each team has {players} players. How many players are there?
    total = teams * players | There are # players.
many_times: count times
    {M} has {count} {things}. {N} has {times} times as many. How many {things} does {N} have?
    more = count * times | {N} has # {things}.
age: age times
    {M} is {age} years old. {N} is {times} times as old. How old is {N}?
    older = age * times | {N} is # years old.
share: friends each count=friends*each
    {N} shares {count} {things} equally with {friends} friends in a game. How many {things} does each
    friend get?
    each = count / friends | {friends} * {each} = {count}, so each friend gets # {things}.
add: count=5-50 more
    {N} has {count} {things}. {M} gives {him} {more} more. How many {things} does {N} have now?
    total = count + more | {N} has # {things}.
give: left=5-50 given count=left+given
    {N} has {count} {things} and gives {given} of them to {M}. How many {things} does {N} have left?
    left = count - given | {N} has # {things} left.
big_boxes: each=11-29 boxes
    A big box holds {each} {things}. How many {things} are in {boxes} big boxes?
    total = boxes * each | There are # {things}.
big_wage: pay=11-39 days
    {N} gets {pay} dollars a day. How many dollars does {he} get in {days} days?
    total = pay * days | {N} gets # dollars.
boxes_give: boxes each given
    {N} has {boxes} boxes of {each} {things}. {He} gives {given} {things} to {M}. How many {things} are left?
    total = boxes * each | {N} has # {things}.
    left = total - given | Then # {things} are left.
bags_find: bags each more
    {N} has {bags} bags of {each} {things} and finds {more} more. How many {things} does {he} have now?
    total = bags * each | The bags hold # {things}.
    now = total + more | Now {N} has # {things}.
change: count price left cost=count*price money=cost+left
    {N} has {money} dollars. {He} buys {count} {things} for {price} dollars each. How many dollars are left?
    cost = count * price | The {things} cost # dollars.
    left = money - cost | Then # dollars are left.
together: count times
    {M} has {count} {things}. {N} has {times} times as many. How many {things} do they have together?
    more = count * times | {N} has # {things}.
    total = count + more | Together they have # {things}.
save: saved weeks price
    {N} saves {saved} dollars every week. After {weeks} weeks {he} buys a game for {price} dollars. How
    many dollars are left?
    total = saved * weeks | {N} saves # dollars.
    left = total - price | Then # dollars are left.
more_than: bags each count=2-20
    {N} has {bags} bags of {each} {things}. {M} has {count} {things}. How many more {things} does {N} have
    than {M}?
    total = bags * each | {N} has # {things}.
    more = total - count | {N} has # more {things} than {M}.
extra: count price extra
    {N} buys {count} {things} for {price} dollars each and a game for {extra} dollars. How many dollars
    does {he} pay?
    cost = count * price | The {things} cost # dollars.
    total = cost + extra | {N} pays # dollars.
rest: games minutes rest=5-20
    {N} plays {games} games of {minutes} minutes each and then reads for {rest} minutes. How many minutes
    is that?
    play = games * minutes | The games take # minutes.
    total = play + rest | In all it is # minutes.
need: packs each need total=packs*each goal=total+need
    {N} wants {goal} {things} and has {packs} packs of {each} {things}. How many more {things} does {he} need?
    total = packs * each | {N} has # {things}.
    need = goal - total | {N} needs # more {things}.
book: pages days left done=pages*days book=done+left
    A book has {book} pages. {N} reads {pages} pages a day for {days} days. How many pages are left?
    done = pages * days | {N} reads # pages.
    left = book - done | Then # pages are left.
half: packs each
    {N} has {packs} packs of {each} {things} and gives half of them to {M}. How many {things} does {M} get?
    total = packs * each | {N} has # {things}.
    half = total / 2 | {M} gets # {things}.
split_bags: boxes each bags
    {N} has {boxes} boxes of {each} {things}. {He} puts them equally into {bags} bags. How many {things}
    are in each bag?
    total = boxes * each | There are # {things}.
    per_bag = total / bags | Each bag has # {things}.
miles: miles weeks=2-3
    {N} runs {miles} miles every day. How many miles does {he} run in {weeks} weeks?
    days = weeks * 7 | There are # days.
    total = days * miles | {N} runs # miles.
twice: boxes each
    {N} has {boxes} boxes of {each} {things}. {M} has twice as many {things}. How many {things} does {M} have?
    total = boxes * each | {N} has # {things}.
    twice = 2 * total | {M} has # {things}.
class: boys=5-20 girls=5-20 gone
    A class has {boys} boys and {girls} girls. {gone} students go home. How many students are left?
    students = boys + girls | There are # students.
    left = students - gone | Then # students are left.
legs: cows birds
    There are {cows} cows and {birds} birds on a farm. A cow has 4 legs and a bird has 2 legs. How many
    legs are on the farm?
    cow_legs = cows * 4 | The cows have # legs.
    bird_legs = birds * 2 | The birds have # legs.
    legs = cow_legs + bird_legs | In all there are # legs.
two_kinds: packs each bags per_bag
    {N} buys {packs} packs of {each} {things} and {bags} bags of {per_bag} {other}. How many things does
    {he} buy?
    first = packs * each | There are # {things}.
    second = bags * per_bag | There are # {other}.
    total = first + second | {N} buys # things.
week_work: made=2-5 hours=2-5 days
    {N} makes {made} {things} an hour and works {hours} hours a day. How many {things} does {he} make in
    {days} days?
    hours_total = hours * days | {N} works # hours.
    total = hours_total * made | {N} makes # {things}.
cost_each: count price people
    {people} friends buy {count} {things} for {price} dollars each and share the cost equally. How many
    dollars does each friend pay?
    cost = count * price | The {things} cost # dollars.
    pay = cost / people | Each friend pays # dollars.
market: days each given=2-9 price=2-5
    {N} picks {each} apples a day for {days} days. {He} gives {given} apples to {M} and sells the rest for
    {price} dollars each. How many dollars does {he} get?
    total = each * days | {N} picks # apples.
    rest = total - given | Then # apples are left.
    money = rest * price | {N} gets # dollars.
boxes_packs: boxes each packs per_pack given
    {N} has {boxes} boxes of {each} {things}. {He} buys {packs} packs of {per_pack} {things} and gives
    {given} {things} to {M}. How many {things} does {N} have now?
    first = boxes * each | The boxes hold # {things}.
    second = packs * per_pack | The packs hold # {things}.
    total = first + second | In all there are # {things}.
    now = total - given | Now {N} has # {things}.
shop: count price number each left first=count*price second=number*each total=first+second money=total+left
    {N} has {money} dollars. {He} buys {count} {things} for {price} dollars each and {number} {other} for
    {each} dollars each. How many dollars are left?
    first = count * price | The {things} cost # dollars.
    second = number * each | The {other} cost # dollars.
    total = first + second | {N} pays # dollars.
    left = money - total | Then # dollars are left.
"""
HELD_OUT = """
fill: each boxes
    A box holds {each} {things}. {N} fills {boxes} boxes. How many {things} is that?
    total = boxes * each | That is # {things}.
children: children each
    Each of {children} children has {each} {things}. How many {things} do the children have?
    total = children * each | The children have # {things}.
drive: miles hours
    {N} goes {miles} miles every hour. How many miles does {he} go in {hours} hours?
    total = miles * hours | {N} goes # miles.
into_bags: bags each count=bags*each
    {N} puts {count} {things} equally into {bags} bags. How many {things} are in each bag?
    each = count / bags | {bags} * {each} = {count}, so each bag has # {things}.
big_bus: seats=11-39 buses
    A bus takes {seats} students. How many students can go in {buses} buses?
    total = buses * seats | Then # students can go.
lose: rows each lost
    {N} makes {rows} rows of {each} {things}. Then {M} takes {lost} {things} away. How many {things} are left?
    total = rows * each | {N} makes # {things}.
    left = total - lost | Then # {things} are left.
times_more: count times more
    {M} has {count} {things}. {N} has {times} times as many and then gets {more} more. How many {things}
    does {N} have?
    total = count * times | {N} first has # {things}.
    now = total + more | Then {N} has # {things}.
price_bag: count price bag
    {N} pays {price} dollars for each of {count} {things} and {bag} dollars for a bag. How many dollars
    does {he} pay in all?
    cost = count * price | The {things} cost # dollars.
    total = cost + bag | {N} pays # dollars.
still: days saved need total=days*saved price=total+need
    A game costs {price} dollars. {N} saves {saved} dollars a day for {days} days. How many more dollars
    does {he} need?
    total = days * saved | {N} saves # dollars.
    need = price - total | {N} needs # more dollars.
both: rows each lines per_line
    {N} has {rows} rows of {each} {things} and {M} has {lines} rows of {per_line} {things}. How many
    {things} do they have together?
    first = rows * each | {N} has # {things}.
    second = lines * per_line | {M} has # {things}.
    total = first + second | Together they have # {things}.
parts: cakes parts people
    {N} cuts {cakes} cakes into {parts} parts each. {people} friends share the parts equally. How many
    parts does each friend get?
    total = cakes * parts | There are # parts.
    share = total / people | Each friend gets # parts.
colors: red=5-30 blue packs each
    {N} has {red} red {things} and {blue} blue {things} and buys {packs} packs of {each} {things}. How many
    {things} does {he} have now?
    first = red + blue | {N} first has # {things}.
    second = packs * each | The packs hold # {things}.
    total = first + second | Now {N} has # {things}.
"""
OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
LARGEST = 300           # of any value in a problem


class Step(NamedTuple):
    name: str
    left: str           # a variable or a constant, as `right`
    operator: str
    right: str
    sentence: str


class Template(NamedTuple):
    id: str
    seen: bool
    ranges: dict[str, tuple[int, int]]      # the numbers that are drawn
    computed: list[Step]                    # the numbers that follow from those
    question: str
    steps: list[Step]


def _parse(blocks: str, seen: bool) -> Iterator[Template]:
    for block in re.split(r"\n(?=\w)", blocks.strip()):
        head, *lines = block.split("\n")
        id, *numbers = head.replace(":", "").split()
        ranges, computed = {}, []
        for number in numbers:
            name, _, value = number.partition("=")
            if expression := re.fullmatch(r"(\w+)([*+])(\w+)", value):
                computed.append(Step(name, *expression.groups(), ""))
            else:
                low, _, high = (value or "2-9").partition("-")
                ranges[name] = (int(low), int(high))
        question = " ".join(line.strip() for line in lines if "|" not in line)
        steps = [re.fullmatch(r" +(\w+) = (\w+) (.) (\w+) \| (.*)", line) for line in lines if "|" in line]
        yield Template(id, seen, ranges, computed, question, [Step(*step.groups()) for step in steps])


SEEN_TEMPLATES = tuple(_parse(SEEN, True))
HELD_OUT_TEMPLATES = tuple(_parse(HELD_OUT, False))
_SHORT_TEMPLATES = tuple(template for template in SEEN_TEMPLATES if len(template.steps) == 1)


def _pick(rng: random.Random, items):
    return items[int(rng.random() * len(items))]


def _between(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def _shuffled(rng: random.Random, items) -> list:
    return [item for _, item in sorted((rng.random(), item) for item in items)]


def _people(rng: random.Random) -> dict[str, str]:
    """What fills the slots of a template that are words: two people, two kinds of things, a pronoun."""
    first, second = _shuffled(rng, NAMES)[:2]
    things, other = _shuffled(rng, THINGS)[:2]
    return {"N": first, "M": second, "things": things, "other": other, **PRONOUNS[NAMES[first]]}


# Arithmetic, written out

def working(a: int, operator: str, b: int) -> list[str]:
    """The lines that a pupil writes for one operation, the last of which ends with its value.

    A two-digit number times a digit goes through single-digit products, ones first: working(47, "*", 6) is
    6 * 7 = 42, 4 * 6 = 24, 240 + 42 = 282. A sum of two two-digit numbers goes through tens and ones.
    """
    value = f"{a} {operator} {b} = {OPERATIONS[operator](a, b)}"
    (low, high), lines = sorted((a, b)), []
    if operator == "*" and low < 10 <= high < 100:
        tens, ones = divmod(high, 10)
        lines = [f"{min(low, digit)} * {max(low, digit)} = {low * digit}" for digit in (ones, tens) if digit]
        return [*lines, f"{low * tens * 10} + {low * ones} = {a * b}"] if ones else [*lines, value]
    if operator == "+" and low > 9 and a % 10 and b % 10:
        tens, ones = high // 10 * 10 + low // 10 * 10, high % 10 + low % 10
        split = [f"{a - a % 10} + {b - b % 10} = {tens}", f"{a % 10} + {b % 10} = {ones}"]
        return [*split, f"{tens} + {ones} = {a + b}"]
    return [value]


def _exercise(rng: random.Random) -> tuple[int, str, int]:
    """One operation: half table products, a fifth two digits times one, a fifth sums, the rest / and -."""
    chance = rng.random()
    if chance < 0.5:
        return _between(rng, 1, 9), "*", _between(rng, 1, 9)
    if chance < 0.7:
        pair = _between(rng, 11, 99), _between(rng, 2, 9)
        return (pair[0], "*", pair[1]) if rng.random() < 0.75 else (pair[1], "*", pair[0])
    if chance < 0.9:
        return _between(rng, 2, 99), "+", _between(rng, 2, _pick(rng, (9, 99)))
    a, b = _between(rng, 2, 9), _between(rng, 2, 9)
    return (a * b, "/", b) if chance < 0.95 else (a * b + b, "-", b)


def drills(n: int, seed: int, *, all_products: bool = True) -> Iterator[dict]:
    """`n` bare expressions: {question, answer}, the answer with its working and `#### value`.

    Without `all_products`, those that `worked` keeps for its test are left out.
    """
    rng = random.Random(f"drills {seed}")
    exercises = (_exercise(rng) for _ in itertools.count())
    if not all_products:
        exercises = (each for each in exercises if not (each[1] == "*" and _product_for_test(each[0], each[2])))
    for a, operator, b in itertools.islice(exercises, n):
        answer = "\n".join(working(a, operator, b))
        yield {"question": f"What is {a} {operator} {b}?",
               "answer": f"{answer}\n#### {OPERATIONS[operator](a, b)}"}


# Word problems

def _solve(template: Template, numbers: dict[str, int]) -> dict[str, int] | None:
    """All values of a problem, or None where one is fractional, below 1 or too large."""
    values = dict(numbers)
    for name, left, operator, right, _ in template.computed + template.steps:
        a, b = (int(x) if x.isdigit() else values[x] for x in (left, right))
        if operator == "/" and a % b:
            return None
        values[name] = OPERATIONS[operator](a, b)
        if not 1 <= values[name] <= LARGEST:
            return None
    return values


def _for_test(template: Template, numbers: dict[str, int]) -> bool:
    """Whether these numbers, in any order, are kept from training in this template (one tuple in five)."""
    return zlib.crc32(f"{template.id} {sorted(numbers.values())}".encode()) % 5 == 0


class Problem(NamedTuple):
    template: Template
    values: dict[str, int]      # of every number and step
    words: dict[str, str]
    question: str

    def equations(self) -> Iterator[tuple[Step, int, int, int]]:
        """(step, left, right, value) of each step."""
        for step in self.template.steps:
            left, right = (int(x) if x.isdigit() else self.values[x] for x in (step.left, step.right))
            yield step, left, right, self.values[step.name]

    @property
    def result(self) -> int:
        return self.values[self.template.steps[-1].name]


def _problem(rng: random.Random, template: Template, test: bool) -> Problem:
    values = None
    while values is None:
        numbers = {name: _between(rng, low, high) for name, (low, high) in template.ranges.items()}
        if not template.seen or _for_test(template, numbers) == test:
            values = _solve(template, numbers)
    words = _people(rng)
    question = template.question.format_map(values | words)
    if rng.random() < 0.15:
        body, _, ask = question.rpartition(" How ")
        question = f"{body} {_pick(rng, ASIDES).format_map(words | {'k': _between(rng, 2, 9)})} How {ask}"
    return Problem(template, values, words, question)


def _solution(problem: Problem, annotated: bool = False) -> str:
    """Sentences with equations, larger products worked through, and `#### value`, as GSM8K has them."""
    lines = []
    for step, a, b, value in problem.equations():
        lines += _through_facts(a, step.operator, b)
        note = f"<<{a}{step.operator}{b}={value}>>" if annotated else ""
        equation = f"{a} {step.operator} {b} = {note}{value}"
        lines.append(step.sentence.format_map(problem.values | problem.words).replace("#", equation))
    return "\n".join(lines) + f"\n#### {problem.result}"


def _steps(problem: Problem) -> str:
    """Numbered steps with the names of the program's variables, and `#### value`."""
    lines = []
    for i, (step, a, b, value) in enumerate(problem.equations(), 1):
        a, b = sorted((a, b)) if step.operator == "*" else (a, b)
        head, work = f"{i}. {step.name.replace('_', ' ')} = ", _through_facts(a, step.operator, b)
        lines += [f"{head}{a} {step.operator} {b}", *work] if work else []
        lines.append(f"{'' if work else head}{a} {step.operator} {b} = {value}")
    return "\n".join(lines) + f"\n#### {problem.result}"


def _through_facts(a: int, operator: str, b: int) -> list[str]:
    lines = working(a, operator, b) if operator == "*" else []
    return [line for line in lines if not line.startswith(f"{a} * {b} =")]


def _program(problem: Problem) -> str:
    """TinyGSM's form: the numbers of the question, one assignment per step, the result."""
    asked = [name for name in re.findall(r"{(\w+)}", problem.template.question) if name in problem.values]
    given = [f"{name} = {problem.values[name]}" for name in asked]
    steps = [f"{step.name} = {step.left} {step.operator} {step.right}" for step in problem.template.steps]
    result = f"result = {problem.template.steps[-1].name}"
    lines = ['"""', problem.question, '"""', *given, *steps, result, "return result"]
    return "def simple_math_problem() -> int:\n" + "\n".join(f"    {line}" for line in lines)


def word_problems(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` different problems of "train" or "test": {question, code, answer, template, seen}.

    `code` is a TinyGSM program, `answer` a GSM8K solution, a quarter of them with `<<6*9=54>>` annotations.
    In "test" templates that training knows (with other numbers) and held-out ones take turns.
    """
    test = _is_held_apart(split, "test")
    rng = random.Random(f"word_problems {split} {seed}")
    asked = set()
    while len(asked) < n:
        templates = HELD_OUT_TEMPLATES if test and len(asked) % 2 else SEEN_TEMPLATES
        problem = _problem(rng, _pick(rng, templates), test)
        if problem.question not in asked:
            asked.add(problem.question)
            yield {"question": problem.question, "code": _program(problem),
                   "answer": _solution(problem, annotated=rng.random() < 0.25),
                   "template": problem.template.id, "seen": problem.template.seen}


def _is_held_apart(split: str, other: str) -> bool:
    if split not in ("train", other):
        raise ValueError(f'split "{split}": there are "train" and "{other}"')
    return split == other


# Worked answers: a world of products, for a study of what fact tokens do to them

def schoolbook(a: int, b: int) -> list[str]:
    """The lines of a long multiplication of `a` by a digit, digit by digit from the ones, carrying.

    schoolbook(47, 6) is 6 * 7 = 42: 2 / 4 * 6 = 24, 24 + 4 = 28: 282. Behind each colon stands what has been
    written of the product so far.
    """
    lines, carry, written = [], 0, ""
    digits = [int(digit) for digit in reversed(str(a))]
    for place, digit in enumerate(digits, 1):
        product = digit * b
        line = f"{min(digit, b)} * {max(digit, b)} = {product}"
        if carry:
            line += f", {product} + {carry} = {product + carry}"
        carry, last = divmod(product + carry, 10)
        written = f"{last}{written}" if place < len(digits) or not carry else f"{carry}{last}{written}"
        lines.append(f"{line}: {written}")
    return lines


WORKED_PRODUCTS = 0.6       # share of products among worked answers
_WORKED_SEEN, _WORKED_HELD_OUT = (
    tuple(template for template in templates if len(template.steps) < 4)
    for templates in (SEEN_TEMPLATES, HELD_OUT_TEMPLATES))
WORKED_FACTORS = ((2, 9), (11, 99), (11, 99), (101, 999), (101, 999), (101, 999))    # of the other factor


def worked(split: str, n: int, seed: int, signs: float = 1.0) -> Iterator[dict]:
    """`n` problems of "train" or "test", each with its worked answer: {question, answer, template, seen}.

    Six in ten are products: of the table (in "train" alone), of two digits by one, and most of three digits
    by one; the rest are word problems of one to three steps. One product in five is kept for "test", where no
    question comes twice; of its word problems a fifth have templates that training does not know. Negative
    `n`: without end. `signs` is the share of products that answers write as `6 * 9 = 54`; the others are "6
    times 9 is 54", which no vocabulary finds: the same problems and workings with fewer facts.
    """
    test = _is_held_apart(split, "test")
    rng, spelling = random.Random(f"worked {split} {seed}"), random.Random(f"spelling {split} {seed}")
    asked = set()
    while n:
        row = (_worked_product if rng.random() < WORKED_PRODUCTS else _worked_problem)(rng, test)
        if not (test and row["question"] in asked):
            asked.add(row["question"])
            n -= 1
            yield row if signs == 1 else row | {"answer": _in_words(row["answer"], 1 - signs, spelling)}


def _in_words(answer: str, share: float, rng: random.Random) -> str:
    """An answer with a share of its products in words."""
    def write(found: re.Match) -> str:
        return "{} times {} is ".format(*found.groups()) if rng.random() < share else found[0]

    return re.sub(r"(\d+) \* (\d+) = ", write, answer)


def _product_for_test(a: int, b: int) -> bool:
    """Whether a product, in either order, is kept for the test: one in five of those beyond the table."""
    low, high = sorted((a, b))
    return high > 9 and zlib.crc32(f"{high} * {low}".encode()) % 5 == 0


def _worked_product(rng: random.Random, test: bool) -> dict:
    while True:
        low, high = _pick(rng, WORKED_FACTORS)
        a, b = _between(rng, low, high), _between(rng, 2, 9)
        if not test if high < 10 else _product_for_test(a, b) == test:
            break
    lines = schoolbook(a, b) if a > 9 else working(min(a, b), "*", max(a, b))
    return {"question": f"What is {a} * {b}?", "answer": "\n".join([*lines, f"#### {a * b}"]),
            "template": f"{len(str(a))} by 1 digits", "seen": True}


def _worked_problem(rng: random.Random, test: bool) -> dict:
    templates = _WORKED_HELD_OUT if test and rng.random() < 0.2 else _WORKED_SEEN
    problem = _problem(rng, _pick(rng, templates), test)
    return {"question": problem.question, "answer": _solution(problem),
            "template": problem.template.id, "seen": problem.template.seen}


# Documents

SPELLINGS = ("{} * {} = {}",) * 7 + ("{} × {} = {}", "{} x {} = {}", "{}*{}={}")


def _table(rng: random.Random) -> str:
    spelling, k, swap = _pick(rng, SPELLINGS), _between(rng, 1, 9), rng.random() < 0.5
    factors = range(1, 10) if rng.random() < 0.3 else _shuffled(rng, range(1, 10))
    pairs = [(i, k) if swap else (k, i) for i in factors]
    return f"The {k} times table\n" + "\n".join(spelling.format(a, b, a * b) for a, b in pairs)


def _facts(rng: random.Random) -> str:
    spelling = _pick(rng, SPELLINGS)
    pairs = [(_between(rng, 2, 9), _between(rng, 2, 9)) for _ in range(_between(rng, 6, 14))]
    return "Practice makes perfect. " + ". ".join(spelling.format(a, b, a * b) for a, b in pairs) + "."


PRODUCTS = ("{a} boxes of {b} {things}: # {things}.", "{a} packs of {b} {things}: # {things}.",
            "{a} bags with {b} {things} in each: # {things}.", "{a} rows of {b} chairs: # chairs.",
            "{a} teams of {b} players: # players.", "{N} buys {b} {things} for {a} dollars each: # dollars.",
            "{N} reads {a} pages a day for {b} days: # pages.",
            "{N} has {a} {things} and {M} has {b} times as many: # {things}.")
SUMS = ("{N} has {a} {things} and finds {b} more: # {things}.", "{a} {things} and {b} {other}: # things.",
        "{N} pays {a} dollars and then {b} dollars: # dollars.", "{a} pages and {b} more pages: # pages.")
DIFFERENCES = ("{N} has {a} {things} and gives {b} to {M}: # {things}.", "{a} {things} less {b}: # {things}.",
               "{a} dollars less {b} dollars: # dollars.", "{N} reads {b} of {a} pages: # pages are left.")


def _phrases(rng: random.Random) -> str:
    """Problems of one line: numbers are found a few words back before they are found a few sentences back."""
    lines = []
    for _ in range(_between(rng, 3, 5)):
        a, b = _between(rng, 2, 9), _between(rng, 2, 9)
        operator, phrases = _pick(rng, (("*", PRODUCTS),) * 3 + (("+", SUMS), ("-", DIFFERENCES)))
        if operator != "*":
            a = _between(rng, 2, 9) * a + b * (operator == "-")     # what a first step often leaves
        line = _pick(rng, phrases).format_map(_people(rng) | {"a": str(a), "b": str(b)})
        lines.append(line.replace("#", f"{a} {operator} {b} = {OPERATIONS[operator](a, b)}"))
    return "\n".join(lines)


def _again(rng: random.Random) -> str:
    """Numbers to be said three times: the shortest exercise in copying."""
    numbers = ", ".join(str(_between(rng, 2, _pick(rng, (9, 9, 60)))) for _ in range(_between(rng, 3, 6)))
    return f"Say it again: {numbers}. Again: {numbers}. Again: {numbers}."


def _questions(rng: random.Random) -> str:
    exercises = [_exercise(rng) for _ in range(_between(rng, 3, 6))]
    return "\n\n".join(f"What is {a} {operator} {b}?\n" + "\n".join(working(a, operator, b))
                       for a, operator, b in exercises)


def _sums(rng: random.Random) -> str:
    lines = []
    for _ in range(_between(rng, 5, 9)):
        a, b = _between(rng, 2, 81), _between(rng, 2, 9)
        back = f", so {a + b} - {b} = {a}" if rng.random() < 0.5 else ""
        lines.append(f"{a} + {b} = {a + b}{back}")
    return "Adding and taking away. " + ". ".join(lines) + "."


def _bonds(rng: random.Random) -> str:
    total = _between(rng, 6, 30)
    parts = _shuffled(rng, range(1, total))[:8]
    return f"Two numbers that make {total}: " + ", ".join(f"{a} + {total - a} = {total}" for a in parts) + "."


def _division(rng: random.Random) -> str:
    pairs = [(_between(rng, 2, 9), _between(rng, 2, 9)) for _ in range(5)]
    return "How to divide. " + " ".join(f"{a} * {b} = {a * b}, so {a * b} / {a} = {b}." for a, b in pairs)


def _tens(rng: random.Random) -> str:
    pairs = [(_between(rng, 2, 9), _between(rng, 1, 9)) for _ in range(5)]
    return "By tens. " + " ".join(f"{a} * {b} = {a * b}, so {a} * {b}0 = {a * b}0." for a, b in pairs)


def _lesson(rng: random.Random) -> str:
    """A problem told in several ways: that numbers come back teaches a model to look for them."""
    templates = _SHORT_TEMPLATES if rng.random() < 0.5 else SEEN_TEMPLATES
    problem = _problem(rng, _pick(rng, templates), test=False)
    ways = [_solution(problem), _steps(problem), _program(problem).rpartition('"""\n')[2]]
    return "\n".join([problem.question, *_pick(rng, (ways, ways[:2], ways[1::-1]))])


def _counting(rng: random.Random) -> str:
    animal, home, food, parts, k = _pick(rng, ANIMALS)
    sentences = [f"A {animal} lives {home}. It eats {food}. A {animal} has {k} {parts}."]
    for n in _shuffled(rng, range(2, 10))[:3]:
        sentences.append(f"{n} of them have {n} * {k} = {n * k} {parts}.")
    return " ".join(sentences)


PLAIN = ("{N} and {M} are friends.", "They go to school together.",
         "{N} likes {things} and {M} likes {other}.",
         "A {animal} lives {home}.", "A {animal} eats {food}.", "{N} saw a {animal} {home}.",
         "In the morning the sun comes up in the east.", "In the evening the sun goes down in the west.",
         "{N} puts the {things} in a box.", "{M} wants to know where the {things} are.",
         "Water falls as rain and runs to the sea.", "Plants need light and water.",
         "{He} reads a book about it.", "After school {he} goes home.", "In winter the days are short.",
         "In summer the days are long.")


def _plain(rng: random.Random) -> str:
    animal, home, food, *_ = _pick(rng, ANIMALS)
    slots = {**_people(rng), "animal": animal, "home": home, "food": food}
    return " ".join(sentence.format_map(slots) for sentence in _shuffled(rng, PLAIN)[:_between(rng, 4, 8)])


# Kinds of documents with their shares in percent.
MIX: dict[Callable[[random.Random], str], int] = {
    _lesson: 44, _phrases: 22, _questions: 9, _again: 4, _table: 3, _facts: 3, _sums: 3, _bonds: 1,
    _division: 2, _tens: 1, _counting: 2, _plain: 6}
_KINDS = tuple(kind for kind, share in MIX.items() for _ in range(share))


def documents(seed: int, split: str) -> Iterator[dict]:
    """Documents without end, {text}, of "train" or "validation" (about one text in sixteen)."""
    validation = _is_held_apart(split, "validation")
    rng = random.Random(f"documents {split} {seed}")
    while True:
        text = _pick(rng, _KINDS)(rng)
        if (zlib.crc32(text.encode()) % 16 == 0) == validation:
            yield {"text": text}


# Chats and sentence completion

def _turn(rng: random.Random, test: bool) -> tuple[str, str, str]:
    """(topic, what a user asks, what the assistant answers)."""
    chance = rng.random()
    animal, home, food, parts, k = _pick(rng, ANIMALS)
    if chance < 0.1:
        name = _pick(rng, tuple(NAMES))
        return "greeting", f"Hello! My name is {name}.", f"Hello {name}! How can I help you?"
    if chance < 0.25:
        return "world", *_pick(rng, ((f"Where does a {animal} live?", f"A {animal} lives {home}."),
                                     (f"What does a {animal} eat?", f"A {animal} eats {food}."),
                                     (f"How many {parts} has a {animal}?", f"A {animal} has {k} {parts}.")))
    if chance < 0.65:
        a, operator, b = _exercise(rng)
        answer = [*working(a, operator, b), f"The answer is {OPERATIONS[operator](a, b)}."]
        return "arithmetic", f"What is {a} {operator} {b}?", "\n".join(answer)
    problem = _problem(rng, _pick(rng, HELD_OUT_TEMPLATES if test else SEEN_TEMPLATES), test)
    return "problem", problem.question, _solution(problem).replace("####", "The answer is") + "."


def chats(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` conversations of one to three turns, one in six with a system message: {id, messages, source}."""
    test = _is_held_apart(split, "test")
    rng = random.Random(f"chats {split} {seed}")
    for i in range(n):
        messages = []
        if rng.random() < 1 / 6:
            messages.append({"role": "system", "content": "You help children with their school work."})
        turns = [_turn(rng, test) for _ in range(_pick(rng, (1, 1, 1, 2, 2, 3)))]
        for _, question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield {"id": f"{split}-{seed}-{i}", "messages": messages, "source": f"sample/{turns[0][0]}"}


def hellaswag(split: str, n: int, seed: int) -> Iterator[dict]:
    """`n` sentences with four endings, one of them consistent: {activity_label, ctx, endings, label}."""
    _is_held_apart(split, "validation")
    rng = random.Random(f"hellaswag {split} {seed}")
    for _ in range(n):
        slots = _people(rng)
        chance = rng.random()
        if chance < 0.5:
            a, b = _between(rng, 2, 9), _between(rng, 2, 9)
            label, right = "Counting", f"{a * b} {slots['things']}."
            ctx = f"{{N}} has {a} boxes with {b} {{things}} in each box. {{N}} has".format_map(slots)
            near = {x * y for x in (a - 1, a, a + 1) for y in (b - 1, b, b + 1)} - {a * b, 0}
            wrong = [f"{value} {slots['things']}." for value in _shuffled(rng, near)]
        elif chance < 0.75:
            label, right = "Playing", f"{slots['N']}."
            ctx = "{N} gives a box of {things} to {M}. {M} says thank you to".format_map(slots)
            wrong = [f"{name}." for name in _shuffled(rng, NAMES) if name not in (slots["N"], slots["M"])]
        else:
            animal, home, *_ = _pick(rng, ANIMALS)
            label, right, ctx = "Animals", f"{home}.", f"There is a {animal}. A {animal} lives"
            wrong = [f"{place}." for _, place, *_ in _shuffled(rng, ANIMALS) if place != home]
        place = _between(rng, 0, 3)
        yield {"activity_label": label, "ctx": ctx, "endings": wrong[:place] + [right] + wrong[place:3],
               "label": place}
