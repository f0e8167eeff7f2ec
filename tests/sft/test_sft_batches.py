"""Rows → batches: everything that conditions have to share, and what is counted."""

import functools
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversation import conversation
from pipeline.errors import UserError
from pipeline.sample.problems import word_problems
from pipeline.sample.worked import drills
from sft import batches, curriculum, train
from sft.batches import Row, Shape, draw, group, make_row, pack, take
from sft.curriculum import Part
from tokenizer.chat import IGNORE
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

ENCODERS = {mode: Encoder(Condition(mode, mode, "multiplication", 4096, share=0.5)) for mode in MODES}
SHAPE = Shape(layers=2, width=32, vocabulary=4189)
LOAD = functools.cache(functools.partial(lambda load, part: load(part, Counter(), 0), train.load))


@pytest.fixture(autouse=True)
def read_once(monkeypatch):
    monkeypatch.setattr(train, "load", lambda part, skipped, corpus: LOAD(part))


def row(length, supervised=1):
    labels = [IGNORE] * (length - supervised) + [1] * supervised
    return Row(np.ones(length, np.int32), np.array(labels, np.int32), length, 0)


def row_by_row(convert):
    return lambda numbers: map(convert, numbers)


def units_of(mode, stage, budget="examples", amount=96, tally=None):
    """The units of a condition, taken and grouped as a stage does it."""
    part = Part(stage.task, "sample", None, budget, amount)
    tally = Counter() if tally is None else tally
    endless = train.units_of(part, stage, (0, 0), ENCODERS[mode], tally)
    taken = take(endless, part, stage.batch_size, SHAPE, lambda spent: None)
    return group(taken, stage.batch_size, (0, 0))


def questions(units):
    """What no condition rewrites: the unsupervised ids of each row of each unit."""
    return [[tuple(row.ids[row.labels == IGNORE]) for row in unit] for unit in units]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("task", ["tulu", "gsm8k", "tinygsm"])
def test_a_budget_of_examples_gives_every_condition_the_same_batches(spec, task, packing):
    stage = spec(task=task, packing=packing)
    first, *others = (units_of(mode, stage) for mode in MODES)
    for other in others:
        assert questions(other) == questions(first)
        assert [[row.length for row in unit] for unit in other] == [
            [row.length for row in unit] for unit in first
        ]
    assert len(first) % stage.batch_size == 0 and sum(map(len, first)) >= 96


@pytest.mark.parametrize("task", ["tulu", "gsm8k", "tinygsm", "drills"])
def test_a_corpus_for_every_seed_is_other_rows_and_the_same_in_every_condition(spec, monkeypatch, task):
    monkeypatch.setattr(train, "load", curriculum.load)  # itself
    asked = []
    for seed, corpus, mode in (
        (0, "shared", "token"),
        (0, "seed", "token"),
        (0, "seed", "plain"),
        (1, "seed", "plain"),
    ):
        stage = spec(task="curriculum" if task == "drills" else task, corpus=corpus)
        part = Part(task, "sample", None, "examples", 32)
        units = take(
            train.units_of(part, stage, (seed, 0), ENCODERS[mode], Counter()), part, 8, SHAPE, lambda n: None
        )
        asked.append({question for unit in questions(units) for question in unit})
    shared, own, alike, other = asked
    assert own == alike
    if task != "tulu":  # whose greetings recur
        assert len(shared & own) < 16 and len(own & other) < 16
    assert shared != own != other


def test_a_budget_of_tokens_takes_one_condition_further_on_the_same_way(spec):
    stage = spec(batch_size=4)
    spent, seen = {}, {}
    for mode in ("plain", "token"):
        units = units_of(mode, stage, "tokens", 20_000)
        spent[mode] = sum(len(row.ids) for unit in units for row in unit)
        seen[mode] = {question for unit in questions(units) for question in unit}
    assert all(20_000 <= tokens < 20_000 + 4 * stage.max_length for tokens in spent.values())
    assert seen["plain"] < seen["token"]


def test_the_seed_alone_decides_the_order():
    def order(seed):
        rows = draw(50, row_by_row(lambda i: row(i + 1)), (seed, 0), Counter(), "here")
        return [r.length for r in itertools.islice(rows, 100)]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)[:50]) == sorted(order(1)[50:]) == list(range(1, 51))
    assert order(1)[:50] != order(1)[50:]


@given(st.lists(st.sampled_from(["kept", "no", "never"]), min_size=1, max_size=30), st.integers(0, 3))
def test_kept_and_dropped_rows_add_up_to_those_read(fates, seed):
    tally = Counter()
    rows = draw(
        len(fates),
        row_by_row(lambda i: row(i + 1) if fates[i] == "kept" else fates[i]),
        (seed, 0),
        tally,
        "here",
    )
    if "kept" not in fates:
        with pytest.raises(UserError, match="here: no row can be trained on"):
            next(rows)
    else:
        list(itertools.islice(rows, 3 * len(fates)))
    assert tally.pop("read") == len(fates) and tally == Counter(fates)


def test_rows_that_do_not_fit_are_counted_and_the_others_whole(spec):
    tally = Counter()
    stage = spec(max_length=60)
    units = units_of("token", stage, amount=8, tally=tally)
    assert tally["longer than 60 tokens"] > 0
    assert tally["read"] == tally["kept"] + tally["longer than 60 tokens"]
    assert all(row.length <= 60 and row.ids[-1] == row.labels[-1] == ENCODERS["token"].eos for [row] in units)


def test_rows_that_cannot_be_used_are_read_and_dropped(spec, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    good = [{"question": f"What is 6 * {i}?", "answer": f"#### {6 * i}"} for i in range(600)]
    odd = [
        {"question": 5, "answer": "#### 5"},
        {"question": "A?", "answer": None},
        {"question": "", "answer": "1"},
    ]
    odd.append({"question": "B?", "answer": "5", "steps": [5]})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, odd + good)))
    stage, tally = spec(task="gsm8k", data="a.jsonl"), Counter()
    units = train.units_of(train.parts(stage)[0], stage, (0, 0), ENCODERS["plain"], tally)
    list(itertools.islice(units, 200))
    reasons = {"'question' is a number, not text", "'answer' is null, not text", "'question' is empty"}
    assert all(tally[reason] == 1 for reason in reasons)
    assert tally["read"] == tally.total() - tally["read"]  # kept + dropped


@pytest.mark.parametrize("mode", MODES)
def test_no_spelling_of_generated_rows_is_longer_than_the_plain_one(mode):
    plain = ENCODERS["plain"]
    for problem in [*word_problems("train", 300, 0), *drills(300, 0)]:
        made = make_row(conversation(problem["question"], problem["answer"]), ENCODERS[mode], [plain], 1024)
        assert len(made.ids) <= made.length


def test_a_spelling_that_outgrows_the_plain_one_is_an_error_and_not_a_dropped_row():
    messages = conversation("Why?", "6 * 9 = 54")
    short = Encoder(Condition("short", "value", "multiplication", 4096))
    with pytest.raises(UserError, match="baseline: a row has .* raise max_length"):
        make_row(
            messages,
            Encoder(Condition("baseline", "plain", "multiplication", 4096)),
            [short],
            len(make_row(messages, short, [short], 99).ids),
        )


def test_a_row_has_to_fit_in_every_way_to_split_numbers_that_the_experiment_has():
    """So that the conditions train on the same rows, though digits take more tokens."""
    numbers = ("bpe", "digits", "right")
    encoders = [Encoder(Condition(n, "plain", "multiplication", 4096, numbers=n, group=3)) for n in numbers]
    messages = conversation("What is 1234567 * 1?", "1234567")
    longest = max(len(make_row(messages, e, [e], 99).ids) for e in encoders)
    rows = [make_row(messages, e, encoders, longest) for e in encoders]
    assert {row.length for row in rows} == {longest}
    assert {make_row(messages, e, encoders, longest - 1) for e in encoders} == {
        f"longer than {longest - 1} tokens"
    }


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_packed_rows_fit_and_stay_in_order(lengths):
    endless = itertools.chain(map(row, lengths), [row(50), row(50)])
    units = list(pack(endless, 50))
    packed = [r.length for unit in units for r in unit]
    assert packed == [*lengths, 50][: len(packed)] and len(packed) >= len(lengths)
    assert all(0 < sum(r.length for r in unit) <= 50 for unit in units)


@given(st.integers(1, 8), st.integers(1, 100), st.randoms(use_true_random=False))
def test_grouping_loses_nothing_and_pads_less(batch, steps, random):
    units = [[row(random.randint(1, 200))] for _ in range(batch * steps)]
    ordered = group(units, batch, (0, 0))

    def padded(these):
        return sum(max(u[0].length for u in these[i : i + batch]) for i in range(0, len(these), batch))

    assert Counter(map(id, ordered)) == Counter(map(id, units))
    assert padded(ordered) <= padded(units)


def test_many_rows_are_converted_by_all_cores_to_the_same(monkeypatch):
    def lengths():
        tally = Counter()
        rows = draw(40, row_by_row(lambda i: row(i) if i % 3 else "a third"), (0, 0), tally, "here")
        return [r.length for r in itertools.islice(rows, 30)], tally

    alone = lengths()
    monkeypatch.setattr(batches, "ALONE", 10)
    monkeypatch.setattr(batches, "CHUNK", 4)
    monkeypatch.setattr(batches, "BLOCK", 4)
    assert lengths() == alone


def test_a_budget_of_flops_counts_those_of_the_rows(spec):
    units = units_of("token", spec(), "flops", 1e9)
    spent = [
        sum(SHAPE.flops(row) for unit in units[i : i + 8] for row in unit) for i in range(0, len(units), 8)
    ]
    assert sum(spent) >= 1e9 > sum(spent) - max(spent)
