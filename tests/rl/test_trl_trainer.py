from types import SimpleNamespace

import pytest
import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel
from trl import GRPOConfig

from eval.decode.generate import generate, logprobs
from model import GPT
from rl.trl_trainer import GroupTrainer, derive_positions
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

SPEC = SimpleNamespace(lr=1e-6, schedule="constant", warmup=0)
ENCODER = Encoder(Condition("mul_tokens", "token", "multiplication", 512))
QUESTIONS = ("6 * 9", "How many are 2 + 2", "a", "b c d")
PROMPTS = [ENCODER.encode(f"User: {question}\nAssistant:") for question in QUESTIONS]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A random model whose positions matter."""
    torch.manual_seed(0)
    shape = dict(vocab_size=ENCODER.size, n_layer=2, n_head=2, n_embd=16, n_positions=64)
    model = GPT2LMHeadModel(GPT2Config(**shape, eos_token_id=ENCODER.eos))
    with torch.no_grad():
        for table in (model.transformer.wpe.weight, model.transformer.wte.weight):
            table.normal_(std=0.5)
    model.save_pretrained(directory := tmp_path_factory.mktemp("model"))
    return directory


@pytest.fixture
def make(parent, tmp_path):
    """make(prompts, **TRL's fields) → (a trainer, all that it asked for and said)."""

    def trainer(prompts=PROMPTS, **fields):
        model = GPT2LMHeadModel.from_pretrained(parent)
        heard = SimpleNamespace(prompts=[], completions=[], logs=[], steps=[])

        def rollouts(prompts, step):
            policy, generator = GPT.from_directory(parent), torch.Generator().manual_seed(step)
            kwargs = dict(eos=ENCODER.eos, suppress=ENCODER.suppressed, temperature=1.0, generator=generator)
            heard.prompts += prompts
            heard.steps.append(step)
            heard.completions += (replies := generate(policy, prompts, 8, **kwargs))
            return replies

        arguments = dict(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            max_steps=1,
            logging_steps=1,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            disable_dropout=True,
            activation_checkpointing=False,
            shuffle_dataset=False,
            save_strategy="no",
        )
        made = GroupTrainer(
            spec=SPEC,
            model=model,
            args=GRPOConfig(**arguments | fields),
            train_dataset=Dataset.from_list([{"prompt": ids} for ids in prompts]),
            processing_class=ENCODER.hf,
            reward_funcs=[lambda completion_ids, **_: [float(len(set(ids))) for ids in completion_ids]],
            rollouts=rollouts,
            report=lambda step, logs: heard.logs.append((step, logs)),
        )
        return made, heard

    return trainer


def batch(trainer):
    """(ids, mask, width of the completions) of rows as GRPOTrainer pads them, and the rows unpadded."""
    rows = [(PROMPTS[1], [5, 6, 7, ENCODER.eos]), (PROMPTS[2], [9, 8, ENCODER.eos])]
    width, new = len(PROMPTS[1]), 4
    ids = [[ENCODER.pad] * (width - len(p)) + p + c + [ENCODER.pad] * (new - len(c)) for p, c in rows]
    mask = [[0] * (width - len(p)) + [1] * len(p + c) + [0] * (new - len(c)) for p, c in rows]
    assert mask[1][0] == 0
    return torch.tensor(ids), torch.tensor(mask), new, rows


@pytest.mark.parametrize("which", ["model", "ref_model"])
def test_padded_rows_are_scored_as_they_were_sampled(make, parent, which):
    trainer, _ = make(beta=0.1)
    ids, mask, new, rows = batch(trainer)
    with torch.no_grad():
        scored, _, _ = trainer._get_per_token_logps_and_entropies(getattr(trainer, which), ids, mask, new)
    for (_, completion), line, truth in zip(rows, scored, logprobs(GPT.from_directory(parent), rows)):
        assert line[: len(completion)].tolist() == pytest.approx(truth, abs=1e-4)


def test_positions_that_are_given_are_kept(parent):
    model = GPT2LMHeadModel.from_pretrained(parent).eval()
    ids = torch.arange(10)[None]
    plain = model(ids).logits
    shifted = model(ids, position_ids=torch.arange(5, 15)[None]).logits
    derive_positions(model)
    assert torch.equal(model(ids).logits, plain)
    given = dict(attention_mask=torch.ones(1, 10), position_ids=torch.arange(5, 15)[None])
    assert torch.equal(model(ids, **given).logits, shifted)
    assert not torch.allclose(shifted, plain)


def test_the_head_projects_completions_only(make, monkeypatch):
    trainer, _ = make()
    ids, mask, new, rows = batch(trainer)
    projected = []

    class Spy(trl.trainer.utils._ChunkedLogProbFunction):
        @classmethod
        def apply(cls, hidden, *arguments):
            projected.append(len(hidden))
            return super().apply(hidden, *arguments)

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", Spy)
    score = trainer._get_per_token_logps_and_entropies
    logps, entropy, _ = score(trainer.model, ids, mask, new, compute_entropy=True)
    assert projected == [sum(len(completion) for _, completion in rows)]
    logits = trainer.model(ids, attention_mask=mask).logits[:, -new - 1 : -1].log_softmax(-1)
    scored = mask[:, -new:].bool()
    assert torch.allclose(logps[scored], logits.gather(2, ids[:, -new:, None])[..., 0][scored], atol=1e-5)
    assert torch.allclose(entropy[scored], -(logits.exp() * logits).sum(-1)[scored], atol=1e-4)


def test_prompts_are_the_ids_that_we_made(make):
    prompts = [ENCODER.encode("User: <|endoftext|><MUL_6_9_54><|pad|>\nAssistant:"), *PROMPTS[1:]]
    trainer, heard = make(prompts, max_steps=2)
    trained = []
    loss = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: trained.append(inputs) or loss(model, inputs)
    trainer.train()
    assert heard.prompts == [ids for ids in prompts for _ in range(2)]
    assert heard.steps == [0, 1]
    rows = [row for inputs in trained for row in zip(inputs["prompt_ids"], inputs["prompt_mask"])]
    real = [ids[mask.bool()].tolist() for ids, mask in rows]
    assert sorted(real) == sorted(heard.prompts)  # TRL shuffles the rows of a step


def test_a_completion_that_did_not_end_is_counted_as_clipped(make):
    trainer, heard = make()
    trainer.train()
    ((step, logs),) = heard.logs
    share = sum(ids[-1] != ENCODER.eos for ids in heard.completions) / len(heard.completions)
    assert step == 1 and share > 0.5 and logs["completions/clipped_ratio"] == pytest.approx(share)


def test_training_tells_nobody(make, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    telemetry = "trl.trainer.base_trainer.send_telemetry"
    monkeypatch.setattr(telemetry, lambda **kwargs: pytest.fail("told the Hub"))
    make()
