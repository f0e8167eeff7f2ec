import io

import pytest

from eval import chat
from pipeline.errors import UserError
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder


def test_a_question_is_answered(model_dir, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 6 * 9?\n\nWhat is 3 + 4?\n"))
    chat.main([str(model_dir), "--max-new-tokens", "5"])
    said = capsys.readouterr().out
    assert said.count(" tokens, ") == 2 and "(5 tokens, " in said


def test_a_question_longer_than_the_context(model_dir, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("How many? " * 200 + "\n"))
    chat.main([str(model_dir)])
    said = capsys.readouterr()
    assert said.out == "" and "fill the context" in said.err


def test_facts_are_highlighted():
    encoder = Encoder(Condition("c", "token", "multiplication", 4096))
    reply = [*encoder.encode_facts(" So 6 * 9 = 54 eggs."), encoder.eos]
    assert chat.paint(encoder, reply, colour=False) == " So ⟨6 * 9 = 54⟩ eggs."
    assert chat.paint(encoder, reply, colour=True) == " So \033[48;5;208m\033[97m6 * 9 = 54\033[0m eggs."


def test_input_that_is_no_text(model_dir, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    with pytest.raises(UserError, match="stdin: is not utf-8 text"):
        chat.main([str(model_dir), "--max-new-tokens", "2"])


def test_no_tokens(tmp_path):
    with pytest.raises(UserError, match="--max-new-tokens 0: must be at least 1"):
        chat.main([str(tmp_path), "--max-new-tokens", "0"])


def test_no_model_directory(tmp_path):
    with pytest.raises(UserError, match="no such model directory"):
        chat.main([str(tmp_path / "nowhere")])
