import io

import pytest

from eval import chat
from pipeline.errors import UserError
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

ENCODER = Encoder(Condition("arm", "token", "multiplication", 1024))


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


def replies(monkeypatch, *texts):
    """Let a model say these; gives a list that fills with the prompts it was given, and its other arguments."""
    asked, texts = [], iter(texts)

    def generate(model, prompts, max_new_tokens, **kwargs):
        asked.append((prompts[0], kwargs))
        return [[*ENCODER.encode_facts(next(texts)), kwargs["eos"]]]

    monkeypatch.setattr(chat, "generate", generate)
    return asked


def test_the_conversation_is_remembered_until_an_empty_line(model_dir, monkeypatch, capsys):
    asked = replies(monkeypatch, " 6 * 9 = 54", " two", " three")
    monkeypatch.setattr("sys.stdin", io.StringIO("One?\nTwo?\n\nThree?\n"))
    chat.main([str(model_dir), "--max-new-tokens", "9"])
    prompts = [ENCODER.render(prompt) for prompt, _ in asked]
    assert prompts[0] == "User: One?\nAssistant:"
    assert prompts[1] == "User: One?\nAssistant: 6 * 9 = 54\nUser: Two?\nAssistant:"
    assert prompts[2] == "User: Three?\nAssistant:"
    assert asked[1][0].count(ENCODER.eos) == 1  # as in training, an answer ends with it
    assert "(3 tokens, 1 fact)" in capsys.readouterr().out


def test_the_oldest_turns_make_room(model_dir, monkeypatch, capsys):
    asked = replies(monkeypatch, *(" word" * 20 for _ in range(5)))
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"Question {i}?\n" for i in range(5))))
    chat.main([str(model_dir), "--max-new-tokens", "40"])
    assert max(len(prompt) for prompt, _ in asked) <= 128 - 40
    last = ENCODER.render(asked[-1][0])
    assert "Question 0?" not in last and "Question 3?" in last and "Question 4?" in last
    assert "no room for the conversation's first 1 turn)" in capsys.readouterr().err


def test_a_temperature_samples_and_a_seed_repeats_it(model_dir, monkeypatch, capsys):
    said = []
    for seed in ("1", "1", "2"):
        monkeypatch.setattr("sys.stdin", io.StringIO("What is 6 * 9?\n"))
        chat.main([str(model_dir), "--max-new-tokens", "20", "--temperature", "1.5", "--seed", seed])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    with pytest.raises(UserError, match="--temperature -1.0: must be 0 or more"):
        chat.main([str(model_dir), "--temperature", "-1"])


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
