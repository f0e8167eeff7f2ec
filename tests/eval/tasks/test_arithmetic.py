import pytest

from eval import tasks
from eval.tasks.arithmetic import nearness
from eval.tasks.task import load, read


def test_cells_become_columns_and_golds_are_the_values():
    items, skipped = load(tasks.get("arithmetic"), "sample", "test", name="arithmetic_subtract_2-3", limit=40)
    assert len(items) == 40 and not skipped
    for item in items:
        assert item.columns.keys() == {"op", "digits_a", "digits_b", "carries", "seen"}
        assert item.columns["op"] == "subtract" and item.columns["seen"] is True
        assert item.grade(item.solution, item.gold)["correct"]


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (" 168", True),
        (" 123 + 45 = 168\n#### 168", True),
        (" 3 + 5 = 8: 8\n2 + 4 = 6: 68\n1 + 0 = 1: 168\n123 + 45 = 168", True),
        (" 168\nUser: What is 9 + 9?", True),
        (" 1680", False),
        (" many", False),
    ],
)
def test_a_reply_is_read_as_a_probes_is(reply, right):
    (item,), _ = read(tasks.get("arithmetic"), [{"question": "What is 123 + 45?", "answer": "168", "op": 5}])
    assert item.grade(reply, item.gold)["correct"] is right and item.columns["op"] is None


@pytest.mark.parametrize(
    ("answer", "gold", "digit_match", "length_off"),
    [
        ("168", "168", 1.0, 0),
        ("1,168", "168", 3 / 4, 1),  # aligned at the ones
        ("16", "168", 0.0, 1),
        ("68", "168", 2 / 3, 1),
        ("-5", "5", 0.0, 0),
        ("3.25", "3.4", 1 / 3, 1),  # aligned at the point
        (None, "168", 0.0, 3),
    ],
)
def test_how_near_an_answer_comes_is_counted_in_digits(answer, gold, digit_match, length_off):
    assert nearness(answer, gold) == {"digit_match": digit_match, "length_off": length_off}


def test_an_answer_that_is_right_matches_in_every_digit():
    (item,), _ = read(tasks.get("arithmetic"), [{"question": "What is 1.7 * 2?", "answer": "3.4"}])
    graded = item.grade("3.40", item.gold)
    assert graded["correct"] and (graded["digit_match"], graded["length_off"]) == (1.0, 0)


def test_every_name_of_the_registry_is_a_benchmark_that_imports_no_torch():
    for name in tasks.NAMES:
        task = tasks.get(name)
        assert task.format.name == name and task.size > 0
        items, _ = load(task, "sample", task.format.held_apart, limit=5)
        assert len(items) == 5
