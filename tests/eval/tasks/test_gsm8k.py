import hashlib
import itertools

import pyarrow.parquet as pq
import pytest

from eval.tasks import gsm8k, svamp
from eval.tasks.task import Question, load, read
from pipeline.errors import UserError
from pipeline.rows import DEV, load_rows
from pipeline.sample.problems import word_problems
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder


def test_real_rows(shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    problems, skipped = load(gsm8k.TASK, "gsm8k/test.parquet", "test")
    assert len(problems) == len({problem.id for problem in problems}) == 1319 and not skipped
    assert problems[0].gold == "18" and problems[0].columns == {"seen": None}
    rows, skipped = load(svamp.TASK, "svamp/test.parquet", "test")
    assert len(rows) == 1000 and not skipped and rows[0].gold == "51"


def test_every_gold_solution_grades_as_right(shared_data):
    table = pq.read_table(shared_data / "gsm8k/test.parquet").to_pylist()
    problems, _ = read(gsm8k.TASK, table)
    assert all(gsm8k.grade(problem.solution, problem.gold)["correct"] for problem in problems)


def test_sample_problems_come_from_both_kinds_of_templates():
    problems, skipped = load(gsm8k.TASK, "sample", "test", limit=20)
    assert sum(problem.columns["seen"] for problem in problems) == 10 and not skipped


def test_the_dev_split_is_training_rows():
    dev, _ = load(gsm8k.TASK, "sample", "dev")
    train = {row["question"] for row in load_rows("sample", gsm8k.FORMAT, "train")}
    assert len(dev) == DEV and {problem.question for problem in dev} <= train
    assert len(load(gsm8k.TASK, "sample", "dev", limit=7)[0]) == 7


def test_the_id_is_of_the_question_alone():
    rows = [{"question": "How many?", "answer": answer} for answer in ("1", "2")]
    problems, skipped = read(gsm8k.TASK, rows)
    assert problems[0].id == hashlib.sha256(b"How many?").hexdigest()[:16] and skipped == {"repeated": 1}


def test_nothing_to_ask():
    with pytest.raises(UserError, match="nowhere.parquet: no such file or folder"):
        load(gsm8k.TASK, "nowhere.parquet", "test")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("so it is 6 * 9 = 54\n#### 54", ("54", True, True, True)),
        ("#### 54.00 eggs", ("54", True, True, True)),
        ("the answer is 54", (None, False, False, True)),
        ("#### 12\n#### 54", ("54", True, False, True)),
        ("#### 54 of 60", ("54", True, True, False)),
        ("", (None, False, False, False)),
    ],
)
def test_grading(completion, expected):
    graded = gsm8k.grade(completion, "54")
    assert tuple(graded[key] for key in ("answer", "correct", "strict", "flexible")) == expected


def test_every_condition_reads_the_same_question():
    """Questions are never rewritten: whatever the mode, the prompt is the same ids."""
    question = "What is 6 * 9 = 54 in words?"
    prompts = [
        Question(question, "54", gsm8k.grade).prompt(
            Encoder(Condition("c", mode, "multiplication", 4096, share=0.5))
        )
        for mode in MODES
    ]
    assert all(prompt == prompts[0] for prompt in prompts)
    encoder = Encoder(Condition("c", "plain", "multiplication", 4096))
    assert encoder.render(prompts[0]) == f"User: {question}\nAssistant:"


@pytest.mark.parametrize("mode", ["plain", "token", "echo", "mixed"])
def test_every_invertible_condition_is_graded_alike(mode):
    encoder = Encoder(Condition("c", mode, "multiplication", 4096, share=0.5))
    rows = list(itertools.islice(word_problems("test", 200, 0), 200))
    for problem in read(gsm8k.TASK, rows)[0]:
        completion = encoder.render([*encoder.encode_facts(f" {problem.solution}"), encoder.eos])
        assert gsm8k.grade(completion, problem.gold) == gsm8k.grade(problem.solution, problem.gold)
