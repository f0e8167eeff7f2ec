"""A program is written as its condition writes facts, and what runs is the rendered text."""

import pytest
import yaml

from eval.grading import programs
from eval.programs.interpreter import run
from eval.tasks import gsm8k
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from sft import tinygsm
from tokenizer import chat
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder
from tokenizer.vocabularies import multiplication

CODE = "def simple_math_problem():\n    # by heart, 9 * 6 = 54\n    price = 9 * 6\n    return price"
FACT = 38  # 6 * 9 = 54
COMMENTS = {  # mode: (tokens of the fact in training text, the comment as it is rendered)
    "plain": ([], "# by heart, 6 * 9 = 54"),
    "token": ([FACT], "# by heart, 6 * 9 = 54"),
    "echo": ([FACT], "# by heart, 6 * 9 = 54"),
    "placebo": ([0], "# by heart,  54"),
    "value": ([], "# by heart, 54"),
}


def encoder_of(mode):
    return Encoder(Condition(mode, mode, "multiplication", 4096))


@pytest.mark.parametrize("mode", COMMENTS)
def test_each_mode_writes_a_fact_in_a_comment_and_the_rendered_program_runs(mode, spec):
    """`price = 9 * 6` is no fact: it says no value. So code that runs is the same text in every condition."""
    row = {"question": "How much is it?", "code": CODE}
    section = spec(task="tinygsm", answer_format="program")
    (messages,) = tinygsm.conversations([row], section, multiplication)
    encoder = encoder_of(mode)
    ids, labels = chat.example(encoder, messages)
    written = [i for i, label in zip(ids, labels) if label != chat.IGNORE]
    tokens, comment = COMMENTS[mode]
    first = encoder.condition.first_fact
    assert [i - first for i in written if i in range(first, encoder.size)] == tokens
    text = encoder.render(written)
    assert text == f" {CODE}".replace("# by heart, 9 * 6 = 54", comment)
    assert run(text.strip()).value == 54
    reply = {"completion": text, "gold": "54"} | gsm8k.grade(text, "54")
    assert not reply["correct"]  # a program is no answer in words
    programs.run_programs([reply])
    assert reply["correct"] and reply["answer"] == "54"


@pytest.mark.parametrize("mode", ["token", "echo"])
def test_a_fact_token_where_code_runs_is_the_equation_and_so_no_program(mode):
    """What a model might write: `price = <MUL_6_9_54>`. It is judged as the text that it stands for."""
    encoder = encoder_of(mode)
    token = encoder.condition.first_fact + FACT
    tail = encoder.encode(" 54") if mode == "echo" else []
    head, end = "def simple_math_problem():\n    price = ", "\n    return price"
    text = encoder.render([*encoder.encode(head), token, *tail, *encoder.encode(end)])
    assert text == f"{head}6 * 9 = 54{end}"
    reply = {"completion": text, "gold": "54"} | gsm8k.grade(text, "54")
    programs.run_programs([reply])
    assert programs.is_program(text) and run(text).status == "syntax" and not reply["correct"]


def test_programs_are_refused_where_expressions_become_equations(tmp_path):
    content = yaml.safe_load((ROOT / "experiments/quickstart.yaml").read_text())
    content["tokenizer"]["match"] = "weak"
    path = tmp_path / "weak.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    load(path)
    content["stages"]["sft_tinygsm"]["answer_format"] = "program"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match="stages.sft_tinygsm.answer_format: programs would not run"):
        load(path)
