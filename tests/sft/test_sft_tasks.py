"""Rows → conversations: what is supervised, what is dropped and for which reason."""

import pytest

from eval.programs.sandbox import Sandbox
from pipeline.sections import Phase
from sft import gsm8k, tinygsm, tulu
from sft.curriculum import TASKS, parts
from tokenizer.vocabularies import multiplication


def turn(role, content):
    return {"role": role, "content": content}


CODE = 'def simple_math_problem() -> int:\n    """\n    What is 6 * 9?\n    """\n    eggs = 6 * 9\n    return eggs'


@pytest.mark.parametrize(
    "turns, said",
    [
        ([turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Bye")], "does not end in an answer"),
        ([], "does not end in an answer"),
        (None, "does not end in an answer"),
        (
            [turn("user", "Hi"), turn("tool", "{}"), turn("assistant", "So")],
            "another speaker than system, user and assistant",
        ),
        ([turn("user", "Hi"), turn("assistant", "  ")], "an empty turn"),
        ([turn("user", None), turn("assistant", "Hello")], "an empty turn"),
    ],
)
def test_a_conversation_that_cannot_be_learned_is_dropped_for_a_reason(spec, turns, said):
    assert tulu.messages({"messages": turns}, spec(), multiplication) == said


def test_a_conversation_of_several_turns_is_kept_whole(spec):
    turns = [
        turn("system", "Be brief."),
        turn("user", "Hi"),
        turn("assistant", "Hello"),
        turn("user", "6?"),
        turn("assistant", "9"),
    ]
    assert tulu.messages({"messages": turns}, spec(), multiplication) == turns


def test_annotations_are_kept_or_stripped_as_the_stage_says(spec):
    row = {"question": "How many?", "answer": "He has 6*9=<<6*9=54>>54 eggs.\n#### 54"}
    assert gsm8k.messages(row, spec(), multiplication)[-1]["content"] == row["answer"]
    assert (
        gsm8k.messages(row, spec(annotations="strip"), multiplication)[-1]["content"]
        == "He has 6*9=54 eggs.\n#### 54"
    )


@pytest.mark.parametrize(
    "working", [{"steps": ["<<6*9=54>>", "<<54+1=55>>"]}, {"cot": "<<6*9=54>>\n<<54+1=55>>"}]
)
def test_working_that_stands_apart_is_put_before_the_answer(spec, working):
    row = {"question": "How many?", "answer": "55", **working}
    assert gsm8k.messages(row, spec(), multiplication)[-1]["content"] == "<<6*9=54>>\n<<54+1=55>>\n#### 55"


@pytest.mark.parametrize("answer", ["54", "", None, "####", "#### many"])
def test_a_solution_without_a_final_number_is_dropped(spec, answer):
    assert (
        gsm8k.messages({"question": "How many?", "answer": answer}, spec(), multiplication)
        == "no final number behind ####"
    )


def test_a_program_is_written_without_its_docstring_and_still_runs(spec):
    row = {"question": "What is 6 * 9?", "code": CODE}
    [(*_, answer)] = tinygsm.conversations([row], spec(answer_format="program"), multiplication)
    assert answer["content"] == "def simple_math_problem() -> int:\n    eggs = 6 * 9\n    return eggs"


@pytest.mark.parametrize(
    "code, said",
    [
        ("def f(:", "syntax"),
        ("def f():\n    return 1 / 0", "error"),
        ("def f():\n    return 'six'", "not a number"),
        (None, "no_function"),
    ],
)
@pytest.mark.parametrize("answer_format", ["trace", "program"])
def test_a_program_without_a_number_is_dropped_for_a_reason(spec, code, said, answer_format):
    rows = [{"question": "What?", "code": code}]
    assert [*tinygsm.conversations(rows, spec(answer_format=answer_format), multiplication)] == [said]


@pytest.mark.parametrize("answer_format", ["trace", "program"])
def test_a_hostile_row_is_dropped_and_counted_and_costs_no_other_row_anything(
    spec, answer_format, monkeypatch
):
    """`hang` and `crash` stand for holes that nobody knows of: they leave the interpreter's walls behind."""
    rows = [{"question": "What?", "code": f"def f():\n    return {n} * 2"} for n in range(6)]
    rows[2]["code"], rows[4]["code"] = "hang", "crash"
    monkeypatch.setattr(tinygsm, "sandbox", holed_sandbox)
    results = [*tinygsm.conversations(rows, spec(answer_format=answer_format), multiplication)]
    assert [i for i, result in enumerate(results) if isinstance(result, str)] == [2, 4]
    assert results[2] == results[4] == "limit"
    assert results[5][-1]["content"].split()[-1] == ("10" if answer_format == "trace" else "2")


def holed_sandbox(process, vocabulary):
    job = ("tests.sft.holes:judging",) if vocabulary is None else ("tests.sft.holes:tracing", vocabulary)
    return Sandbox(*job, together=4)


def test_a_curriculum_is_its_phases_in_order_and_another_task_is_one_part(spec):
    phases = [
        Phase(task=task, data="sample", examples=n)
        for n, task in enumerate(("drills", "tinygsm", "gsm8k"), 1)
    ]
    curriculum = spec(task="curriculum", data=None, examples=None, phases=phases)
    assert [(part.task, part.amount) for part in parts(curriculum)] == [
        ("drills", 1),
        ("tinygsm", 2),
        ("gsm8k", 3),
    ]
    (part,) = parts(spec(examples=None, tokens=1000))
    assert (part.task, part.budget, part.amount) == ("gsm8k", "tokens", 1000)


def test_every_task_of_an_experiment_file_has_its_rows_turned_into_messages():
    assert {*TASKS, "curriculum"} == {"drills", "curriculum", "gsm8k", "tinygsm", "tulu"}
    assert all(map(callable, TASKS.values()))
