"""The generated world: its words and the templates of its word problems."""

import re
from collections.abc import Iterator
from typing import NamedTuple

NAMES = {
    "Sam": "he",
    "Ben": "he",
    "Jack": "he",
    "John": "he",
    "Paul": "he",
    "David": "he",
    "Jan": "she",
    "Pat": "she",
    "Val": "she",
    "Angel": "she",
    "Mary": "she",
    "Rose": "she",
}


PRONOUNS = {"he": {"he": "he", "He": "He", "him": "him"}, "she": {"he": "she", "He": "She", "him": "her"}}


THINGS = ("books", "cards", "balls", "coins", "apples", "pens", "cakes", "games", "toys", "keys")


ANIMALS = (
    ("cow", "on a farm", "grass", "legs", 4),
    ("bird", "in a tree", "seeds", "wings", 2),
    ("spider", "in a web", "flies", "legs", 8),
    ("bee", "in a garden", "honey", "legs", 6),
    ("horse", "in a field", "hay", "legs", 4),
    ("fish", "in the sea", "plants", "fins", 7),
)


ASIDES = (
    "{N} lives {k} miles from school.",
    "The bus takes {k} minutes.",
    "The shop has {k} windows.",
    "The door has {k} locks.",
)


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


class Step(NamedTuple):
    name: str
    left: str  # a variable or a constant, as `right`
    operator: str
    right: str
    sentence: str


class Template(NamedTuple):
    id: str
    seen: bool
    ranges: dict[str, tuple[int, int]]  # the numbers that are drawn
    computed: list[Step]  # the numbers that follow from those
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
                left, operator, right = expression.groups()
                computed.append(Step(name, left, operator, right, ""))
            else:
                low, _, high = (value or "2-9").partition("-")
                ranges[name] = (int(low), int(high))
        question = " ".join(line.strip() for line in lines if "|" not in line)
        steps = [re.fullmatch(r" +(\w+) = (\w+) (.) (\w+) \| (.*)", line) for line in lines if "|" in line]
        yield Template(id, seen, ranges, computed, question, [Step(*step.groups()) for step in steps if step])


SEEN_TEMPLATES = tuple(_parse(SEEN, True))


HELD_OUT_TEMPLATES = tuple(_parse(HELD_OUT, False))


SHORT_TEMPLATES = tuple(template for template in SEEN_TEMPLATES if len(template.steps) == 1)
