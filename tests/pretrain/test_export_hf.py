"""What is exported loads in transformers and computes the same; what is wrong is refused and leaves
nothing."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import model as module
from model import GPT, GPTConfig
from pipeline.errors import UserError
from pretrain import export_hf
from pretrain.export_hf import export
from tokenizer import encode
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

ENCODER = Encoder(Condition("mul_tokens", "token", "multiplication", 512))


@pytest.fixture
def model() -> GPT:
    """A model whose weights, biases too, are nowhere trivial."""
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(ENCODER.size, 2, 2, 32, 40)).init_weights(0)
    with torch.no_grad():
        for parameter in (p for name, p in model.named_parameters() if name != "wte.weight"):
            parameter.add_(torch.empty(parameter.shape).normal_(0, 0.2, generator=generator))
    return model.eval()


def test_transformers_loads_the_directory_and_computes_the_same(model, tmp_path):
    files = export(model, ENCODER, tmp_path / "model", "# made so")
    assert sorted(files) == sorted(path.name for path in (tmp_path / "model").iterdir())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = torch.tensor([ENCODER.encode_facts("So 6 × 9 = 54 and 2 * 3 = 6.")])
    assert (theirs(ids).logits - model(ids)).abs().max() < 1e-5
    assert len(tokenizer) == theirs.config.vocab_size == len(theirs.transformer.wte.weight) == ENCODER.size
    config, generation = theirs.config, theirs.generation_config
    assert {config.eos_token_id, generation.eos_token_id, tokenizer.eos_token_id} == {ENCODER.eos}
    assert {config.pad_token_id, generation.pad_token_id, tokenizer.pad_token_id} == {ENCODER.pad}
    assert {config.resid_pdrop, config.embd_pdrop, config.attn_pdrop} == {0.0}
    assert config.dtype == torch.float32
    assert generation.suppress_tokens == ENCODER.suppressed and ENCODER.pad in ENCODER.suppressed
    assert encode.from_dir(tmp_path / "model").condition == ENCODER.condition
    assert (tmp_path / "model/README.md").read_text() == "# made so"


def test_what_was_exported_comes_back_bit_for_bit(model, tmp_path):
    export(model, ENCODER, tmp_path / "model")
    tensors = load_file(tmp_path / "model/model.safetensors")
    assert "lm_head.weight" not in tensors and len(tensors["transformer.wte.weight"]) == ENCODER.size
    back = GPT.from_directory(tmp_path / "model").state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["attn.c_proj.weight", "ln_1.weight"])
def test_a_wrong_tensor_is_refused_and_nothing_is_left(model, tmp_path, monkeypatch, name):
    """`c_proj` is square, so it fits untransposed; only the logits tell."""
    right = module.to_hf

    def wrong(state, config):
        tensors = right(state, config)
        key = f"transformer.h.1.{name}"
        tensors[key] = tensors[key].t().contiguous() if "c_proj" in name else tensors[key] + 1e-3
        return tensors

    monkeypatch.setattr(export_hf, "to_hf", wrong)
    with pytest.raises(UserError, match="logits differ"):
        export(model, ENCODER, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_unmapped_tensor_is_refused_by_name(model, tmp_path, monkeypatch):
    right = module.to_hf
    more = {"transformer.h.9.new": torch.ones(2)}
    monkeypatch.setattr(export_hf, "to_hf", lambda *words: right(*words) | more)
    with pytest.raises(UserError, match="transformer.h.9.new"):
        export(model, ENCODER, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_previous_one(model, tmp_path, monkeypatch):
    export(model, ENCODER, tmp_path / "model")
    before = (tmp_path / "model/model.safetensors").read_bytes()
    monkeypatch.setattr(export_hf, "TOLERANCE", -1.0)
    with pytest.raises(UserError):
        export(model.init_weights(1), ENCODER, tmp_path / "model")
    assert (tmp_path / "model/model.safetensors").read_bytes() == before


def test_another_vocabulary_is_refused(model, tmp_path):
    with pytest.raises(UserError, match=f"the model has {ENCODER.size} ids"):
        export(model, Encoder(Condition("baseline", "plain", "multiplication", 1024)), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_reads_what_pretraining_left(model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(vars(model.config)))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(export_hf.read(tmp_path).parameters(), model.parameters()))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="rerun pretrain"):
        export_hf.read(tmp_path)
