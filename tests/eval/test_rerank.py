"""Verifiers: the scores are those of transformers' own forward pass, and none is read that does not fit."""

import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2ForTokenClassification

from eval import rerank
from eval.models import open_model
from eval.rerank import Reranker
from pipeline.errors import UserError
from tests.conftest import make_model
from tokenizer.conditions import Condition
from tokenizer.encode import from_dir, save


def make_verifier(directory, model_dir):
    """A verifier with the trunk of a model and a random head, as transformers saves it."""
    theirs = GPT2ForTokenClassification.from_pretrained(model_dir, num_labels=1)
    torch.manual_seed(0)
    theirs.classifier.weight.data.normal_()
    theirs.classifier.bias.data.fill_(0.25)
    theirs.save_pretrained(directory)
    save(from_dir(model_dir), directory)
    return directory


@pytest.fixture(scope="module")
def verifier_dir(tmp_path_factory, model_dir):
    return make_verifier(tmp_path_factory.mktemp("verifier"), model_dir)


@pytest.fixture(scope="module")
def texts():
    draw = random.Random(0)

    def ids(low, high):
        return [draw.randrange(1024) for _ in range(draw.randint(low, high))]

    return [ids(1, 60) for _ in range(25)], [[*ids(0, 60), 1024] for _ in range(25)]


@pytest.mark.parametrize("tokens", [1, 200, 16384])
def test_scores_are_those_of_transformers(verifier_dir, texts, tokens, monkeypatch):
    """Row by row without padding there, in batches of other lengths here; the order of the rows is kept."""
    monkeypatch.setattr(rerank, "PREFILL_TOKENS", tokens)
    theirs = GPT2ForTokenClassification.from_pretrained(verifier_dir).eval()
    with torch.no_grad():
        expected = [theirs(torch.tensor([a + b])).logits[0, -1, 0].item() for a, b in zip(*texts)]
    reranker = Reranker.from_directory(verifier_dir, from_dir(verifier_dir))
    assert reranker.scores(*texts) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.5  # they could have differed
    assert reranker.scores([], []) == []


def test_what_occurs_twice_gets_the_same_score(verifier_dir, texts):
    prompts, completions = texts
    scores = Reranker.from_directory(verifier_dir, from_dir(verifier_dir)).scores(
        prompts * 2, completions * 2
    )
    assert scores[:25] == scores[25:]


def test_a_text_beyond_the_context_is_refused(verifier_dir):
    reranker = Reranker.from_directory(verifier_dir, from_dir(verifier_dir))
    assert len(reranker.scores([[1]], [[2] * 127])) == 1
    with pytest.raises(UserError, match=r"129 tokens.* context of 128$"):
        reranker.scores([[1]], [[2] * 128])


@pytest.mark.parametrize(
    "condition",
    [
        Condition("other", "plain", "multiplication", 1024),  # the same ids, used otherwise
        Condition("other", "token", "squares", 1024),
        Condition("other", "token", "multiplication", 1024, numbers="digits"),
    ],
)
def test_a_verifier_of_another_condition_is_refused(tmp_path, verifier_dir, condition):
    encoder = from_dir(make_model(tmp_path, condition))
    with pytest.raises(UserError, match="is a verifier of 'arm'.*not of 'other'") as error:
        Reranker.from_directory(verifier_dir, encoder)
    assert str(error.value).startswith(str(verifier_dir)) and "\n" not in str(error.value)


def test_what_is_no_verifier_is_refused(tmp_path, model_dir, verifier_dir):
    encoder = from_dir(model_dir)
    with pytest.raises(UserError, match="has no classifier.weight, so it is no verifier"):
        Reranker.from_directory(model_dir, encoder)
    with pytest.raises(UserError, match="no such model directory"):
        Reranker.from_directory(tmp_path / "nowhere", encoder)
    with pytest.raises(UserError, match="is a verifier, which writes nothing; give it as --verifier"):
        open_model(verifier_dir)
    broken = shutil.copytree(verifier_dir, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    save_file(tensors | {"classifier.weight": torch.ones(2, 32)}, broken / "model.safetensors")
    with pytest.raises(UserError, match="a verifier has one label"):
        Reranker.from_directory(broken, encoder)
    nan = tensors | {"classifier.bias": torch.full((1,), torch.nan)}
    save_file(nan, broken / "model.safetensors")
    with pytest.raises(UserError, match="NaN"):
        Reranker.from_directory(broken, encoder).scores([[1]], [[2]])
