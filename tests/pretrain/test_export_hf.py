"""What is exported loads in transformers and computes the same; what is wrong is refused and leaves
nothing."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

import model as module
from model import GPT, GPTConfig
from pipeline.conversation import conversation
from pipeline.errors import UserError
from pretrain import export_hf
from pretrain.export_hf import export
from tokenizer import chat, encode
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
    written = json.loads((tmp_path / "model/config.json").read_text())
    assert (written["n_ctx"], written["n_positions"], written["use_cache"]) == (40, 40, True)
    assert tokenizer.model_max_length == 40
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


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_every_file_obeys_the_umask(model, tmp_path, umask, mode):
    """safetensors writes 0600, which no colleague can read."""
    before = os.umask(umask)
    try:
        export(model, ENCODER, tmp_path / "model", "# made so")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
        theirs.config.use_cache = False  # as trainers leave it
        encode.save_model(theirs, ENCODER, tmp_path / "trained", "# trained so")
    finally:
        os.umask(before)
    for directory in ("model", "trained"):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / directory).iterdir()}
        assert modes == dict.fromkeys(modes, mode)
    assert json.loads((tmp_path / "trained/config.json").read_text())["use_cache"] is True


@pytest.mark.parametrize("numbers, group", [("bpe", None), ("digits", None), ("left", 2), ("right", 2)])
def test_transformers_pipeline_chats_and_cuts_what_is_too_long(model, tmp_path, numbers, group):
    """As strangers use a model: from its directory alone, with messages, and with more than its context."""
    encoder = Encoder(Condition("any", "echo", "multiplication", 512, numbers=numbers, group=group))
    model = GPT(GPTConfig(encoder.size, 2, 2, 32, 40)).init_weights(0)
    export(model, encoder, tmp_path / "model")
    chat_pipeline = pipeline("text-generation", str(tmp_path / "model"), device="cpu")
    asked = []
    chat_pipeline.model.register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    messages = conversation("What is 12 * 345?")
    options = {"max_new_tokens": 8, "do_sample": False}
    (reply,) = chat_pipeline(messages, **options)
    assert asked[0] == chat.prompt_ids(encoder, messages)
    assert [message["role"] for message in reply["generated_text"]] == ["user", "assistant"]
    said = encoder.hf.encode(reply["generated_text"][-1]["content"])
    assert not set(said) & set(encoder.suppressed)
    asked.clear()
    (reply,) = chat_pipeline("123 and 45 " * 40, handle_long_generation="hole", **options)
    assert len(asked[0]) == 40 - 8 and reply["generated_text"]
    assert asked[0] == encoder.encode("123 and 45 " * 40)[-32:]
