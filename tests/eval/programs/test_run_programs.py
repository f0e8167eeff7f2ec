from eval.grading.programs import run_programs
from eval.tasks import gsm8k

RIGHT = " def simple_math_problem() -> int:\n    trays = 10\n    result = trays * 50\n    return result"
HOSTILE = "def f():\n    import os\n    os._exit(0)\n    return 500"


def row(completion, gold="500"):
    return {"completion": completion, "gold": gold, "error": "", **gsm8k.grade(completion, gold)}


def test_a_reply_that_is_a_program_is_scored_by_what_it_returns():
    rows = [
        row(RIGHT),
        row(RIGHT.replace("50\n", "51\n")),
        row(HOSTILE),
        row("def f(): return 500\n#### 7"),
        row(" 10 * 50\n#### 500"),
    ]
    in_force = run_programs(rows)
    assert in_force["interpreter"] == "default-deny"
    assert [r["correct"] for r in rows] == [True, False, False, False, True]
    assert [r["answer"] for r in rows] == ["500", "510", None, "7", "500"]
    assert [r["error"] for r in rows[:3]] == ["correct", "plan", "no answer"]


def test_floats_are_read_to_six_decimals_and_no_sandbox_is_started_without_programs():
    rows = [row("def f():\n    return 0.1 + 0.2", "0.3"), row("def f():\n    return 1 / 3", "0.3")]
    assert run_programs(rows) is not None
    assert [r["correct"] for r in rows] == [True, False]
    assert run_programs([row("#### 5"), {"completion": "def f(): return 5", "gold": "5"}]) is None
