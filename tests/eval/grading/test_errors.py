import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.grading.errors import classify, equations, evaluate, fact_bearing, is_true, operations
from tokenizer.vocabularies import multiplication, squares

TRUE = [
    "6 * 9 = 54",
    "He has 48/2 = <<48/2=24>>24 clips.",
    "$1,200 + $34.50 = $1,234.50",
    "2 x 3 = 6",
    "(2 + 3) * 4 = 20",
    "10 / 3 = 3.33",
    "2 / 3 = .67",
    "2 / 3 = 0.66",
    "20 / 100 = 20%",
    "50% * 20 = 10",
    "3/4 * 100 = 75%",
    "1 – 3/4 = 1/4".replace("–", "−"),
    "2 * 3 = 6 + 1 = 7",
    "6 + 6 = 4 * 3",
    "- 3 + 4 = 7",
    "5 - 8 = -3",
]
FALSE = [
    "6 * 9 = 56",
    "10 / 3 = 3.4",
    "2 * 3 = 6 + 1 = 8",
    "7 / 2 = 3",
    "5 - 8 = 3",
    "so 4+4=<<4+4=9>>9",
    "1 / 2 = 5",
    "1 / 5 = 20",
]
UNREAD = [
    "5 days * 3 = 15",
    "2 + 5 days * 3 = 17",
    "1 1/2 * 2 = 3",
    "x + 3 = 7",
    "2x + 3 = 7",
    "2 ** 3 = 8",
    "x + 3 + 4 = 9",
    "(1/2) 278 + 11 = 150",
    "5 - 1 - 1/2 = 3 1/2",
    "6 = 6",
    "1 / 0 = 7",
    "12–8 - 1 = 3",
    "10:30 + 5 = 35",
    "1" + " + 1" * 300 + " = 301",
]


@pytest.mark.parametrize("text", TRUE)
def test_true_equations(text):
    found = equations(text)
    assert found and all(map(is_true, found))


@pytest.mark.parametrize("text", FALSE)
def test_false_equations(text):
    assert not all(map(is_true, equations(text)))


@pytest.mark.parametrize("text", UNREAD)
def test_what_cannot_be_read_is_no_equation(text):
    assert equations(text) == []


def test_equal_equations_count_once():
    assert len(equations("6 * 9 = <<6*9=54>>54 and again 6*9=54, but 9*6=54")) == 2


def test_classes():
    slip, plan = equations("6 * 9 = 56\n#### 56"), equations("6 + 9 = 15\n#### 15")
    assert classify(slip, "56", False) == "slip"
    assert classify(plan, "15", False) == "plan"
    assert classify(slip, None, False) == "no answer"
    assert classify(slip, "54", True) == "correct"
    assert classify([], "54", False) == "plan"


def test_gsm8k_golds_are_true(shared_data):
    solutions = pq.read_table(shared_data / "gsm8k/test.parquet")["answer"].to_pylist()
    found = [equation for solution in solutions for equation in equations(solution)]
    false = [equation.left for equation in found if not is_true(equation)]
    assert len(found) > 4500 and false == ["364/4", "32-20"]  # the two slips of the authors


def test_operations_are_those_inside_expressions():
    assert sorted(operations("5 * 4 * 2 = 40")) == [(5, "*", 4), (20, "*", 2)]
    assert operations("2.5 * 4 = 10") == []


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("6 * 9 = 54", (True, True)),
        ("3*$2=$<<3*2=6>>6", (True, True)),
        ("5 * 4 * 2 = 40", (False, True)),  # the vocabulary's lexer takes no part of a longer product
        ("47 * 6 = 282", (False, True)),
        ("10 + 4 = 14", (False, False)),
        ("54 / 6 = 9", (False, False)),
    ],
)
def test_fact_bearing_asks_the_vocabulary(solution, expected):
    assert fact_bearing(multiplication, solution) == expected


def test_fact_bearing_with_another_vocabulary():
    assert fact_bearing(squares, "12 * 12 = 144") == (True, True)
    assert fact_bearing(squares, "6 * 9 = 54") == (False, True)
    assert fact_bearing(squares, "6 + 9 = 15") == (False, False)


@given(st.text(alphabet="0123456789+-*/=.,%$()<>x ×−\n", max_size=80))
def test_no_text_breaks_the_reader(text):
    for equation in equations(text):
        assert is_true(equation) in (True, False)
        assert evaluate(equation.left) is not None
    operations(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from("+-*"))
def test_every_true_equation_is_true_and_its_neighbour_false(a, b, sign):
    value = evaluate(f"{a}{sign}{b}")
    assert [is_true(e) for e in equations(f"So {a} {sign} {b} = {value}.")] == [True]
    assert [is_true(e) for e in equations(f"So {a} {sign} {b} = {value + 1}.")] == [False]
