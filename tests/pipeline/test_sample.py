"""The generated data: reproducible, with what it promises held apart, and right in every number it writes."""

import hashlib
import itertools
import json
import random
import re
import string
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.grading import errors
from eval.programs import interpreter
from pipeline import sample
from pipeline.files import ROOT
from pipeline.sample import arithmetic
from pipeline.sample.documents import MIX, chats, documents, hellaswag
from pipeline.sample.named import answered
from pipeline.sample.problems import make_problem, program_of, steps_of, word_problems
from pipeline.sample.templates import HELD_OUT_TEMPLATES, NAMES, SEEN_TEMPLATES, THINGS
from pipeline.sample.worked import drills, worked
from pipeline.sample.workings import OPERATIONS, schoolbook, working
from pretrain.documents import drill_documents
from sft import trace
from tokenizer.vocabularies import multiplication

WORKED = "c8bbeb29708c53ef62302feeb47d43a0207e663f81f0772b79e9dca3350fed2b"
"""SHA-256 of the worked answers."""
GOLDEN = (3, "c3dcde94706fdca888953bbd3e5114b5f8e8391b862606e24d45ac51e64897c9")
"""Version and SHA-256 of the content: where the test fails, raise sample.VERSION and write both down here."""


def content():
    """Some rows of every generator."""
    yield from itertools.islice(documents(0, "train"), 300)
    yield from itertools.islice(documents(0, "validation"), 20)
    for split in ("train", "test"):
        yield from word_problems(split, 200, 0)
        yield from chats(split, 50, 0)
    yield from hellaswag("validation", 50, 0)
    yield from drills(100, 0)


def test_the_content_is_that_of_its_version():
    digest = hashlib.sha256("\n".join(map(json.dumps, content())).encode()).hexdigest()
    assert (sample.VERSION, digest) == GOLDEN


def test_the_worked_answers_are_those_of_their_version():
    rows = [*worked("train", 300, 0), *worked("test", 300, 0)]
    assert hashlib.sha256("\n".join(map(json.dumps, rows)).encode()).hexdigest() == WORKED


def test_seeds_and_splits_differ_and_a_longer_run_begins_alike():
    for make in (word_problems, chats):
        rows = [list(make(split, 40, seed)) for split, seed in [("train", 0), ("train", 1), ("test", 0)]]
        assert rows[0] != rows[1] and rows[0] != rows[2]
        assert list(make("train", 15, 0)) == rows[0][:15]
    assert list(drills(10, 0)) != list(drills(10, 1))


def test_it_stands_alone():
    code = "import sys; before = set(sys.modules); import pipeline.sample.documents; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.replace("'", '"'))
    ours = {name for name in loaded if name.startswith("pipeline.")}
    assert all(name.startswith("pipeline.sample") for name in ours)
    assert {name.split(".")[0] for name in loaded} <= {"pipeline"} | sys.stdlib_module_names


@pytest.mark.parametrize("make, split", [(word_problems, "dev"), (chats, "validation"), (hellaswag, "test")])
def test_an_unknown_split_is_refused(make, split):
    with pytest.raises(ValueError, match=f'split "{split}"'):
        next(make(split, 1, 0))


# Right in every number


def equations(text):
    """(left, operator, right, value) of every equation, in whichever spelling."""
    found = re.findall(r"(\d+) ?([-+*/×x]) ?(\d+) ?= ?(?:<<[^<>]*>>)?(\d+)", text)
    return [(int(a), "*" if op in "×x" else op, int(b), int(c)) for a, op, b, c in found]


def all_texts():
    yield from (row["text"] for row in itertools.islice(documents(5, "train"), 3000))
    answered = itertools.chain(word_problems("train", 1500, 5), drills(1500, 5))
    yield from (row["answer"] for row in answered)
    yield from (turn["content"] for row in chats("test", 500, 5) for turn in row["messages"])


def test_every_equation_anywhere_is_true():
    count = 0
    for text in all_texts():
        for a, operator, b, value in equations(text):
            assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operator] == value, text
            count += 1
    assert count > 15_000


@pytest.mark.parametrize("split", ["train", "test"])
def test_question_program_and_answer_say_the_same(split):
    for row in word_problems(split, 800, 3):
        gold = row["answer"].rsplit("#### ", 1)[1]
        outcome = interpreter.run(row["code"])
        assert outcome.status == "ok" and outcome.value == int(gold), row
        head = 'def simple_math_problem() -> int:\n    """\n    '
        assert row["code"].startswith(head + row["question"] + "\n")
        assert row["code"].endswith("    return result")
        assert equations(row["answer"])[-1][3] == int(gold)
        given = {int(n) for n in re.findall(r"(?m)^    \w+ = (\d+)$", row["code"])}
        assert given <= {int(n) for n in re.findall(r"\d+", row["question"])}, row
        assert not re.search(r"[{}]", row["question"] + row["answer"])


def test_every_program_becomes_the_steps_that_documents_write():
    """What pretraining shows as numbered steps is what SFT on programs asks for."""
    problems = list(
        map(
            make_problem,
            [random.Random(i) for i in range(300)],
            itertools.cycle(SEEN_TEMPLATES),
            itertools.repeat(False),
        )
    )
    for problem in problems:
        assert trace.steps(program_of(problem), multiplication.work).text == steps_of(problem)


@given(st.integers(1, 99), st.integers(1, 99), st.sampled_from("+-*/"))
def test_working_is_true_and_ends_with_the_value(a, b, operator):
    if operator == "/":
        a *= b
    lines = working(a, operator, b)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
    assert lines[-1].endswith(f"= {value}")
    for line in lines:
        ((x, op, y, z),) = equations(line) if value >= 0 else [(a, operator, b, value)]
        assert {"+": x + y, "-": x - y, "*": x * y, "/": x // y}[op] == z
    if operator == "*" and min(a, b) < 10 < max(a, b) and max(a, b) % 10 and min(a, b) > 1:
        assert lines == multiplication.work(a, "*", b)


# Held apart


def shape(problem):
    """A question as a template with its numbers, without names and things."""
    words = {*NAMES, *THINGS, "he", "she", "He", "She", "him", "her"}
    return " ".join("_" if word.strip(string.punctuation) in words else word for word in problem.split())


def test_test_problems_are_half_unknown_templates_and_half_unknown_numbers():
    train = list(word_problems("train", 8000, 0)) + list(word_problems("train", 8000, 1))
    test = list(word_problems("test", 800, 0))
    assert Counter(row["seen"] for row in test) == {True: 400, False: 400}
    known = {row["template"] for row in train}
    assert all((row["template"] in known) == row["seen"] for row in test)
    assert len(known) >= 30 and len({row["template"] for row in test if not row["seen"]}) >= 10
    shapes = {shape(row["question"]) for row in train}
    assert len(shapes) > 2000  # so that the next line could fail
    assert not [row for row in test if shape(row["question"]) in shapes]
    assert len({row["question"] for row in train[:8000]}) == 8000


@given(st.integers(10, 999), st.integers(2, 9))
def test_a_long_multiplication_is_true_in_every_line_and_writes_the_product(a, b):
    carry, written = 0, ""
    for line, digit in zip(schoolbook(a, b), reversed(str(a)), strict=True):
        said, written = line.split(": ")
        assert all(x * y == z if op == "*" else x + y == z for x, op, y, z in equations(said))
        assert equations(said)[0][3] == int(digit) * b and equations(said)[-1][3] == int(digit) * b + carry
        assert str(a * b).endswith(written)
        carry = (int(digit) * b + carry) // 10
    assert written == str(a * b)


def test_worked_test_items_are_asked_nowhere_in_training():
    train, test = list(worked("train", 20_000, 0)), list(worked("test", 1200, 0))
    asked = {shape(row["question"]) for row in train}
    drilled = "".join(itertools.islice(drill_documents(0), 4000))  # the drills of a dose ablation
    asked |= {shape(question) for question in re.findall(r"What is .*?\?", drilled)}
    assert len(asked) > 7000 and not [row for row in test if shape(row["question"]) in asked]
    assert len({row["question"] for row in test}) == 1200
    kinds = Counter(row["template"] if "digits" in row["template"] else row["seen"] for row in test)
    assert kinds.keys() == {"2 by 1 digits", "3 by 1 digits", True, False} and min(kinds.values()) > 80
    for row in train[:2000] + test:
        *_, last, value = re.findall(r"\d+", row["answer"])
        assert last == value and all(op != "*" or x * y == z for x, op, y, z in equations(row["answer"]))


def test_no_product_of_the_test_is_worked_anywhere_in_training():
    def products(text):
        return {
            tuple(sorted(map(int, pair))) for pair in re.findall(r"(\d+) (?:\*|times) (\d+) (?:=|is)", text)
        }

    test, asked = list(worked("test", 1200, 0)), set()
    for row in test:
        if "digits" in row["template"]:
            asked.add(tuple(sorted(map(int, re.findall(r"\d+", row["question"])))))
    texts = [row["answer"] for signs in (1.0, 0.1) for row in worked("train", 20_000, 0, signs)]
    texts += itertools.islice(drill_documents(0), 4000)
    trained = products("\n".join(texts))
    assert len(asked) > 500 and len(trained) > 200 and not asked & trained
    word_problems = [row for row in test if "digits" not in row["template"]]
    assert products("\n".join(row["answer"] for row in word_problems)) & asked  # there they may come


def test_worked_answers_in_words_are_the_same_with_fewer_facts():
    rows, words = (list(worked("train", 2000, 0, signs)) for signs in (1.0, 0.1))
    assert [row["question"] for row in rows] == [row["question"] for row in words]
    spelled = [re.sub(r"(\d+) times (\d+) is ", r"\1 * \2 = ", row["answer"]) for row in words]
    assert spelled == [row["answer"] for row in rows]
    facts = [sum(len(multiplication.find(row["answer"])) for row in each) for each in (rows, words)]
    assert 0.08 < facts[1] / facts[0] < 0.12


def test_documents_and_chats_hold_no_test_problem():
    test = {shape(row["question"]) for row in word_problems("test", 1000, 0)}
    texts = [row["text"] for row in itertools.islice(documents(0, "train"), 10_000)]
    texts += [turn["content"] for row in chats("train", 2000, 0) for turn in row["messages"]]
    asked = [text.split("\n")[0] for text in texts if " How " in text.split("\n")[0]]
    assert len(asked) > 4000 and not [text for text in asked if shape(text) in test]


def test_no_document_is_in_both_splits():
    splits = [
        {row["text"] for row in itertools.islice(documents(seed, split), n)}
        for seed, split, n in [(0, "train", 5000), (1, "train", 5000), (0, "validation", 1000)]
    ]
    assert not (splits[0] | splits[1]) & splits[2]
    assert len(splits[0]) > 4000 and splits[0] != splits[1]


# Enough to learn, nothing to guess


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_constant_answer_gets_six_percent(split):
    rows = list(word_problems(split, 600, 0))
    for part in (rows, [row for row in rows if row["seen"]], [row for row in rows if not row["seen"]]):
        if not part:
            continue
        answers = Counter(row["answer"].rsplit("#### ", 1)[1] for row in part)
        assert answers.most_common(1)[0][1] / len(part) < 0.06


def test_the_table_is_met_often_and_in_every_place():
    facts = Counter(
        tuple(sorted((a, b)))
        for text in itertools.islice(all_texts(), 3000)
        for a, op, b, _ in equations(text)
        if op == "*" and 0 < a < 10 and 0 < b < 10
    )
    assert len(facts) == 45 and min(facts.values()) > 8
    answers = [row["answer"] for row in word_problems("train", 1000, 0)]
    assert sum(bool(re.search(r"\b[2-9] \* [2-9] = \d", text)) for text in answers) > 500
    assert 150 < sum("<<" in text for text in answers) < 350
    assert sum(bool(multiplication.find(text)) for text in answers) > 800


def test_templates_have_one_to_four_steps_and_every_kind_of_document_occurs():
    assert len(SEEN_TEMPLATES) + len(HELD_OUT_TEMPLATES) >= 40
    assert {len(template.steps) for template in SEEN_TEMPLATES} == {1, 2, 3, 4}
    assert sum(MIX.values()) == 100
    texts = [row["text"] for row in itertools.islice(documents(0, "train"), 4000)]
    facts = [len(multiplication.find(text)) for text in texts]
    assert 0.05 < sum(not re.search(r"\d", text) for text in texts) / 4000 < 0.15
    assert 0.2 < sum(n >= 4 for n in facts) / 4000


def test_chats_alternate_and_some_are_long_or_led_by_a_system():
    rows = list(chats("train", 600, 0))
    for row in rows:
        roles = [turn["role"] for turn in row["messages"]]
        spoken = roles[1:] if roles[0] == "system" else roles
        assert spoken == ["user", "assistant"] * (len(spoken) // 2) and spoken
        assert all(turn["content"].strip() for turn in row["messages"])
    assert len({row["id"] for row in rows}) == 600 and len({row["source"] for row in rows}) == 4
    assert 50 < sum(row["messages"][0]["role"] == "system" for row in rows) < 150
    assert 200 < sum(len(row["messages"]) > 3 for row in rows)


def test_hellaswag_has_one_right_ending_in_every_place():
    rows = list(hellaswag("validation", 800, 0))
    assert min(Counter(row["label"] for row in rows).values()) > 150
    for row in rows:
        assert len(set(row["endings"])) == 4
        if row["activity_label"] == "Counting":
            a, b = map(int, re.findall(r"\d+", row["ctx"]))
            values = [int(ending.split()[0]) for ending in row["endings"]]
            assert [value == a * b for value in values] == [i == row["label"] for i in range(4)]


def test_drills_leave_out_the_products_of_the_test_and_no_other():
    def products(rows):
        asked = (re.fullmatch(r"What is (\d+) \* (\d+)\?", row["question"]) for row in rows)
        return {tuple(sorted(map(int, found.groups()))) for found in asked if found}

    everything, rest = (products(drills(40_000, 0, all_products=kept)) for kept in (True, False))
    asked = {pair for pair in products(worked("test", 1200, 0)) if pair[1] < 100}
    assert len(asked) > 80 and asked <= everything and not asked & rest
    gone = everything - rest
    beyond_the_table = {pair for pair in everything if pair[1] > 9}
    assert gone < beyond_the_table and 0.15 < len(gone) / len(beyond_the_table) < 0.25


def test_drills_end_with_their_value():
    for row in drills(500, 0):
        a, operator, b = re.fullmatch(r"What is (\d+) (.) (\d+)\?", row["question"]).groups()
        value = OPERATIONS[operator](int(a), int(b))
        assert row["answer"].endswith(f"= {value}\n#### {value}")


# The grid of arithmetic


def numbers(row):
    return re.findall(r"[\d.]*\d", row["question"])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["arithmetic", "arithmetic_worked", "arithmetic_add_2-6_unequal"])
def test_the_grid_is_exact_and_says_its_cells(name, split):
    cells = Counter()
    for row in answered(name, split, 1500, 4):
        (left, right), gold = numbers(row), row["answer"].rpartition("#### ")[2]
        a, b = Fraction(left), Fraction(right)
        value = {"add": a + b, "subtract": a - b, "multiply": a * b, "compare": max(a, b)}[row["op"]]
        assert Fraction(gold) == value >= 0
        places = [len(number.partition(".")[2] or number) for number in (left, right)]
        assert places == [row["digits_a"], row["digits_b"]]
        assert row["seen"] == (max(places) <= arithmetic.TRAINED)
        assert all(map(errors.is_true, errors.equations(row["answer"])))
        if name.startswith("arithmetic_add"):
            assert row["op"] == "add" and 2 <= min(places) < max(places) <= 6
        cells[row["op"], row["seen"], row["carries"]] += 1
    if name == "arithmetic":
        assert {op for op, _, _ in cells} == set(arithmetic.OPERATIONS)
        if split == "test":
            assert sum(n for (_, seen, _), n in cells.items() if seen) == 750
        for carried in range(4):  # long sums without a carry come, too
            assert cells["add", True, carried] > 5


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**8 - 1))
def test_carries_are_counted_as_a_pupil_carries(a, b):
    columns = sum(a % 10**n + b % 10**n >= 10**n for n in range(1, 9))
    assert arithmetic.carries("add", a, b) == columns
    low, high = sorted((a, b))
    assert arithmetic.carries("subtract", high, low) == sum(high % 10**n < low % 10**n for n in range(1, 9))


def test_the_grids_test_is_in_no_training_whatever_the_seed():
    test = [
        row for row in answered("arithmetic", "test", 1000, 0) if max(row["digits_a"], row["digits_b"]) > 1
    ]
    trained = [row for seed in range(3) for row in answered("arithmetic", "train", 10_000, seed)]
    both = [{(row["op"], *sorted(numbers(row), key=Fraction)) for row in rows} for rows in (trained, test)]
    assert not both[0] & both[1] and len(both[1]) > 900
    assert max(max(row["digits_a"], row["digits_b"]) for row in trained) == arithmetic.TRAINED
    assert {row["question"] for row in trained[:10_000]} != {
        row["question"] for row in trained[10_000:20_000]
    }


def test_a_small_part_of_the_grid_ends_and_an_unseen_one_has_no_training():
    assert 50 < len(list(answered("arithmetic_add_1-1", "test", 1000, 0))) <= 81
    with pytest.raises(ValueError, match="operands of up to 6 digits, none of 7"):
        answered("arithmetic_add_7-8", "train", 5, 0)
    for name in ("arithmetic_7-2", "arithmetic_root", "arithmetic_add_3-3_unequal"):
        with pytest.raises(ValueError, match="there are none named"):
            answered(name, "test", 5, 0)
