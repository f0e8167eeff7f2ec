"""A trace says what the program computed, in true equations, and ends in what it returned."""

import math
import re
import textwrap
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.grading import answers
from eval.programs.interpreter import run
from sft.trace import Trace, convert, steps
from tokenizer.vocabularies import multiplication, squares


def program(body: str) -> str:
    body = textwrap.dedent(body).strip("\n")
    return "import math\ndef simple_math_problem():\n" + textwrap.indent(body, "    ")


def trace(body: str) -> Trace | str:
    return steps(program(body), multiplication.work)


OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}
NUMBER = r"\(?-?\d+(?:\.\d+)?(?:/\d+)?\)?"
EQUATION = re.compile(rf"(?:^|= |\d\. )({NUMBER}) (\*\*|//|[-+*/%]) ({NUMBER}) = ({NUMBER})$")


def check(text: str, value: float) -> None:
    """Every line is a true equation, a function's value or the head of a working; then comes the value."""
    *lines, last = text.split("\n")
    number = 0
    for line in lines:
        numbered = re.match(r"(\d+)\. ", line)
        number += bool(numbered)
        assert not numbered or int(numbered[1]) == number
        found = EQUATION.search(line)
        if found:
            a, op, b, c = found.groups()
            a, b, c = (Fraction(n.strip("()")) for n in (a, b, c))
            assert OPERATIONS[op](a, b) == c, line
            if op == "*":
                assert a <= b, f"the smaller factor comes first: {line}"
        else:
            assert re.search(rf"(?:^|= |\. )(?:\w+\(.*\) = {NUMBER}|{NUMBER} \* {NUMBER})$", line), line
    assert last.startswith("#### ") and answers.answer(text) is not None
    assert math.isclose(Fraction(last[5:]), value, rel_tol=1e-9, abs_tol=1e-9)


def test_a_trace_reads_like_this():
    found = trace("""
        trays, cakes_per_tray = 9, 6
        totalCakes = trays * cakes_per_tray
        cookies = totalCakes * 12
        boxes_needed = math.ceil(cookies / 5)
        price = boxes_needed * 0.25
        return price - 2.5
    """)
    assert found.text == textwrap.dedent("""\
        1. total cakes = 6 * 9 = 54
        2. cookies = 12 * 54
        2 * 4 = 8
        2 * 5 = 10
        1 * 4 = 4
        1 * 5 = 5
        500 + 40 = 540
        540 + 100 = 640
        640 + 8 = 648
        12 * 54 = 648
        3. 648 / 5 = 129.6
        4. boxes needed = ceil(129.6) = 130
        5. price = 0.25 * 130
        3 * 5 = 15
        1 * 5 = 5
        2 * 3 = 6
        1 * 2 = 2
        2000 + 600 = 2600
        2600 + 500 = 3100
        3100 + 150 = 3250
        0.25 * 130 = 32.5
        6. 32.5 - 2.5 = 30
        #### 30""")
    assert (found.answer, found.value) == ("30", 30.0)
    check(found.text, found.value)


@pytest.mark.parametrize(
    "body, lines",
    {
        "share = 2 / 3\nreturn share * 36": ["1. share = 2 / 3 = 2/3", "2. (2/3) * 36 = 24", "#### 24"],
        "a = 5 - 8\nreturn 4 - a": ["1. a = 5 - 8 = -3", "2. 4 - (-3) = 7", "#### 7"],
        "return sum([1, 2, 3.5])": ["1. 1 + 2 = 3", "2. 3 + 3.5 = 6.5", "#### 6.5"],
        "total = sum(x for x in (1, 2))\nreturn total": ["1. total = 1 + 2 = 3", "#### 3"],
        "x = 0\nfor i in range(3):\n    x += 4\nreturn x": [
            "1. x = 0 + 4 = 4",
            "2. x = 4 + 4 = 8",
            "3. x = 8 + 4 = 12",
            "#### 12",
        ],
        "half = int(10 / 2)\nreturn half": ["1. half = 10 / 2 = 5", "#### 5"],
        "return round(2.346, 2)": ["1. round(2.346, 2) = 2.35", "#### 2.35"],
        "return max(3, 5) + min([4, 2])": ["1. max(3, 5) = 5", "2. min(4, 2) = 2", "3. 5 + 2 = 7", "#### 7"],
        "return math.sqrt(6.25) + 9 ** 0.5": [
            "1. sqrt(6.25) = 2.5",
            "2. 9 ** 0.5 = 3",
            "3. 2.5 + 3 = 5.5",
            "#### 5.5",
        ],
        "return 0.1 + 0.2": ["1. 0.1 + 0.2 = 0.3", "#### 0.3"],
        "return -(3 + 4)": ["1. 3 + 4 = 7", "#### -7"],
        "return 17 // 5 + 17 % 5": ["1. 17 // 5 = 3", "2. 17 % 5 = 2", "3. 3 + 2 = 5", "#### 5"],
        "return 5": ["#### 5"],
        "return 1e3 * 1_000": ["1. 1000 * 1000", "1 * 1 = 1", "1000 * 1000 = 1000000", "#### 1000000"],
    }.items(),
)
def test_operations_are_written_exactly(body, lines):
    found = trace(body)
    assert found.text.split("\n") == lines
    check(found.text, found.value)


@pytest.mark.parametrize(
    "body, reason",
    {
        "return 1 / 3": "endless decimal",
        "return 2 ** 0.5": "irrational",
        "return math.pi * 2": "long number",
        "return math.log(3)": "nothing exact for log",
        "return 5 & 3": "nothing exact for &",
        "x = 1.0000001\nfor i in range(30):\n    x = x * x\nreturn x": "long number",
        "x = 1e200 * 1e200\nreturn 3": "long number",
        "return abs((-8) ** (1 / 3))": "not a number inside",
        "return 123456.789 * 987654.321": "long number",
        "return (0.1 + 0.2) // 0.3 * (0.1 * 3 - 0.3 == 0) + int(0.29 * 100)": "float rounding",
        "return sum(range(200))": "too many steps",
        "x = 0\nfor i in range(99):\n    x += 2\nreturn x": "too many steps",
        "return '5'": "not a number",
        "return 1 / 0": "error",
        "return open('x')": "rejected",
        "while True: pass": "limit",
    }.items(),
)
def test_what_does_not_convert_says_why(body, reason):
    assert trace(body) == reason


def test_working_comes_from_the_vocabulary_alone():
    code = program("return 12 * 14")
    assert steps(code, lambda a, op, b: None).text == "1. 12 * 14 = 168\n#### 168"
    assert "12 * 12 = 144" in steps(code, squares.work).text
    asked = []
    steps(program("return 30 * 4 + 6 / 2 - 0.5 * 8 + 0.5"), lambda *operation: asked.append(operation))
    assert asked == [(4, "*", 30), (6, "/", 2), (120, "+", 3), (5, "*", 8), (123, "-", 4)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        max_size=6,
        elements=st.tuples(
            st.sampled_from(["+", "-", "*", "/", "//", "%"]),
            st.integers(1, 400) | st.decimals(0, 20, places=2),
        ),
    )
)
def test_every_trace_is_true(operations):
    found = trace("x = 24\n" + "".join(f"x = x {op} {n}\n" for op, n in operations) + "return x")
    if isinstance(found, Trace):
        check(found.text, found.value)


def test_real_programs(shared_data):
    parquet = pytest.importorskip("pyarrow.parquet")
    codes = parquet.read_table(shared_data / "tinygsm_family" / "train.parquet")["code"].to_pylist()
    found = [steps(code, multiplication.work) for code in codes]
    traces = [(code, trace) for code, trace in zip(codes, found) if isinstance(trace, Trace)]
    assert 0.85 <= len(traces) / len(codes) <= 0.92
    assert sum(bool(multiplication.find(trace.text)) for _, trace in traces) > len(traces) / 2
    for code, trace in traces:
        assert trace.value == run(code).value
        check(trace.text, trace.value)
    assert list(convert(codes[:300], multiplication.__name__)) == found[:300]
