import pytest

from eval.grading import patching
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder


def encoder(mode):
    return Encoder(Condition("c", mode, "multiplication", 4096))


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("\n#### 54", "54", "20"),  # the fact is the answer
        (" eggs.\n54 + 6 = 60\n#### 60", "60", "26"),
        (".\n54 / 2 = 27\n27 + 1 = 28\n#### 28", "28", "11"),
        (".\n3 + 4 = 7\n#### 7", "7", "7"),  # the fact does not bear on it
        (".\n54 / 8 = 6.75\n#### 6.75", "6.75", None),  # 2.5: no natural number
        (".\n54 - 50 = 4\n#### 4", "4", None),  # negative
        (".\n60 / (54 - 34) = 3\n#### 3", "3", None),  # nothing to divide by
    ],
)
def test_recompute(text, answer, expected):
    assert patching.recompute(text, "54", "20", answer) == expected


@pytest.mark.parametrize("mode", ["token", "echo"])
def test_a_case_ends_with_another_fact_token(mode):
    coder = encoder(mode)
    reply = [*coder.encode_facts(" So 6 * 9 = 54 eggs.\n54 + 6 = 60\n#### 60"), coder.eos]
    case = patching.case(coder, reply, "60")
    at = next(i for i, token in enumerate(reply) if token in coder.fact_ids)
    assert case.head[:-1] == reply[:at] and case.head[-1] in coder.fact_ids and case.head[-1] != reply[at]
    value = coder.condition.facts.spell(case.head[-1] - coder.condition.first_fact)[1]
    assert value != "54" and case.expected == str(int(value) + 6) and case.old == "60"


def test_every_fact_has_another_of_another_value():
    coder = encoder("token")
    for token in coder.fact_ids:
        reply = [token, *coder.encode("\n#### "), coder.eos]
        value = coder.condition.facts.spell(token - coder.condition.first_fact)[1]
        case = patching.case(coder, reply, value)
        assert case is not None and case.expected != value


def test_the_other_fact_has_another_value(monkeypatch):
    """2 * 6 and 3 * 4 are both 12: one in the place of the other would tell nothing."""
    coder = encoder("token")
    first, second = (coder.encode_facts(text)[0] for text in ("2 * 6 = 12", "3 * 4 = 12"))
    monkeypatch.setattr(patching, "SHIFT", second - first)
    case = patching.case(coder, [first, *coder.encode("\n#### 12")], "12")
    assert case.head[-1] != second and case.expected != "12"


def test_no_case_where_the_new_answer_is_no_natural_number():
    coder = encoder("token")
    assert patching.case(coder, coder.encode_facts(" 9 * 9 = 81\n81 - 80 = 1\n#### 1"), "1") is None


@pytest.mark.parametrize("mode", ["plain", "placebo", "value"])
def test_no_case_where_no_fact_token_can_be_replaced(mode):
    coder = encoder(mode)
    assert patching.case(coder, [*coder.encode_facts(" 6 * 9 = 54\n#### 54"), coder.eos], "54") is None


def test_no_case_without_an_answer_or_without_a_change():
    coder = encoder("token")
    reply = coder.encode_facts(" 6 * 9 = 54\n3 + 4 = 7\n#### 7")
    assert patching.case(coder, reply, None) is None
    assert patching.case(coder, reply, "7") is None


def test_outcomes():
    case = patching.Case([], "60", "26")
    answers = {"26": "follows", "26.0": "follows", "60": "stays", "61": "other", None: "other"}
    assert {answer: patching.outcome(case, answer) for answer in answers} == answers
