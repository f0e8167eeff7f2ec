"""Decoding and scoring against transformers' `generate` and against the plain forward pass."""

import random
from collections import Counter

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from eval.decode import cache, packed
from eval.decode import generate as module
from eval.decode.generate import Decoder, generate, logprobs
from model import GPT, GPTConfig, to_hf
from pipeline.errors import UserError
from scripts.bench import decode as bench

CONFIG = GPTConfig(vocab_size=200, n_layer=2, n_head=4, n_embd=32, block_size=48)
SUPPRESS = [3, 190, 199]


@pytest.fixture(scope="module")
def model() -> GPT:
    model = GPT(CONFIG).init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.6 if parameter.dim() > 1 else 1)
    return model.eval()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(190) for _ in range(draw.randint(1, 30))] for _ in range(40)]


@pytest.fixture(scope="module")
def expected(model, prompts) -> tuple[int, list[int], list[list[int]]]:
    """(eos, limits, greedy replies) by transformers; the eos is an id that ends about half of the replies."""
    sizes = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 48, "vocab_size": 200}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=None)).eval()
    theirs.load_state_dict(to_hf(model.state_dict(), CONFIG), strict=False)
    draw = random.Random(1)
    limits = [draw.randint(1, 18) for _ in prompts]

    def reply(prompt, limit, eos):
        ids = torch.tensor([prompt])
        kwargs = {"do_sample": False, "eos_token_id": eos, "pad_token_id": 0, "suppress_tokens": SUPPRESS}
        kwargs |= {"attention_mask": torch.ones_like(ids), "max_new_tokens": limit}
        result = theirs.generate(input_ids=ids, **kwargs)
        return result[0, len(prompt) :].tolist()

    free = [reply(prompt, limit, None) for prompt, limit in zip(prompts, limits)]
    eos = Counter(token for tokens in free for token in set(tokens)).most_common(1)[0][0]
    return eos, limits, [reply(prompt, limit, eos) for prompt, limit in zip(prompts, limits)]


@pytest.mark.parametrize("batch_size", [None, 1, 7])
@pytest.mark.parametrize("rounding, look", [((1, 1), 1), ((8, 16), 1), ((8, 16), 5)])
def test_greedy_ids_are_those_of_transformers(
    model, prompts, expected, batch_size, rounding, look, monkeypatch
):
    """Whatever the batches, and as a GPU does it too: steps rounded up to a graph's shapes, few looks."""
    monkeypatch.setitem(cache.ROUNDING, "cpu", rounding)
    monkeypatch.setitem(module.LOOK, "cpu", look)
    eos, limits, replies = expected
    assert any(reply[-1] == eos for reply in replies) and any(eos not in reply for reply in replies)
    assert generate(model, prompts, limits, eos=eos, suppress=SUPPRESS, batch_size=batch_size) == replies


def test_nothing_is_read_that_was_not_written(model, prompts, expected, monkeypatch):
    """Deterministic mode fills fresh memory with NaN, which one read of an empty column would spread."""
    monkeypatch.setitem(cache.ROUNDING, "cpu", (8, 16))
    monkeypatch.setitem(module.LOOK, "cpu", 5)
    monkeypatch.setattr(cache, "PREFILL_TOKENS", 64)  # several widths in one batch
    eos, limits, replies = expected
    torch.use_deterministic_algorithms(True)
    try:
        assert generate(model, prompts, limits, eos=eos, suppress=SUPPRESS, batch_size=16) == replies
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("capability, kind", [("AVX512", packed.PackedGPT), ("AVX2", GPT), ("DEFAULT", GPT)])
def test_layers_are_packed_where_that_is_no_loss_and_decode_the_same(
    model, prompts, expected, capability, kind, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    eos, limits, replies = expected
    decoder = Decoder(model)
    assert type(decoder.ready) is kind
    assert decoder.generate(prompts, limits, eos=eos, suppress=SUPPRESS) == replies


def test_a_decoder_takes_new_weights_in_place_and_keeps_its_cache(model, prompts, expected, monkeypatch):
    eos, limits, replies = expected
    kwargs = {"eos": eos, "suppress": SUPPRESS, "batch_size": 16}
    for capability in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda named=capability: named)
        decoder = Decoder(GPT(CONFIG).init_weights(7).eval())
        other = decoder.generate(prompts, limits, **kwargs)
        weight, memory = decoder.model.wte.weight.data_ptr(), decoder.cache.kv.data_ptr()
        decoder.load(model.state_dict())
        assert decoder.generate(prompts, limits, **kwargs) == replies != other
        assert decoder.generate(prompts[:3], limits[:3], **kwargs) == replies[:3]
        assert (decoder.model.wte.weight.data_ptr(), decoder.cache.kv.data_ptr()) == (weight, memory)
        assert decoder.cache.model is decoder.ready


def test_the_host_looks_at_the_device_every_few_steps_only(model, monkeypatch):
    looks, look = [], module.Choice.look
    monkeypatch.setattr(
        module.Choice, "look", lambda self, drawn: looks.append(len(drawn)) or look(self, drawn)
    )
    monkeypatch.setitem(module.LOOK, "cpu", 8)
    replies = generate(model, [[1, 2], [3]], [18, 10], eos=199, suppress=[199])
    assert looks == [8, 8, 2] and [len(reply) for reply in replies] == [18, 10]


def test_a_draw_is_the_inverse_of_the_distribution_and_never_of_no_chance():
    """Ids of chance 0.5, 0.3, 0.2 take the lower half of the uniform numbers, the next three tenths, the rest."""
    logits = torch.full((1, 7), -torch.inf)
    logits[0, [1, 2, 4, 5]] = torch.tensor([0.5, 0.3, 0.9, 0.2]).log()
    keys = torch.randint(-(2**63), 2**63 - 1, (1, 20_000))
    choose = module.Choice(torch.device("cpu"), [4], 1.0)
    drawn = choose(logits, keys, 3)[0]
    uniform = torch.tensor([_uniform(key, 3) for key in keys[0].tolist()])
    expected = torch.where(uniform < 0.5, 1, torch.where(uniform < 0.8, 2, 5))
    assert (drawn != expected).sum() <= 1  # on an edge, where sums are rounded
    assert choose.finite


def _uniform(key: int, step: int) -> float:
    """SplitMix64 in Python's own whole numbers, after its authors' C."""
    z = (key + (step + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return ((z ^ (z >> 31)) >> 41) / 2**23


def test_the_largest_draw_is_the_last_id_with_a_chance(monkeypatch):
    monkeypatch.setattr(module, "mix", lambda x: torch.full_like(x, -1))  # every bit set
    for count in (3, 200, 5000):
        logits = torch.randn(20, count)
        logits[:, count - 2] = 0.0  # no chance below a step of the draw
        drawn = module.Choice(torch.device("cpu"), [count - 1], 0.5)(logits, torch.zeros(20, 1).long(), 0)
        assert (drawn == count - 2).all()
    monkeypatch.setattr(module, "mix", torch.zeros_like)
    assert (
        module.Choice(torch.device("cpu"), [0], 1.0)(torch.randn(20, 9), torch.zeros(20, 1).long(), 0) == 1
    ).all()


@pytest.mark.parametrize("rounding, look", [((1, 1), 1), ((8, 16), 1), ((8, 16), 5)])
def test_a_sample_depends_on_its_key_and_place_alone(model, prompts, expected, rounding, look, monkeypatch):
    """Not on the batches, the other prompts, how many samples there are, or whether samples share a row."""
    eos, limits, _ = expected
    kwargs = {"eos": eos, "suppress": SUPPRESS, "temperature": 0.8}
    keys = [hash((7, i)) for i in range(len(prompts))]
    alone = [
        generate(model, [prompt], limit, keys=[key], samples=5, **kwargs)[0]
        for prompt, limit, key in zip(prompts, limits, keys)
    ]
    monkeypatch.setitem(cache.ROUNDING, "cpu", rounding)
    monkeypatch.setitem(module.LOOK, "cpu", look)
    for batch_size in (None, 35):
        assert (
            generate(model, prompts, limits, keys=keys, samples=5, batch_size=batch_size, **kwargs) == alone
        )
    few = generate(model, prompts[::-1], limits[::-1], keys=keys[::-1], samples=2, **kwargs)
    assert few[::-1] == [group[:2] for group in alone]
    assert 2 < sum(len(set(map(tuple, group))) for group in alone) / len(alone) < 5  # some agree, some part
    assert any(reply[-1] == eos for group in alone for reply in group)
    with pytest.raises(UserError, match="keys: 1 for 2 prompts"):
        generate(model, [[1], [2]], 5, keys=[1], **kwargs)


def test_samples_that_agree_are_computed_once(model, monkeypatch):
    rows = []
    step = cache.Cache.step
    monkeypatch.setattr(cache.Cache, "step", lambda self, n: rows.append(n) or step(self, n))
    kwargs = {"eos": 199, "suppress": SUPPRESS, "samples": 16}
    generate(model, [[1, 2], [3]], 10, temperature=1e-6, keys=[1, 2], **kwargs)
    assert rows == [2] * 9
    generate(model, [[1, 2], [3]], 10, temperature=5.0, keys=[1, 2], **kwargs)
    assert rows[9] > 16 and max(rows) <= 32


def test_bf16_decodes_nearly_the_same(model, prompts):
    half = GPT(CONFIG)
    half.load_state_dict(model.state_dict())
    kwargs = {"eos": 199, "suppress": SUPPRESS}
    pairs = list(zip(generate(model, prompts, 1, **kwargs), generate(half.bfloat16(), prompts, 1, **kwargs)))
    assert sum(a == b for a, b in pairs) >= 0.9 * len(pairs)


def test_samples_follow_the_softmax(model):
    prompt, count, temperature = [5, 9, 11], 4000, 1.5
    logits = model(torch.tensor([prompt]))[0, -1].detach()
    logits[SUPPRESS] = -torch.inf
    probabilities = (logits / temperature).softmax(-1)
    generator = torch.Generator().manual_seed(0)
    kwargs = {"temperature": temperature, "samples": count, "generator": generator}
    (drawn,) = generate(model, [prompt], 1, eos=199, suppress=SUPPRESS, **kwargs)
    counts = torch.bincount(torch.tensor(drawn)[:, 0], minlength=200)
    deviation = (probabilities * (1 - probabilities) * count).sqrt() + 1
    assert counts[SUPPRESS].sum() == 0 and ((counts - count * probabilities).abs() < 5 * deviation).all()


def test_samples_of_a_prompt_share_its_context(model, prompts, expected):
    """At a temperature near zero every sample is the greedy reply, and the same seed gives the same
    samples."""
    eos, limits, replies = expected
    kwargs = {"eos": eos, "suppress": SUPPRESS, "samples": 3, "batch_size": 24}
    cold = generate(model, prompts, limits, temperature=1e-6, **kwargs)
    assert cold == [[reply] * 3 for reply in replies]
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    kwargs["temperature"] = 1.0
    one, same, other = (generate(model, prompts, limits, generator=g, **kwargs) for g in seeds)
    assert one == same != other


def test_replies_end_with_the_context_and_long_prompts_are_reported(model, capsys):
    replies = generate(model, [[1] * 48, [1] * 45, [1] * 60], 10, eos=199, suppress=SUPPRESS)
    assert replies[0] is None and replies[2] is None and len(replies[1]) == 3
    assert "2 of 3 prompts fill the context of 48" in capsys.readouterr().err
    assert generate(model, [[1] * 48], 10, eos=199, suppress=[]) == [None]
    assert generate(model, [], 10, eos=199, suppress=[]) == []


def test_bad_requests_are_refused(model):
    for prompts, limit, message in (
        ([[1], []], 5, "prompt 1 is empty"),
        ([[1]], 0, "max_new"),
        ([[1]], [1, 2], "max"),
    ):
        with pytest.raises(UserError, match=message):
            generate(model, prompts, limit, eos=199, suppress=[])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_are_refused(temperature):
    broken = GPT(CONFIG).init_weights(0)
    torch.nn.init.constant_(broken.ln_f.bias, torch.nan)
    with pytest.raises(UserError, match="NaN"):
        generate(broken, [[1, 2]], 3, eos=199, suppress=[], temperature=temperature)
    with pytest.raises(UserError, match="NaN"):
        logprobs(broken, [([1, 2], [3])])


def test_progress_counts_every_reply(model, prompts):
    told = []
    kwargs = {"eos": 199, "suppress": SUPPRESS, "samples": 2, "temperature": 1.0, "batch_size": 10}
    generate(model, prompts, 6, progress=told.append, **kwargs)
    assert sum(told) == 2 * len(prompts)


def test_logprobs_are_those_of_the_forward_pass(model, prompts, monkeypatch):
    monkeypatch.setattr(module, "HEAD_TOKENS", 10)
    draw = random.Random(2)
    rows = [(prompt, [draw.randrange(200) for _ in range(draw.randint(0, 12))]) for prompt in prompts]
    result = logprobs(model, rows, batch_size=6)
    for (context, continuation), scores in zip(rows, result):
        logs = model(torch.tensor([context + continuation]))[0].log_softmax(-1)
        truth = [logs[len(context) - 1 + i, token].item() for i, token in enumerate(continuation)]
        assert scores == pytest.approx(truth, abs=1e-4)


def test_rows_that_cannot_be_scored(model, capsys):
    assert logprobs(model, [([1] * 40, [2] * 9), ([1] * 40, [2] * 8)])[0] is None
    assert "1 of 2 rows exceed the context of 48" in capsys.readouterr().err
    with pytest.raises(UserError, match="row 1 has an empty context"):
        logprobs(model, [([1], [2]), ([], [2])])


def test_bench_measures_samples_beside_a_greedy_pass(model_dir, capsys):
    bench.main(["--model", str(model_dir), "--prompts", "3", "--samples", "2"])
    message = capsys.readouterr().out
    assert message.count("greedy  ") == 2 and "2 samples take" in message and "by processor time" in message


def test_bench_measures_all_three(monkeypatch, capsys):
    monkeypatch.setattr(bench, "CONFIG", GPTConfig(50349, 1, 2, 16, 1024))
    bench.main(["--prompts", "4", "--reference", "4", "--tokens", "5"])
    message = capsys.readouterr().out
    assert "floor" in message and "4 replies, 20 tokens" in message and "× generate" in message
