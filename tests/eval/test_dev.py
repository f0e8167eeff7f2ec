"""A look at dev problems: its numbers are those of the training's own loss and of the replies that were given."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from eval import dev
from eval.decode.generate import Decoder
from pipeline.conversation import conversation
from pipeline.experiment import load
from pipeline.files import ROOT
from tests.conftest import make_model
from tokenizer import chat
from tokenizer.encode import from_dir

EXPERIMENT = load(ROOT / "tests/tiny.yaml")


def alone(sums: Tensor) -> Tensor:
    return sums


@pytest.fixture
def looks(wide_model_dir):
    """looks(problems, …) → DevLooks at the first so many dev rows of `sample`, by a random model."""

    def make(problems: int, directory=wide_model_dir, **kwargs) -> dev.DevLooks:
        spec = SimpleNamespace(precision="fp32")
        run = SimpleNamespace(spec=spec, experiment=EXPERIMENT, seed=0, name="x")
        encoder, model = from_dir(directory), GPT2LMHeadModel.from_pretrained(directory)
        asked = dev.load(run, encoder, 640, "sample", None)[:problems]
        return dev.DevLooks(run, encoder, model, asked, 8, alone, **kwargs)

    return make


def test_the_loss_is_the_one_that_training_lowers(looks):
    look, nats, tokens, size = looks(6), 0.0, 0, 0
    for problem in look.mine:
        messages = conversation(problem.question, problem.solution)
        ids, labels = (torch.tensor(each)[None] for each in chat.example(look.encoder, messages))
        with torch.no_grad():
            count = int((labels != chat.IGNORE).sum())
            nats += look.model(ids, labels=labels).loss.item() * count
        tokens, size = tokens + count, size + len(f" {problem.solution}".encode())
    metrics = look(2)
    assert metrics["dev_loss"] == pytest.approx(nats / tokens, rel=1e-4)
    assert metrics["dev_gold_bits_per_byte"] == pytest.approx(nats / 0.6931472 / size, rel=1e-4)


def test_accuracy_and_pass_at_k_are_those_of_the_replies(looks, monkeypatch):
    """A tool answers: all second problems right when greedy, and every fourth in one of three samples."""
    look = looks(8, samples=3)

    def answer(self, prompts, *, samples=1, temperature=0.0, keys=None, **_):
        right = [look.encoder.encode(f" #### {problem.gold}") + [look.encoder.eos] for problem in look.mine]
        wrong = [look.encoder.eos]
        if samples == 1:
            assert temperature == 0
            return [wrong if i % 2 else ids for i, ids in enumerate(right)]
        assert temperature == 1 and len(set(keys)) == 8
        return [[wrong, wrong if i % 4 else ids, wrong] for i, ids in enumerate(right)]

    monkeypatch.setattr(Decoder, "generate", answer)
    metrics = look(4)
    assert metrics["dev_accuracy"] == 4 / 8 and metrics["dev_problems"] == 8
    assert metrics["dev_pass@1"] == pytest.approx(2 / 24) and metrics["dev_pass@3"] == 2 / 8


def test_a_look_moves_no_random_state_and_draws_alike(looks):
    look = looks(3, samples=2)
    state = torch.random.get_rng_state()
    assert look(4) == look(4) and torch.equal(state, torch.random.get_rng_state())


def test_a_condition_that_writes_another_text_has_no_bits(looks, tmp_path):
    metrics = looks(2, make_model(tmp_path / "placebo", "placebo", block_size=640))(2)
    assert "dev_loss" in metrics and "dev_gold_bits_per_byte" not in metrics
