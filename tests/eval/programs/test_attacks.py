"""No attack reaches anything, hangs, or takes more than MEGABYTES: each runs in a process of its own.

Here with a part of the fuel. The whole: python -m tests.eval.programs.measure
"""

import itertools
import json
import random
import signal
import subprocess
import sys

import pytest

from eval.programs import library, machine
from eval.programs.interpreter import parse, run
from eval.programs.machine import BITS, Stop
from pipeline.files import ROOT
from tests.eval.programs.attacks import ATTACKS, PRIZE
from tests.eval.programs.measure import MEGABYTES, Measure, measured


@pytest.fixture(autouse=True)
def a_tenth_of_the_fuel(monkeypatch):
    monkeypatch.setattr(machine, "FUEL", machine.FUEL // 10)


EVERY = """
import json, sys
from functools import partial
from eval.programs import machine
from tests.eval.programs.attacks import ATTACKS
from tests.eval.programs.measure import attacked, measured
machine.FUEL //= 10
json.dump({name: measured(partial(attacked, code)) for name, code in ATTACKS.items()}, sys.stdout)
"""


@pytest.fixture(scope="module")
def measures() -> dict[str, Measure]:
    """By attack. The processes are forked from one that has not imported torch, which makes a fork ten times cheaper."""
    made = subprocess.run([sys.executable, "-c", EVERY], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: Measure(*measure) for name, measure in json.loads(made.stdout).items()}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_contained(measures, name):
    measure = measures[name]
    assert measure.answer is not None, "hung or died"
    status, value, unharmed = measure.answer
    assert status in ("ok", "no_function", "syntax", "rejected", "limit", "error")
    assert value != PRIZE and unharmed and measure.megabytes < MEGABYTES


def test_attacks_are_many():
    assert len(ATTACKS) >= 400


@pytest.mark.parametrize("bits", [BITS, BITS + 1])
@pytest.mark.parametrize("spell", [hex, oct, bin])
def test_a_literal_is_bounded_where_it_is_read(bits, spell):
    code = f"def f():\n    return 1 if True else {spell(2**bits - 1)}"
    if bits > BITS:
        with pytest.raises(Stop, match="limit"):
            parse(code)
    assert run(code).status == ("ok" if bits == BITS else "limit")


# --- every name, with everything that a guard could trip over -------------------------------------------------

NASTY = """None|True|-1|10**9|2**8000|-(2**8000)|float("inf")|1e-300|2j|"%(a)99999d"|"9"*2000|"ab"*9000|(i for i in range(10**9))
|[2**8000]*900|[[0.5]*300+[i] for i in range(9)]|twins|range(10**12)|{"a": 2**8000}|set(range(300))|colliding|lambda x=0: 2**8000""".split(
    "|"
)
SELVES = {
    float: ["2.5"],
    list: ["[twins]", "[2**8000]*900"],
    tuple: ["(twins,)", "(0.5,)*900"],
    dict: ["{1: twins}", "dict(zip(colliding, colliding))"],
    set: ["set(colliding)"],
    str: ["'%s{0}'*900", "'ab'*9000"],
}
TRIED = 2_000  # of some 50,000
SWEEP = """
import math
def simple_math_problem():
    twins = [0.5]
    colliding = [i * (2**61 - 1) for i in range(300)]
    for i in range(18):
        twins = [twins, twins]
    return {what}
"""


def expressions() -> list[str]:
    names = [*library.BUILTINS, *(f"math.{name}" for name in library.MATH.names)]
    methods = [
        f"({self}).{name}" for kind in SELVES for self in SELVES[kind] for name in library.METHODS[kind]
    ]
    arguments = ["", *NASTY, *map(", ".join, itertools.product(NASTY, repeat=2))]
    operators = "+ - * / // % ** << >> | & ^ == < in is".split()
    return [
        *(f"{name}({given})" for name in names for given in arguments),
        *(f"{name}({given})" for name in methods for given in ["", *NASTY]),
        *(f"({a}) {op} ({b})" for a, op, b in itertools.product(NASTY, operators, NASTY)),
        *(f"{op}({a})" for op, a in itertools.product(["-", "+", "~", "not "], NASTY)),
        *(f"({a})[{b}]" for a, b in itertools.product(NASTY, [*NASTY, "::2**8000", "::-1"])),
    ]


def test_no_name_hangs_or_takes_much_whatever_it_is_given(tmp_path, monkeypatch):
    """A sample of the sweep; its process writes down what it tries, and is killed if that hangs."""
    monkeypatch.setattr(machine, "FUEL", 6_000)
    tried = tmp_path / "tried"

    def sweep():
        for what in random.Random(0).sample(expressions(), TRIED):
            tried.write_text(what)
            signal.setitimer(signal.ITIMER_PROF, 20)  # of processor time, then it is killed
            for kept in (what, f"[{what} for i in range(10**9)]"):
                run(SWEEP.format(what=kept))
        return "done"

    measure = measured(sweep, patience=600)
    assert measure.answer == "done", tried.read_text()
    assert measure.megabytes < MEGABYTES
