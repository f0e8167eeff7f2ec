import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer import lexer
from tokenizer.vocabularies import multiplication, squares, sums

FOUND = [
    "6*9=54", "6 * 9 = 54 eggs", "<<6*9=54>>54", "9 x 6 = 54", r"$6 \times 9 = 54$", r"\(6\times9=54\)", "6·9=54.",
    "total = 6 × 9 = 54, and", "(6*9=54)", "- 6 * 9 = 54", "* 6 * 9 = 54", "first\n  - 6 * 9 = 54", "6*9=54 = 54",
    "so—6 * 9 = 54", "6*9=54! Wow", "1. 6 * 9 = 54", "10\n6*9=54", "Step 1: 6*9=54", "6\u00a0×\u00a09\u00a0=\u00a054", "6*9=54\n- 3",
    "2 * 3 = 6 * 9 = 54", "6 * 9 = 54: then", "6*9=54?", '"6*9=54"',
]  # fmt: skip
NOT_FOUND = [
    "106*9=54", "106*9", "6*9.5=57", "1.6*9=14.4", "2**3*4", "2**6*9=54", "6*9=540", "6*9=55", "2x4 lumber", "4X4 truck",
    "1*2*5=10", "25/5*3=15", "6*9=54*2", "3*$2=$6", "6*9=54.5", "6*9=54,000", "6*9=54%", "6*9=54 - 3", "6*9=54kg",
    "x6*9=54", "_6*9=54", "6x9=54", "6 X 9 = 54", "6*9==54", "-6*9=54", "1 x 2 x 5 = 10", r"1 \times 2 \times 5 = 10",
    "06*9=54", "6*9=054", "6*9=54²", "6*9=54^2", "5 +\n6*9=54", "1,6*9=54", "<MUL_6_9_54>", "6*9", "6\n*9=54",
    "6*9=54 x 2", "0.6*9=54", ".6*9=54", "6**9=54", "6*9 = 54/2", "3:6*9=54", "2 6*9=54", "6*9=54 000", "6*9=54-year-old",
    "6 kg * 9 = 54", "6*9=-54", "5 – 6*9=54", "5 − 6 * 9 = 54", "6*(9)=54", "(6*9)=54", "٦*9=54", "6*9=5٤",
]  # fmt: skip


@pytest.mark.parametrize("text", FOUND)
def test_a_true_fact_that_stands_alone_is_found_once(text):
    spans = multiplication.find(text)
    assert [multiplication.FACTS[index] for _, _, index in spans][-1] == "<MUL_6_9_54>"
    start, end, _ = spans[-1]
    assert sorted(re.findall(r"\d+", text[start:end])) == ["54", "6", "9"]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_is_no_fact_stays_as_it_is(text):
    assert multiplication.find(text) == []


def test_weak_also_takes_a_bare_product_but_never_a_false_equation():
    assert multiplication.find("6*9 eggs, 6*9=<<6*9=54>>54", weak=True) == [
        (0, 3, 38),
        (10, 13, 38),
        (16, 22, 38),
    ]
    for text in ("6*9=55", "6*9 = 540", "6*9=54.5", "106*9", "2x4 lumber", "6*9*2"):
        assert multiplication.find(text, weak=True) == [], text


OPERATIONS = {"*": lambda a, b: a * b, "+": lambda a, b: a + b, "-": lambda a, b: a - b}


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("*+-")), min_size=1, max_size=3),
    st.integers(1, 12),
    st.data(),
)
def test_only_a_whole_true_product_is_a_fact_of_a_sum(head, last, data):
    """Inside a longer expression nothing is found; a lone product is found exactly if it is true and in the table."""
    space = data.draw(st.sampled_from(["", " "]))
    expression = "".join(f"{n}{space}{op}{space}" for n, op in head) + str(last)
    value = eval(expression) + data.draw(st.sampled_from([0, 0, 0, 1, -1]))
    text = f"so {expression}{space}={space}{value} in all"
    a, op = head[0]
    is_fact = len(head) == 1 and op == "*" and 1 <= a <= 9 and 1 <= last <= 9 and a * last == value
    assert len(multiplication.find(text)) == is_fact, text


@pytest.mark.parametrize(
    "text",
    [
        "6+9=15",
        "9 + 6 = 15 eggs",
        "- 6 + 9 = 15",
        "<<6+9=15>>15",
        "2 + 13 = 6 + 9 = 15",
        "6+9=15.",
        "(6 + 9 = 15)",
    ],
)
def test_a_true_sum_that_stands_alone_is_found(text):
    assert [sums.FACTS[index] for _, _, index in sums.find(text)] == ["<ADD_6_9_15>"]


@pytest.mark.parametrize(
    "text",
    ["6+9=14", "16+9=15", "6+9=150", "6+9=15.5", "2*6+9=15", "6+9=15*2", "1+6+9=15", "6+9=15+1", "5-6+9=15",
     "6+9", "06+9=15", "$6+$9=$15", "6 kg + 9 = 15", "6+9=15%", "-6+9=15", "6 * 9 = 15", "6++9=15"],
)  # fmt: skip
def test_what_is_no_sum_stays_as_it_is(text):
    assert sums.find(text) == []


def test_weak_also_takes_a_bare_sum_but_never_a_false_one():
    assert sums.find("6 + 9 eggs, 6+9=14", weak=True) == [(0, 5, sums.FACTS.index("<ADD_6_9_15>"))]


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_worked_sums_are_true_and_end_in_the_sum(a, b):
    lines = sums.work(a, "+", b) or []
    assert all(eval(left) == int(right) for left, right in (line.split(" = ") for line in lines))
    if lines:
        last = int(lines[-1].split(" = ")[1])
        assert last * 10 ** (len(str(a + b)) - len(str(last))) == a + b
    assert sums.work(a, "*", b) is None


PARTS = st.sampled_from(
    [
        "6",
        "9",
        "54",
        "10",
        " ",
        "\u00a0",
        "\t",
        "\n",
        "=",
        "*",
        "×",
        " x ",
        r"\times ",
        ",",
        "-",
        "a",
        "6*9=54",
        "\n\n",
    ]
)


@given(st.lists(PARTS, max_size=30).map("".join))
def test_looking_at_lines_alone_finds_what_looking_everywhere_finds(text):
    for op in lexer.OPERATORS:
        lines = list(lexer.equations(text, op))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lexer, "_lines", lambda text, sign: [(0, len(text))])
            assert list(lexer.equations(text, op)) == lines


@given(st.integers(2, 9999), st.integers(2, 9999))
def test_worked_steps_are_true_and_end_in_the_product(a, b):
    lines = multiplication.work(a, "*", b)
    if lines is None:
        assert max(a, b) < 10
        return
    for line in lines:
        left, right = line.split(" = ")
        assert eval(left) == int(right)
        if "*" in left:  # every product is one of the facts, spelled canonically
            assert [" = ".join(multiplication.spell(i)) for _, _, i in multiplication.find(line)] == [line]
    last = int(lines[-1].split(" = ")[1])
    assert last * 10 ** (len(str(a * b)) - len(str(last))) == a * b if len(lines) == 1 else last == a * b


@pytest.mark.parametrize("vocabulary", [multiplication, squares, sums])
def test_every_fact_is_found_in_its_own_spelling_and_probes_are_true(vocabulary):
    for index, name in enumerate(vocabulary.FACTS):
        text = " = ".join(vocabulary.spell(index))
        assert vocabulary.find(f"so {text} then") == [(3, 3 + len(text), index)], name
    assert len(set(vocabulary.FACTS)) == len({vocabulary.cell(i) for i in range(len(vocabulary.FACTS))})
    for kind, questions in vocabulary.probes().items():
        assert questions and all(str(eval(e)) == v for e, v in questions), kind


def test_the_multiplication_facts_and_probes_are_the_published_ones():
    assert len(multiplication.FACTS) == 45
    assert multiplication.FACTS[0] == "<MUL_1_1_1>" and multiplication.FACTS[-1] == "<MUL_9_9_81>"
    assert {kind: len(q) for kind, q in multiplication.probes().items()} == {"table": 81, "two_digit": 100}
