import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.grading import answers
from rl.rewards import SETS, Completion, final, loops, read, terms, total
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

ENCODERS = {mode: Encoder(Condition(mode, mode, "multiplication", 1024, share=0.5)) for mode in MODES}
INVERTIBLE = [mode for mode in MODES if ENCODERS[mode].condition.invertible]
QUESTION = "User: A box holds 6 rows of 9 eggs. How many eggs are in 2 boxes?\nAssistant:"
SOLUTION = "A box holds 6*9=<<6*9=54>>54 eggs.\nTwo hold 2 * 54 = 108 eggs, since 9 × 12 = 108.\n#### {}"
ENDS = list(itertools.product(["54", "108", "100", "6"], [True, False]))  # the final number; is EOS written?
FACTS = "\n".join(f"{a} * {b} = {a * b}" for a in range(1, 10) for b in range(a, 10))


def reward(text: str, gold: str = "54", ended: bool = True, name: str = "fair", **words) -> float:
    return total(terms(name, **words), Completion(text, ended, gold, facts=text.count("6 * 9 = 54")))


def written(mode: str, answer: str, gold: str, ended: bool = True) -> Completion:
    """An answer as a condition writes it, read back from its ids."""
    encoder = ENCODERS[mode]
    ids = encoder.encode_facts(f" {answer}") + [encoder.eos] * ended
    if mode != "mixed":  # which may draw none
        assert (encoder.count_facts(ids) > 0) == bool(encoder.fact_ids)
    return read(encoder, ids, gold)


# --- fair: the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, ended, expected",
    [
        (" 6 * 9 = 54\n#### 54", True, 1.0),
        (" #### 54", True, 1.0),
        (" 6 * 9 = 54\n#### 54", False, 0.9),  # right, but not ended
        (" 6 * 9 = 54\n#### 55", True, 0.2),  # wrong by 2%
        (" 6 * 9 = 54\n#### 59.4", True, 0.2),  # by 10%
        (" 6 * 9 = 54\n#### 60", True, 0.0),  # by more
        (" 6 * 9 = 54\n#### -54", True, 0.0),
        (" 6 * 9 = 54\n#### 1,054", True, 0.0),
        (" the answer is 54", True, -0.1),  # no final line
        (" #### 54 eggs", True, -0.1),  # a final line, but not a well-formed one
        (" #### $54", True, -0.1),
        (" #### 5,4", True, -0.1),
        (" so #### 54", True, -0.1),
        (" #### 54\nUser: and now?", True, -0.1),  # goes on behind it
        (" #### 54\n#### 54", True, -0.1),  # twice
        (" ## 54", True, -0.1),
        (" ##### 54", True, -0.3),  # five signs are a loop too
        (" 6 * 9 = 54." * 5 + "\n#### 54", True, 0.8),  # right after a loop
    ],
)
def test_values_are_those_of_the_table(text, ended, expected):
    assert reward(text, ended=ended) == pytest.approx(expected)


def test_the_answer_may_be_negative_a_decimal_or_grouped():
    for gold, line in (("-5", "-5"), ("0.5", "0.50"), ("1234567", "1,234,567"), ("1/3", "2/6"), ("0", "0")):
        assert reward(f"#### {line}", gold) == pytest.approx(1.0)
    assert reward("#### 1", gold="0") == pytest.approx(0.0)  # nothing is within 10% of 0


@pytest.mark.parametrize(
    "text, looped",
    [
        ("9 * 9 = 81\n" * 4, False),  # 99 * 99 says so rightly
        ("9 * 9 = 81\n" * 5, True),
        ("= " * 5, True),
        ("=====", True),
        ("54 " * 5, True),
        ("10 + 10 + 10 + 10 + 10 = 50", False),
        ("1 * 2 = 2\n1 * 3 = 3\n" * 5, True),
        ("a b c d e a b c d f " * 4, False),
        ("1,000,000,000 and 1111111", False),
        ("", False),
    ],
)
def test_a_loop_is_five_repeats_in_succession(text, looped):
    assert loops(text) is looped


# --- fair: one rule for every condition ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("end, ended", ENDS)
def test_conditions_with_an_inverse_earn_the_same_for_the_same_answer(name, end, ended):
    chosen = terms(name, fact_bonus=0.1)
    read_back = [written(mode, SOLUTION.format(end), "108", ended) for mode in INVERTIBLE]
    earned = [{term: f(c) for term, f in chosen.items()} for c in read_back]
    assert earned[0] == earned[1] == earned[2]
    assert len({c.text for c in read_back}) == 1 and read_back[0].facts > 0


@pytest.mark.parametrize("end, ended", ENDS)
def test_the_answers_end_earns_the_same_in_every_condition(end, ended):
    earned = [total(terms("fair"), written(mode, SOLUTION.format(end), "108", ended)) for mode in MODES]
    assert len(set(earned)) == 1


def test_an_answer_is_read_from_ids_as_it_was_written():
    completion = written("token", "6 * 9 = 54\n#### 54", "54", ended=False)
    assert completion == Completion(" 6 * 9 = 54\n#### 54", False, "54", 1)
    assert written("token", "6 * 9 = 54\n#### 54", "54").ended


def test_pads_do_not_end_a_completion():
    encoder = ENCODERS["plain"]
    assert not read(encoder, encoder.encode(" #### 54") + [encoder.pad], "54").ended


# --- fair: what must not pay --------------------------------------------------------------------------------

ATTACKS = {
    "nothing": "",
    "spaces": " \n ",
    "every number": " ".join(map(str, range(200))),
    "every number on a final line": "#### " + " ".join(map(str, range(200))),
    "every number, with commas": "#### " + ", ".join(map(str, range(200))),
    "every number, without spaces": "#### " + ";".join(map(str, range(50, 60))),
    "an answer for every number": "\n".join(f"#### {n}" for n in range(200)),
    "an answer for every number, the right one last": "\n".join(f"#### {n}" for n in range(55)),
    "two answers": "#### 53\n#### 54",
    "many ####": "####" * 30 + " 54",
    "hashes with the answer between": "#### 54 ####",
    "the same fact": "6 * 9 = 54\n" * 30,
    "the same fact on one line": "6 * 9 = 54 " * 30,
    "every fact": FACTS,
    "every fact, and a guess": FACTS + "\n#### 1",
    "equals signs": "=" * 100,
    "spaced equals signs": "= " * 100,
    "equations without end": "54 = 54 = 54 = 54 = 54 = 54 = 54",
    "an equation in the final line": "#### 1=2=54",
    "the prompt": QUESTION,
    "the prompt, and its numbers": QUESTION + " 6 9 2 54 108",
    "a constant": "#### 6",
    "zero": "#### 0",
    "a huge number": "#### " + "9" * 200,
    "no number": "#### NaN",
    "infinity": "#### inf",
    "an expression": "#### 6 * 9",
    "a format string": "#### {gold}",
    "other digits": "#### ５４",
    "control characters": "\x00\x1b[0m#### 54",
    "a literal token": "<MUL_6_9_54>" * 20,
    "another turn": "#### 6\nUser: What is 6 * 9?\nAssistant: #### 54",
    "a comparison": "#### 54 or 55",
    "a range": "#### 1-100",
}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_earns_anything(attack, ended):
    assert reward(ATTACKS[attack], ended=ended, fact_bonus=0.5) <= 0


integers, decimals = st.integers(-500, 500).map(str), st.decimals(-50, 50, places=2).map(str)
numerals = integers | decimals | st.sampled_from(["1/3", "1,234"])
parts = st.sampled_from(["6 * 9 = 54", "####", "#### ", "\n", " ", "=", "54", "6 * 9 = 55 ", "so ", "$", ","])
texts = st.lists(parts | numerals | st.text(max_size=5), max_size=30).map("".join)
completions = st.builds(
    Completion,
    texts | st.builds("{}\n#### {}".format, texts, numerals),
    st.booleans(),
    st.integers(-60, 60).map(str),
    st.integers(0, 9),
)


@given(completions, completions, st.floats(0, 2))
def test_nothing_wrong_earns_as_much_as_anything_right(one, other, bonus):
    chosen = terms("fair", bonus)
    right = one._replace(text=one.text.replace("#", "") + f"\n#### {one.gold}")
    assert chosen["correct"](right) == 1
    if not chosen["correct"](other):
        assert total(chosen, other) <= 0.2 < 0.7 - 1e-9 <= total(chosen, right)


@given(completions)
def test_only_a_final_number_that_is_right_or_nearly_earns_more_than_nothing(completion):
    if total(terms("fair", 1.0), completion) > 0:
        number = answers.value(final(completion.text))
        gold = answers.value(completion.gold)
        assert abs(number - gold) <= abs(gold) / 10


@given(completions)
def test_what_fair_calls_correct_the_evaluation_does_too(completion):
    if terms("fair")["correct"](completion):
        assert answers.same(answers.answer(completion.text), completion.gold)


@given(completions, texts)
def test_terms_but_repetition_read_the_end_alone(completion, working):
    """So no way of writing facts before it can earn or cost anything but a loop."""
    chosen = {name: f for name, f in terms("fair").items() if name != "repetition"}
    ending = completion._replace(text=f"\n#### {completion.gold}")
    longer = ending._replace(text=working.replace("#", "") + ending.text)
    assert {f: chosen[f](ending) for f in chosen} == {f: chosen[f](longer) for f in chosen}


# --- the others ---------------------------------------------------------------------------------------------


def test_a_fact_bonus_is_for_a_fact_in_a_right_answer():
    right, bare, wrong = "6 * 9 = 54\n#### 54", "it is 54\n#### 54", "6 * 9 = 54\n#### 6"
    assert reward(right, fact_bonus=0.3) == pytest.approx(1.3)
    assert reward(bare, fact_bonus=0.3) == pytest.approx(1.0)
    assert reward(wrong, fact_bonus=0.3) == reward(wrong)
    assert "fact_bonus" not in terms("fair", 0.0)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("6 * 9 = 54\n#### 54", 1.0),
        ("#### 54 eggs", 1.0),  # as the evaluation reads it
        ("6 * 9 = 54\n#### 55", 0.3 + 0.1 + 0.2 + 0.1),  # close, steps, fact, short
        ("6 * 9 = 55\n#### 10", 0.1 + 0.1),
        ("I do not know", 0.1),
        ("I do not know what to say " * 30, -0.3),  # 180 words, in circles
        ("we buy them " * 4, 0.1 - 0.3),
        ("we buy them we buy them we buy", 0.1),  # nine words are too few to be called a repetition
        ("6 * 9 = 54 " * 30 + "#### 54", 1.0),  # a right answer is not looked at further
    ],
)
def test_published_values(text, expected):
    assert reward(text, name="published") == pytest.approx(expected)


def test_binary_pays_the_right_answer_alone():
    assert reward("#### 54", name="binary") == 1 and reward("x\n#### 54\n", name="binary", ended=False) == 1
    assert reward("#### 55", name="binary") == 0 == reward("", name="binary")


def test_names_are_distinct_for_the_log():
    for name in SETS:
        assert len(terms(name, 0.1)) == len(SETS[name]) + 1
