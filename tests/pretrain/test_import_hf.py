"""Public weights come in whole, with rows for the added ids; what is not GPT-2 is refused by name."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from model import GPT
from pipeline.errors import UserError
from pipeline.hub import base_directory
from pretrain import import_hf
from pretrain.import_hf import new_rows, widen
from tokenizer import encode
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

ENCODER = Encoder(Condition("mul_tokens", "token", "multiplication", 512))
TRAINED = 513

EXPERIMENT = """
vocabulary: multiplication
tokenizer: {base: 512}
conditions: {baseline: {mode: plain}, mul_tokens: {mode: token}}
seeds: [0, 1]
stages:
  import: {run: import, base: public, rows: random}
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A `GPT2LMHeadModel` over the first 512 ranks of GPT-2 and EOS, at DATA_DIR/public."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    torch.manual_seed(0)
    sizes = {"vocab_size": TRAINED, "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 40}
    config = GPT2Config(**sizes, bos_token_id=512, eos_token_id=512, initializer_range=0.1)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight.add_(torch.arange(32) / 32)
    model.save_pretrained(tmp_path / "public")
    vocabulary = {token: i for token, i in ENCODER.hf.get_vocab().items() if i < TRAINED}
    (tmp_path / "public/vocab.json").write_text(json.dumps(vocabulary))
    return model


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "public.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_the_stage_makes_a_model_directory_of_the_whole_vocabulary(base, experiment, runs):
    for condition in ("baseline", "mul_tokens"):
        import_hf.main([str(experiment), condition, "0"])
    arms = [runs / f"public/{condition}-s0/import/model" for condition in ("baseline", "mul_tokens")]
    models = [GPT.from_directory(arm) for arm in arms]
    ids = torch.randint(TRAINED, (2, 40), generator=torch.Generator().manual_seed(0))
    for arm, model in zip(arms, models):
        assert model.config.vocab_size == encode.from_dir(arm).size == ENCODER.size
        assert (model(ids)[..., :TRAINED] - base(ids).logits).abs().max() < 1e-4
    pairs = zip(*(model.parameters() for model in models))
    assert all(torch.equal(a, b) for a, b in pairs), "the conditions are not paired"


def test_rows_are_made_by_the_named_rule():
    old = torch.randn(400, 16, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.arange(16)
    mean, drawn = new_rows(old, 300, "mean", 0), new_rows(old, 300, "random", 0)
    assert mean.shape == (300, 16) and torch.allclose(mean[7], old.mean(0))
    assert torch.allclose(drawn.mean(0), old.mean(0), atol=0.05)
    assert torch.allclose(drawn.std(0), old.std(0), rtol=0.3)
    assert torch.equal(drawn, new_rows(old, 300, "random", 0))
    assert not torch.equal(drawn, new_rows(old, 300, "random", 1))


@pytest.mark.parametrize("numbers", ["bpe", "right"])
def test_groups_of_digits_begin_as_the_mean_of_their_digits(base, tmp_path, numbers):
    """In every condition alike, whether it uses them or not."""
    encoder = Encoder(Condition("any", "plain", "multiplication", 512, numbers=numbers, group=2))
    rows = widen(tmp_path / "public", encoder, "mean", 0).wte.weight
    digit = [encoder.encode(str(value))[0] for value in range(10)]
    for value in (0, 7, 42, 99):
        row = rows[encoder.condition.first_group + value]
        assert torch.allclose(row, (rows[digit[value // 10]] + rows[digit[value % 10]]) / 2)
    assert torch.equal(rows[encoder.pad], rows[encoder.condition.first_fact])  # the mean of all, as ever
    drawn = widen(tmp_path / "public", encoder, "random", 0).wte.weight
    assert len(drawn) == encoder.size and not torch.allclose(drawn[-1], rows[-1])


def test_a_model_of_another_size_is_refused(base, tmp_path):
    with pytest.raises(UserError, match="it has 513 ids; tokenizer.base 1024 needs a model of 1025"):
        widen(tmp_path / "public", Encoder(Condition("baseline", "plain", "multiplication", 1024)), "mean", 0)


def test_another_vocabulary_of_the_same_size_is_refused(base, tmp_path):
    vocabulary = json.loads((tmp_path / "public/vocab.json").read_text())
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "public/vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(UserError, match="its vocabulary is not GPT-2's"):
        widen(tmp_path / "public", ENCODER, "mean", 0)


def test_the_vocabulary_may_stand_in_tokenizer_json(base, tmp_path):
    (tmp_path / "public/vocab.json").unlink()
    with pytest.raises(UserError, match="neither vocab.json nor tokenizer.json"):
        widen(tmp_path / "public", ENCODER, "mean", 0)
    vocabulary = {token: i for token, i in ENCODER.hf.get_vocab().items() if i < TRAINED}
    content = {"model": {"vocab": vocabulary}, "added_tokens": [{"content": "<|endoftext|>", "id": 512}]}
    (tmp_path / "public/tokenizer.json").write_text(json.dumps(content))
    assert widen(tmp_path / "public", ENCODER, "mean", 0).config.vocab_size == ENCODER.size


def test_a_base_that_is_nowhere_is_one_line(base, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UserError, match=r"base someone/gpt2: .*: no network$"):
        base_directory("someone/gpt2")
    with pytest.raises(UserError, match="no such directory"):
        base_directory("./models/gpt2")
