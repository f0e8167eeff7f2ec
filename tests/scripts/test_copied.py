"""Which numbers of a program stand in its question."""

import pyarrow as pa
import pytest

from pipeline.errors import UserError
from pipeline.files import ROOT
from scripts import copied

BOXES = "Ben has 8 boxes of 15 cakes."
RIGHT = "def simple_math_problem() -> int:\n    boxes = 8\n    each = 15\n    result = boxes * 2\n    return result"


def test_only_numbers_that_a_program_names_are_held_against_the_question():
    assert copied.copied(RIGHT, BOXES) == (2, 2), "`boxes * 2` gives no number a name"
    assert copied.copied(RIGHT.replace("8", "5"), BOXES) == (1, 2), "the 5 of 15 is no number"
    assert copied.copied("no program", BOXES) == (0, 0)


def test_shares_are_by_run_and_chance_is_another_question():
    row = {"condition": "baseline", "seed": 1, "id": "a", "question": BOXES, "program": RIGHT}
    other = row | {"id": "b", "question": "Val has 7 coins.", "program": "    coins = 8"}
    table = pa.Table.from_pylist([row, other, row | {"seed": 2}])
    assert copied.shares(table) == {"baseline": {1: (2 / 3, 1 / 3), 2: (1.0, 1.0)}}


def test_a_study_without_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    file = str(ROOT / "experiments/miniature_programs.yaml")
    with pytest.raises(UserError, match="no run has answers to 'word_problems' after sft_programs"):
        copied.main([str(tmp_path / "new.parquet"), "--of", file, "sft_programs", "word_problems"])


def test_the_results_say_what_the_committed_programs_show(capsys):
    copied.main([str(ROOT / "experiments/results/miniature_programs/programs.parquet")])
    printed, readme = capsys.readouterr().out, (ROOT / "experiments/results/README.md").read_text()
    for condition, figure in (("baseline", "73.3 [49.8, 96.7]"), ("mul_tokens", "36.1 [27.6, 44.6]")):
        assert f"| {condition} | 6 | {figure} |" in printed
        assert figure.replace(" [", "% [") in readme
