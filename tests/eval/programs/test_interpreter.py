"""The interpreter gives what Python gives, or no number; nothing that a program does reaches its caller."""

import ast
import contextlib
import io
import json
import math
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.programs import interpreter
from eval.programs.interpreter import run

ROOT = Path(__file__).resolve().parents[3]


def python(code: str):
    """What CPython makes of a program that we trust: its finite number, else None."""
    names = {"__name__": "program"}
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, "<test>", "exec"), names)
            value = names["simple_math_problem"]()
        finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if finite else None
    except (Exception, SyntaxError):
        return None


def function(body: str) -> str:
    return "def simple_math_problem():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")


BODIES = """
return 7 // 2 + 7 % 4 - -3 ** 2
---
return (0.1 + 0.2) * 3 / 7
---
return -7 // 2 + (-7) % 3 + 7.5 // -2 + -7.5 % 2
---
return 2 ** 100 - 10 ** 30
---
return 2 ** -2 + 4 ** 0.5 + True + (3 & 5) + (3 | 5) + (3 ^ 5) + (1 << 70) + (~7) + (900 >> 2)
---
return abs((-8) ** (1 / 3))
---
return ((-8) ** (1 / 3)).real
---
return 1 / 3 + round(2.675, 2) + round(2.5) + round(3.5) + round(1234, -2) + round(-0.5)
---
return int(7.9) + int(-7.9) + int("12") + float("1.5") + float(" 2 ") + bool(3) + int(True)
---
import math
return math.ceil(7 / 2) + math.floor(-1.5) + math.sqrt(16) + math.pi + math.gcd(12, 18) + math.comb(5, 2)
---
import math as m
from math import factorial as f, e
return m.log(e ** 2) + f(5) + m.lcm(4, 6) + m.perm(5, 2) + m.prod([1, 2, 3]) + m.isqrt(17) + m.hypot(3, 4)
---
a, (b, *c), d = 1, (2, 3, 4), 5
return a + b * 10 + sum(c) * 100 + d * 1000
---
*a, b = [1, 2, 3]
return sum(a) - b
---
a = b = [1, 2]
a += [3]
a.append(4)
return len(b) * 10 + b[-1]
---
a = [1, 2]
b = a
a = a + [3]
return len(b)
---
a = (1,)
b = a
a += (2,)
return len(b) + len(a)
---
d = {"a": 1, "b": 2}
d["c"] = d["a"] + d.get("b", 0) + d.get("z", 10)
d["a"] += 5
for key, value in d.items():
    d[key] = value * 2
return sum(d.values()) + len(d) + ("a" in d) + d.pop("a") + d.setdefault("q", 4)
---
total = 0
for i in range(10):
    if i == 3:
        continue
    if i == 8:
        break
    total += i
else:
    total = -1
return total
---
n = 100
count = 0
while n > 1:
    n = n / 2
    count += 1
else:
    count += 1000
return count
---
total = 0
for i, (a, b) in enumerate(zip([1, 2, 3], (4, 5, 6)), start=1):
    total += i * a * b
return total
---
return sum(i * a for i, a in enumerate([1, 2, 3], 1)) + [i for i, _ in enumerate("ab", True)][0]
---
return enumerate([1], None)
---
a = sorted(["bb", "a", "cc", "d"], key=len, reverse=True)
b = max([3, -5, 5], key=abs) * 10 + min([3, -5, 5], key=lambda v: -abs(v)) + max(2, 7, key=lambda v: -v)
return b * 1000 + len("".join(a)) + (a == ["bb", "cc", "a", "d"])
---
return max([], default=9) + min((), default=3)
---
return max(1, 2, default=9)
---
return any(1 / (3 - i) > 0.4 for i in range(9)) + all(i < 2 for i in range(10 ** 9))
---
a = ("%(a)5d|%(b)-8.2f|%%" % {"a": 3, "b": 2.5}) + ("%5s|%*d" % ("x", 4, 7)) + f"{3:>120}" + "%150.3f" % 2.5
return len(a)
---
import math
return math.perm(5) + math.perm(5, None) + math.perm(5, True) + math.comb(True, 1) + math.factorial(True)
---
import math
return math.comb(5, None)
---
return round(True) + round(True, 2) + round(False, -1) + round(1234, -2) + round(2.5, None) + pow(2, 5, None)
---
return pow(3, True, 7) + pow(3, -1, 7) + pow(True, 3) + True ** 5 + (True << 3) + -True + ~False
---
import math
return math.fsum(x / 2 for x in range(4)) + math.dist((i for i in (0, 0)), [3, 4])
---
a = {1: 2}
a |= ((i, i) for i in range(3))
return len(a) + len(a.keys() | (i for i in range(9))) + len("a,b".split(sep=","))
---
return sum(x * y for x in range(5) for y in range(x) if (x + y) % 2) + len([0 for _ in "abc"])
---
return sum({i % 3: i for i in range(10)}.values()) + len({i % 3 for i in range(10)}) + len({1, 1.0, True, 2})
---
x = 5
y = [x for x in range(3)]
return x + y[-1]
---
n = [n for n in (1, 2)]
return sum(n)
---
if (n := 10) > 5:
    return n
---
total = [t := t2 for t2 in range(4)]
return t
---
f = lambda a, b=2: a * b
return f(3) + f(3, 4) + f(b=5, a=1) + (lambda: 7)()
---
def g(a, b=3):
    def h(c):
        return a + b + c
    return h(10)
return g(1) + g(1, 2) + g(b=5, a=2)
---
def g(n):
    return 1 if n <= 1 else n * g(n - 1)
return g(20)
---
x = 1
def g():
    x = 2
    return x
return g() * 10 + x
---
x = 1
def g():
    return x
x = 5
return g()
---
funcs = [lambda: i for i in range(3)]
return sum(f() for f in funcs)
---
def g():
    total = total + 1
    return total
total = 5
return g()
---
print(later)
later = 5
return later
---
import math
x = math.ceil(2.5)
if x > 100:
    math = None
return x
---
def g(values=[]):
    values.append(1)
    return len(values)
g()
return g()
---
return max(3, 1, 2) + max([4, 5]) + min((7, 6)) + max("abc", "b", key=len) * 0 if False else 5
---
return max([1, 5, 3], key=lambda v: -v) + min({3: 1, 2: 2}) + max([], default=9) + sum([1, 2], 10)
---
a = sorted([3, 1, 2], reverse=True)[0] + sorted(["bb", "a"], key=len)[0].count("a")
return a + sorted({"b": 1, "a": 2})[0].find("a")
---
a = [5, 3, 8]
a.sort()
a.insert(1, 4)
a.remove(8)
a.reverse()
a.extend(range(2))
return a.index(3) * 100 + a.pop() + a.pop(0) * 10 + a.count(1) + len(a[::2]) + a[-1]
---
return sum(list(map(lambda x: x * 2, filter(lambda x: x > 1, [1, 2, 3])))) + sum(map(int, "123"))
---
a = next(i for i in range(10) if i > 4) + next((i for i in []), 7)
return a + any([0, 3]) + all([]) + sum(reversed([1, 2]))
---
return int("".join(str(i) for i in range(3))) + len("a b c".split()) + "abcabc".count("bc") + int("007")
---
a = f"{3.14159:.2f} {5:>8} {'x'!r} {2 + 3 = } {1000000:,}"
return len(a) + len("%.2f and %d" % (1.5, 3)) + len(str([1, "a"]))
---
return float(f"{10 / 3:.2f}") + float("1,234".replace(",", ""))
---
return 5 if 3 < 4 < 5 != 6 and not 0 or 1 / 0 else 6
---
a = (0 or 3) + (2 and 4) + (None is None) + (3 in [1, 2, 3])
return a + (3 not in {3: 1}) + ("b" in "abc") + (2.0 in range(5))
---
return isinstance(3, int) + isinstance(True, (int, float)) + isinstance("a", str) + isinstance(3, float)
---
a = [[1, 2], [3, 4]]
a[0][1] += 10
return sum(sum(row) for row in a) + (a == [[1, 12], [3, 4]]) + ([1, 2] < [1, 3]) + sum(sum([[1], [2]], []))
---
return divmod(17, 5)[0] * 10 + divmod(-17, 5)[1] + pow(2, 10) + pow(3, 4, 5) + abs(-2.5)
---
s = {1, 2, 3}
s.add(4)
s.discard(9)
return len(s & {2, 3}) + len(s | {9}) * 10 + len(s - {1}) * 100 + len(s.intersection([1])) + len(set([1, 1]))
---
a = "{} and {:.2f} and {name:>5}".format(3, 1 / 3, name="x")
return len(a) + (type(3) == int) + (type([]) is list) + (type(2.5) in (int, float)) + (type("") == int)
---
x: int = 5
y: float
return x
---
return 1_000 + 0x1F + 1e3 + .5 + 5.
---
return ...
---
pass
---
return
---
return 1 / 0
---
return [1][5]
---
return {}["a"]
---
return "a" + 1
---
return undefined
---
return int("x")
---
assert 1 + 1 == 2, "no"
assert 1 == 2
return 1
---
raise ValueError("no")
---
a, b = [1, 2, 3]
return a
---
return sum(["a"])
---
return len(5)
---
return math.pi
---
return float("nan")
---
return 1e400
---
return (1, 2)
---
return "5"
---
return 10 ** 400 / 3
---
return 3 > 2
---
return 10.0 ** 400
---
return (lambda x: x)()
---
return max()
---
for i in 5:
    pass
return 1
---
return int(3.7 // 1) + 2 ** 0.5 ** 2 + -2 ** 2 + (-2) ** 2 + 2 ** 3 ** 2
""".split("\n---\n")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.strip().splitlines()[-1][:50])
def test_a_body_gives_what_python_gives(body):
    code = function(body)
    expected, outcome = python(code), run(code)
    assert (outcome.value, type(outcome.value) is float) == (expected, type(expected) is float)
    assert outcome.status in ("ok", "error")


PROGRAMS = {
    "all of math": "from math import *\ndef simple_math_problem():\n    return ceil(2.1) + pi",
    "all of math, in a function": "def simple_math_problem():\n    from math import *\n    return ceil(2.1) + pi",
    "module names": "rate = 3\ndef simple_math_problem():\n    return rate * 2\nrate = 5",
    "a helper first": "def double(x):\n    return 2 * x\ndef simple_math_problem():\n    return double(4)\n",
    "a helper after": "def simple_math_problem():\n    return double(4)\ndef double(x):\n    return 2 * x\n",
    "defined twice": "def simple_math_problem():\n    return 1\ndef simple_math_problem():\n    return 2\n",
    "main guard": "def simple_math_problem():\n    return 1\nif __name__ == '__main__':\n    print(1 / 0)",
    "printed": "def simple_math_problem() -> float:\n    '''\\d'''\n    return 2.5\n\nprint(simple_math_problem())",
    "annotations": "def simple_math_problem(x: int = 3) -> dict[str, int | None]:\n    return x",
    "annotation of nothing": "def simple_math_problem() -> List[int]:\n    return 3",
    "return at module level": "def simple_math_problem():\n    a = 3\nreturn a",
    "error after": "def simple_math_problem():\n    return 3\nassert simple_math_problem() == 4",
    "needs an argument": "def simple_math_problem(x):\n    return x",
    "tabs and semicolons": "def simple_math_problem():\n\tx = 3; y = 4\n\treturn x * y",
    "unicode": "def simple_math_problem():\n    größe = 3\n    return größe",
    "no text": "",
    "prose": "The answer is 3.",
}


@pytest.mark.parametrize("code", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_gives_what_python_gives(code):
    assert run(code).value == python(code)


numbers = st.integers(-20, 200).map(str) | st.decimals(0, 50, places=2).map(lambda d: f"{d}")
expressions = st.recursive(
    numbers | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+ - * / // % ** < and".split()), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        )
        | inner.map(lambda e: f"(-{e})")
        | inner.map(lambda e: f"round({e}, 1)")
        | inner.map(lambda e: f"int({e})")
        | st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})")
        | st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} > 1 else {t[2]})")
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(expressions, expressions, expressions)
def test_arithmetic_gives_what_python_gives(first, second, last):
    code = function(f"a = b = 3\na = {first}\nfor b in range(3):\n    a -= {second}\nreturn {last}")
    outcome = run(code)
    if outcome.status != "limit":  # a huge power; then Python is not asked
        assert outcome.value == python(code)


def only_math(code: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return True
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return imported | {node.module for node in nodes if isinstance(node, ast.ImportFrom)} <= {"math"}


def real_programs(shared_data) -> list[str]:
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(shared_data / "tinygsm_family" / "train.parquet")["code"].to_pylist()


def test_real_programs_give_what_python_gives(shared_data):
    codes = [code for code in real_programs(shared_data) if only_math(code)]
    pairs = [(run(code).value, python(code)) for code in codes]
    assert len(codes) > 3900
    assert not [pair for pair in pairs if pair[0] is not None and pair[0] != pair[1]]
    found = [ours == theirs for ours, theirs in pairs if theirs is not None]
    assert sum(found) / len(found) >= 0.999


@pytest.mark.parametrize(
    "code, outcome",
    {
        "def f():\n    return 2": ("ok", 2),
        "def f():\n    return True": ("ok", 1),
        "def f():\n    return '2'": ("ok", None),
        "x = 2": ("no_function", None),
        "def f(:": ("syntax", None),
        "return 2": ("syntax", None),
        "def f():\n    return 2\nif False:\n    return 3": ("syntax", None),
        "def f():\n    x = 1000\n    return 1 if x is 1000 else 2": ("rejected", None),
        "def f():\n    return 0x" + "f" * 9000: ("limit", None),
        "def f():\n    return open('x')": ("rejected", None),
        "import os\ndef f():\n    return 2": ("rejected", None),
        "def f():\n    return 9**9**9": ("limit", None),
        "def f():\n    return 1 / 0": ("error", None),
        "def first():\n    return 1\ndef last():\n    return 2": ("ok", 2),
        "def simple_math_problem():\n    return 1\ndef last():\n    return 2": ("ok", 1),
    }.items(),
)
def test_statuses(code, outcome):
    assert run(code)[:2] == outcome


@pytest.mark.parametrize(
    "body, status",
    [
        ("return 2 ** 8000 % 7", "ok"),
        ("return 2 ** 8192", "limit"),
        ("return 1 << 8000", "ok"),
        ("n = 1\nfor i in range(50000):\n    n += i\nreturn n", "ok"),
        ("def f(n):\n    return n and f(n - 1)\nreturn f(60)", "ok"),
        ("def f(n):\n    return n and f(n - 1)\nreturn f(99)", "limit"),
        ("import math\nreturn math.factorial(900)", "ok"),
        ("return round(10 ** 1000, -100) * 0", "ok"),
        ("return len([0] * 200000)", "ok"),
        ("return len([0] * 400000)", "limit"),
        ("a = set(range(2000))\nreturn len(a | {-1})", "ok"),
        ("a = set(range(20000))\nreturn len(a | {-1})", "limit"),
        ("t = ()\nfor i in range(15):\n    t = (t,)\nreturn len({t})", "ok"),
        ("t = ()\nfor i in range(30):\n    t = (t,)\nreturn len({t})", "limit"),
        ("for i in range(2000):\n    z = zip([1])\nreturn 1", "ok"),
        ("for i in range(6000):\n    z = zip([1])\nreturn 1", "limit"),
    ],
)
def test_limits_leave_room_for_honest_programs(body, status):
    assert run(function(body)).status == status


def test_trace_reports_operations_operands_and_names():
    code = (
        function("""
        price, count = 12.5, 4
        total = price * count
        total += 3
        each = (total - 1) / 2
        whole = math.ceil(each)
        return whole
    """).replace("def", "import math\ndef", 1)
        + "\nprint(simple_math_problem())"
    )
    outcome = run(code, trace=True)
    assert [tuple(step) for step in outcome.trace] == [
        ("*", (12.5, 4), 50.0, "total"),
        ("+", (50.0, 3), 53.0, "total"),
        ("-", (53.0, 1), 52.0, None),
        ("/", (52.0, 2), 26.0, "each"),
        ("ceil", (26.0,), 26, "whole"),
    ]
    assert outcome.trace[1].operands[0] is outcome.trace[0].value
    assert run(code).trace is None and run("x", trace=True).trace is None


def test_it_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'pydantic', 'transformers', 'datasets'}"
    code = f"import eval.programs.interpreter, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_command_answers_row_by_row(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"code": code}) + "\n" for code in ("def f():\n return 0.5", "x = 1")))
    interpreter.main([str(rows)])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"status": "ok", "value": 0.5},
        {"status": "no_function", "value": None},
    ]


@pytest.mark.parametrize("line", ["{}", '{"code": 3}', "[]", "no", "\udce9", '{"code": ' + "[" * 100_000])
def test_the_command_names_a_row_without_code(tmp_path, line):
    from pipeline.errors import UserError

    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(UserError, match=r"rows\.jsonl:1"):
        interpreter.main([str(rows)])
    with pytest.raises(UserError, match=r"none\.jsonl"):
        interpreter.main([str(tmp_path / "none.jsonl")])
