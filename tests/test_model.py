"""The model against transformers' GPT-2 and against itself: padding, chunks, pairing, and what a directory
may hold."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import cross_entropy
from model import GPT, GPTConfig, from_hf, to_hf
from pipeline.errors import UserError
from pipeline.files import ROOT

CONFIG = GPTConfig(vocab_size=150, n_layer=2, n_head=4, n_embd=32, block_size=24)
IDS = torch.randint(150, (3, 24), generator=torch.Generator().manual_seed(0))


def spread(seed=0, config=CONFIG) -> GPT:
    """A random model whose weights are large enough for its logits to differ."""
    model = GPT(config).init_weights(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25 if parameter.dim() > 1 else 1)
    return model.eval()


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 150, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 24}
    config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=1, initializer_range=0.1)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # biases and norms are not trivial either
    return model


@pytest.fixture
def directory(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    return tmp_path


def test_logits_are_those_of_transformers(theirs, directory):
    ours = GPT.from_directory(directory)
    assert not ours.training
    assert (ours(IDS) - theirs(IDS).logits).abs().max() < 1e-5


def test_training_and_evaluation_compute_the_same():
    """Training takes another path through attention on CPUs."""
    model = spread()
    with torch.no_grad():
        without = model(IDS)
    assert torch.allclose(model(IDS), without, atol=1e-5)


def test_names_map_both_ways():
    state = spread().state_dict()
    tensors = to_hf(state, CONFIG)
    assert tensors["transformer.wte.weight"].shape == (150, 32) and "lm_head.weight" not in tensors
    assert tensors["transformer.h.1.mlp.c_fc.weight"].shape == (32, 128)
    back = from_hf(tensors, CONFIG)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_padded_rows_matter_neither_to_the_loss_nor_in_training():
    padded, bare = spread(), GPT(replace(CONFIG, padded_vocab=150))
    assert CONFIG.padded_vocab == 256
    state = padded.state_dict()
    bare.load_state_dict(state | {"wte.weight": state["wte.weight"][:150]})
    loss, expected = padded(IDS, IDS.roll(-1)), bare(IDS, IDS.roll(-1))
    loss.backward()
    expected.backward()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert torch.allclose(padded.wte.weight.grad[:150], bare.wte.weight.grad, atol=1e-6)
    assert padded.wte.weight.grad[150:].eq(0).all() and padded.wte.weight[150:].eq(0).all()
    assert padded(IDS).shape == (3, 24, 150)


def test_loss_in_chunks_is_the_loss(monkeypatch):
    """As GPUs compute it, and bf16."""
    model, targets = spread(), IDS.roll(-1).masked_fill(IDS % 5 == 0, -100)
    monkeypatch.setattr(cross_entropy, "fuses", lambda hidden: False)
    whole = model(IDS, targets)
    expected = torch.autograd.grad(whole, model.wte.weight)[0]
    monkeypatch.setattr(cross_entropy, "LOSS_CHUNK", 7)
    chunked = model(IDS, targets)
    assert torch.allclose(chunked, whole, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(chunked, model.wte.weight)[0], expected, atol=1e-6)


def test_the_fused_loss_is_the_whole_one_and_so_are_its_gradients(monkeypatch):
    """On a CPU in fp32, where it scores 240 tokens at a time, and nowhere else."""
    model, ids = spread(), IDS.repeat(5, 1)
    targets = ids.roll(-1).masked_fill(ids % 5 == 0, -100)
    calls, op = [], F.linear_cross_entropy
    monkeypatch.setattr(F, "linear_cross_entropy", lambda *args, **keys: calls.append(1) or op(*args, **keys))
    loss = model(ids, targets)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert calls == [1] and len(ids.flatten()) > 240
    with torch.autocast("cpu", torch.bfloat16):
        model(ids, targets)
    with torch.no_grad():
        model(ids, targets)
    assert calls == [1]
    monkeypatch.setattr(cross_entropy, "fuses", lambda hidden: False)
    whole = model(ids, targets)
    torch.testing.assert_close(loss, whole)
    for ours, theirs in zip(gradients, torch.autograd.grad(whole, list(model.parameters())), strict=True):
        assert (ours - theirs).norm() <= 100 * torch.finfo(torch.float32).eps * theirs.norm()


def test_the_compiled_loss_is_whole_and_the_same(monkeypatch):
    """Compiled, it is not cut into chunks; loss and gradients are those of the eager one, which is.

    All of torch.compile but the code generator, which is another for every device and takes half a minute here.
    """
    monkeypatch.setattr(cross_entropy, "LOSS_CHUNK", 24)
    monkeypatch.setattr(cross_entropy, "fuses", lambda hidden: False)
    config = replace(CONFIG, n_layer=1)
    model, targets, sizes = spread(config=config), IDS.roll(-1).masked_fill(IDS % 5 == 0, -100), []
    losses = GPT._losses
    monkeypatch.setattr(GPT, "_losses", lambda *args: sizes.append(len(args[1])) or losses(*args))
    eager = model(IDS, targets)
    expected = torch.autograd.grad(eager, list(model.parameters()))
    assert sizes and set(sizes) == {24}
    sizes.clear()
    compiled = torch.compile(model, dynamic=False, fullgraph=True, backend="aot_eager_decomp_partition")(
        IDS, targets
    )
    assert set(sizes) == {72}
    torch.testing.assert_close(compiled, eager)
    for ours, theirs in zip(torch.autograd.grad(compiled, list(model.parameters())), expected, strict=True):
        assert (ours - theirs).norm() <= 100 * torch.finfo(torch.float32).eps * theirs.norm()


def test_losses_of_single_tokens():
    model, targets = spread(), IDS.roll(-1).masked_fill(IDS % 5 == 0, -100)
    losses, log_probabilities = model(IDS, targets, "none"), model(IDS).log_softmax(-1)
    chosen = -log_probabilities.gather(2, targets.clamp(0)[..., None])[..., 0]
    assert torch.allclose(losses, chosen.masked_fill(targets == -100, 0), atol=1e-5)
    assert torch.allclose(model(IDS, targets), losses.sum() / (targets != -100).sum())


def test_no_token_sees_a_later_one():
    model, changed = spread(), IDS.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 150
    before, after = model(IDS), model(changed)
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-6)
    assert not torch.allclose(before[:, 10], after[:, 10])


def test_the_name_of_a_fact_is_invisible():
    """Permuted fact ids, with their embedding rows permuted alike, give the same loss."""
    facts = torch.arange(100, 145)
    order = torch.arange(150)
    order[facts] = facts[torch.randperm(45, generator=torch.Generator().manual_seed(1))]
    model, permuted = spread(), spread()
    with torch.no_grad():
        permuted.wte.weight[order] = model.wte.weight[:150]
    ids = torch.cat([IDS, torch.arange(100, 124)[None]])
    assert not torch.equal(order[ids], ids)
    loss, other = model(ids, ids.roll(-1)), permuted(order[ids], order[ids].roll(-1))
    assert (loss - other).abs() < 1e-5


def test_initialisation_is_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    first = GPT(CONFIG).init_weights(7)
    torch.manual_seed(2)
    second, other = GPT(CONFIG).init_weights(7), GPT(CONFIG).init_weights(8)
    larger = GPT(replace(CONFIG, vocab_size=300, padded_vocab=384)).init_weights(7)
    others = (model.parameters() for model in (second, other, larger))
    for (name, a), b, c, d in zip(first.named_parameters(), *others):
        assert torch.equal(a, b)
        assert name == "wte.weight" or torch.equal(a, d), f"{name} depends on the size of the vocabulary"
        assert a.dim() == 1 or not torch.equal(a, c)


@pytest.mark.parametrize("width, std", [(192, 0.04), (768, 0.02), (1024, 0.02)])
def test_initialisation_is_gpt2s_at_its_width_and_above(width, std):
    model = GPT(GPTConfig(500, 2, 2, width, 200)).init_weights(0)
    assert model.wte.weight[:500].std().item() == pytest.approx(std, rel=0.05)
    assert model.h[1].mlp.c_fc.weight.std().item() == pytest.approx(std, rel=0.05)
    assert model.h[1].mlp.c_proj.weight.std().item() == pytest.approx(std / 2, rel=0.05)
    assert model.h[1].attn.c_attn.bias.eq(0).all()
    assert model.ln_f.weight.eq(1).all() and model.ln_f.bias.eq(0).all()


def test_flops_of_gpt2_124m():
    """6N + 12·L·H·T with N = 124,439,808 parameters less 1,024 positions."""
    with torch.device("meta"):
        model = GPT(GPTConfig(50257, 12, 12, 768, 1024))
    assert model.flops_per_token() == 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
    assert model.flops_per_token(512) == model.flops_per_token() - 12 * 12 * 768 * 512


@pytest.mark.parametrize("values", [{"n_head": 3}, {"n_layer": 0}, {"padded_vocab": 100}])
def test_impossible_sizes_are_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        replace(CONFIG, **values)


def test_tensors_that_do_not_fit_are_named():
    state = GPT(CONFIG).state_dict()
    state["h.0.attn.c_proj.weights"] = state.pop("h.0.attn.c_proj.weight")
    state["wpe.weight"] = state["wpe.weight"][:5]
    faults = ["extra h.0.attn.c_proj.weights", "missing h.0.attn.c_proj.weight;"]
    faults.append(r"wpe.weight has shape \[5, 32\], not \[24, 32\]")
    for work in (lambda: to_hf(state, CONFIG), lambda: GPT.from_tensors(state, CONFIG)):
        for fault in faults:
            with pytest.raises(UserError, match=fault):
                work()


def test_reads_the_first_gpt2_files(theirs, directory):
    """They lack the prefix and carry causal masks; the tied head may be there as a second copy."""
    file = directory / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 24, 24), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    save_file(tensors | masks | {"lm_head.weight": tensors["wte.weight"].clone()}, file)
    assert (GPT.from_directory(directory)(IDS) - theirs(IDS).logits).abs().max() < 1e-5


OTHERS = {"activation_function": "relu", "model_type": "llama", "layer_norm_epsilon": 1e-6, "n_inner": 64}


@pytest.mark.parametrize("key, value", OTHERS.items())
def test_another_architecture_is_refused_by_its_key(directory, key, value):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match=f"config.json: {key} is {value!r}"):
        GPT.from_directory(directory)


def test_an_untied_head_is_refused(directory):
    file = directory / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}, file)
    with pytest.raises(UserError, match="only a tied head"):
        GPT.from_directory(directory)


def test_a_damaged_directory_is_refused_by_name(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{directory}: cannot be read"):
        GPT.from_directory(directory)
    weights.unlink()
    with pytest.raises(UserError, match="model.safetensors: no such file"):
        GPT.from_directory(directory)


SCORE = """
import sys, torch, cross_entropy, model
cross_entropy.LOSS_CHUNK = 7
ids = torch.arange(24)[None]
with torch.no_grad():
    model.GPT.from_directory(sys.argv[1])(ids, ids.roll(-1), "none")
assert not {"transformers", "torch._dynamo"} & {*sys.modules}
"""


@pytest.mark.starts
def test_a_model_is_opened_and_scores_without_transformers_and_without_a_compiler(directory):
    """Either takes seconds to import."""
    subprocess.run([sys.executable, "-c", SCORE, str(directory)], check=True, cwd=ROOT)
