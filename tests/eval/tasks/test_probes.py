import pytest

from eval.tasks import probes
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder


def test_kinds_and_counts():
    kinds = probes.probes(Condition("c", "plain", "multiplication", 4096))
    assert {kind: len(set(pairs)) for kind, pairs in kinds.items()} == {
        "table": 81,
        "two_digit": 100,
        "addition": 100,
    }


def test_every_value_is_right():
    for vocabulary in ("multiplication", "squares"):
        for pairs in probes.probes(Condition("c", "plain", vocabulary, 4096)).values():
            for expression, value in pairs:
                a, sign, b = expression.split()
                assert value == str(int(a) * int(b) if sign == "*" else int(a) + int(b))


def test_additions_spread():
    firsts, seconds = zip(*(map(int, expression.split(" + ")) for expression, _ in probes.additions()))
    for numbers in (firsts, seconds):
        assert len({n // 10 for n in numbers}) == 10


REPLIES = {
    "54": True,
    " 6 * 9 = 54": True,
    "\n6 * 9 = 54": True,
    "\n\n6 * 9 = 54": True,
    "The answer is 54.": True,
    "6 * 9 = 54\n#### 54": True,
    "54\n\nWhat is 3 + 4?\n3 + 4 = 7": True,
    "54\nUser: What is 3 + 4?": True,
    "6 * 9 = 54, or 56": False,
    "6 * 9 = 540": False,
    "6 * 9 =": False,
    "54.5": False,
    "many": False,
    "": False,
}


@pytest.mark.parametrize("reply", REPLIES)
def test_reading(reply):
    assert probes.grade(reply, "54")["correct"] == REPLIES[reply]


@pytest.mark.parametrize("mode", MODES)
def test_every_condition_is_read_alike(mode):
    encoder = Encoder(Condition("c", mode, "multiplication", 4096, share=0.5))
    for text in ("6 * 9 = 54", "6 * 9 = 54\n#### 54", "6 * 7 = 42\n40 + 12 = 54"):
        assert probes.grade(encoder.render([*encoder.encode_facts(f" {text}"), encoder.eos]), "54")["correct"]
