"""The stage as a whole, and TRL underneath: labels, loss, order, settings, resume."""

import dataclasses
import json
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from pipeline import stage, world
from pipeline.errors import UserError
from pipeline.files import ROOT
from pipeline.kinds import OWNED
from sft import train
from sft.batches import Shape, group, take
from sft.curriculum import parts
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="exact on CPUs")
YAML = """
vocabulary: multiplication
tokenizer: {base: 4096}
conditions: {baseline: {mode: plain}, mul_tokens: {mode: token}}
seeds: [0]
stages:
  base: {run: import, base: none, rows: random}
  tune: &sft {run: sft, from: base, task: gsm8k, data: sample, examples: 24, batch_size: 4, micro_batch: 2,
    max_length: 120, lr: 1e-3, schedule: cosine, warmup: 1, weight_decay: 0.1, precision: fp32}
  whole_batches: {<<: *sft, micro_batch: 4}
  packed: {<<: *sft, packing: true}
  interrupted: {<<: *sft, save_every: 2}
  killed: {<<: *sft, save_every: 2}
  curriculum:
    <<: *sft
    task: curriculum
    data: null
    examples: null
    phases: [{task: drills, data: sample, examples: 8}, {task: tinygsm, data: sample, examples: 4}]
  long: {<<: *sft, max_length: 300}
  uneven: {<<: *sft, batch_size: 6, micro_batch: 3}
  halves: {<<: *sft, precision: bf16}
  two: {<<: *sft}
  cold: {<<: *sft, examples: null, tokens: 1000, warmup: 99}
  diverging: {<<: *sft, lr: 1e38, trainer: {max_grad_norm: 0}}
  odd: {<<: *sft, trainer: {optim: newton}}
"""


@pytest.fixture(scope="module")
def trl():
    from sft import trl_trainer

    return trl_trainer


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """An experiment file whose `base` stages hold a small random model each."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("sft")
    (folder / "small.yaml").write_text(YAML)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS", str(folder / "runs"))
        for condition in ("baseline", "mul_tokens"):
            with stage.begin("import", [str(folder / "small.yaml"), condition, "0"], "") as run:
                encoder = encode.for_run(run.experiment, condition)
                torch.manual_seed(0)
                config = GPT2Config(vocab_size=encoder.size, n_layer=1, n_embd=32, n_head=2, n_positions=256)
                GPT2LMHeadModel(config).save_pretrained(run.dir / "model")
                run.finish(
                    [
                        f"model/{name}"
                        for name in (
                            "config.json",
                            "model.safetensors",
                            *encode.save(encoder, run.dir / "model"),
                        )
                    ]
                )
        yield str(folder / "small.yaml"), folder / "runs/small"


def tune(arms, name, condition="mul_tokens"):
    """Run a stage; its directory."""
    file, runs = arms
    train.main([file, condition, "0", name])
    return runs / f"{condition}-s0" / name


def weights(directory):
    return load_file(directory / "model/model.safetensors")


def differ(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


def units_for(spec, mode="token"):
    """Units of a stage's first part as training gets them, and their encoder."""
    encoder = Encoder(Condition(mode, mode, "multiplication", 4096))
    (part, *_), shape = parts(spec), Shape(1, 32, encoder.size)
    endless = train.units_of(part, spec, (0, 0), encoder, Counter())
    return group(
        take(endless, part, spec.batch_size, shape, lambda spent: None), spec.batch_size, (0, 0)
    ), encoder


def trainer_for(trl, arms, tmp_path, spec):
    units, encoder = units_for(spec)
    config = trl.SFTConfig(**trl.settings(spec, 0, spec.batch_size // spec.micro_batch, tmp_path))
    model = trl.load(arms[1] / "mul_tokens-s0/base/model")
    return trl.build(model, encoder, units, spec.packing, config), units, encoder


# --- what TRL is given ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [False, True])
def test_real_batches_supervise_answers_and_their_eos_and_nothing_else(trl, arms, tmp_path, spec, packing):
    section = spec(task="tulu", packing=packing, examples=64, max_length=200)
    trainer, units, encoder = trainer_for(trl, arms, tmp_path, section)
    seen = []
    for batch in trainer.get_train_dataloader():
        positions = batch.get(
            "position_ids", torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
        )
        assert len(batch["input_ids"]) == section.micro_batch and ("position_ids" in batch) == packing
        lines = (batch["input_ids"].tolist(), batch["labels"].tolist(), positions.tolist())
        for ids, labels, places in zip(*lines, strict=True):
            unit = units[len(seen)]
            seen.append(unit)
            length = sum(len(row.ids) for row in unit)
            assert all(token == encoder.pad for token in ids[length:]) and set(labels[length:]) <= {IGNORE}
            assert all(label in (IGNORE, token) for token, label in zip(ids, labels))
            assert encoder.pad not in ids[:length]
            start = 0
            for row in unit:
                end = start + len(row.ids)
                assert ids[start:end] == row.ids.tolist() and places[start:end] == list(range(len(row.ids)))
                assert labels[end - 1] == ids[end - 1] == encoder.eos and labels[start] == IGNORE
                text = encoder.render(ids[start:end])
                assert labels[start:end].count(encoder.eos) == text.count("Assistant: ")
                start = end
            answers = encoder.render(label for label in labels if label != IGNORE)
            assert "User:" not in answers and "Assistant:" not in answers
    assert [id(unit) for unit in seen] == [id(unit) for unit in units]
    assert packing == any(len(unit) > 1 for unit in units)


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_the_full_models_over_every_row_by_itself(trl, arms, tmp_path, spec, packing):
    trainer, units, _ = trainer_for(trl, arms, tmp_path, spec(packing=packing, max_length=250))
    assert packing == any(len(unit) > 1 for unit in units)
    full = trl.AutoModelForCausalLM.from_pretrained(arms[1] / "mul_tokens-s0/base/model").eval()
    batches = list(trainer.get_train_dataloader())
    count = sum(row.supervised for unit in units for row in unit)
    ours = sum(
        trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=count) for batch in batches
    )
    total = 0.0
    for row in (row for unit in units for row in unit):
        logits = full(torch.tensor(row.ids[None])).logits[0, :-1]
        targets = torch.tensor(row.labels[1:], dtype=torch.long)
        total += torch.nn.functional.cross_entropy(
            logits, targets, ignore_index=IGNORE, reduction="sum"
        ).item()
    assert ours.item() == pytest.approx(total / count, abs=1e-6)


def test_flops_are_those_of_the_matrices_that_are_multiplied(trl, arms, tmp_path, spec):
    trainer, units, encoder = trainer_for(trl, arms, tmp_path, spec(examples=8, batch_size=1, micro_batch=1))
    batch, [row] = next(iter(trainer.get_train_dataloader())), units[0]
    with FlopCounterMode(display=False) as counter:
        trainer.compute_loss(trainer.model, batch, num_items_in_batch=1).backward()
    matrices = sum(
        n for op, n in counter.get_flop_counts()["Global"].items() if op.__name__.startswith(("mm", "addmm"))
    )
    attention = 6 * 1 * 32 * len(row.ids) ** 2
    assert Shape(1, 32, encoder.size).flops(row) - attention == matrices


def test_the_list_of_trl_fields_is_that_of_the_installed_trl(trl):
    from trl import GRPOConfig

    listed = json.loads((ROOT / "sft/trl_fields.json").read_text())
    for config in (trl.SFTConfig, GRPOConfig):
        assert sorted(listed[config.__name__]) == sorted(field.name for field in dataclasses.fields(config))


def test_what_the_stage_sets_is_owned_but_for_the_optimizers_own_knobs(trl, spec):
    free = {
        "optim",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "max_grad_norm",
        "logging_first_step",
        "log_level",
        "log_level_replica",
    }
    assert set(trl.settings(spec(), 0, 1, Path("x"))) - OWNED <= free
    assert trl.settings(spec(trainer={"max_grad_norm": 0.5}), 0, 1, Path("x"))["max_grad_norm"] == 0.5


# --- the stage -----------------------------------------------------------------------------------------------


def test_a_stage_trains_a_model_that_loads_anywhere_and_is_then_skipped(trl, arms, capsys):
    directory = tune(arms, "tune")
    record = json.loads((directory / "stage.json").read_text())["record"]
    (part,) = record["parts"]
    assert (
        part["read"] == part["kept"] + sum(part["dropped"].values())
        and part["examples"] == record["examples"] == 24
    )
    assert (
        record["steps"] == 6
        and 0 < record["supervised_tokens"] < record["tokens"]
        and record["facts_per_example"] > 0
    )
    model = trl.AutoModelForCausalLM.from_pretrained(directory / "model")
    assert model.config.activation_function == "gelu_new" and model.config.resid_pdrop == 0
    encoder = encode.from_dir(directory / "model")
    assert (
        model.generation_config.suppress_tokens == encoder.suppressed
        and model.generation_config.eos_token_id == encoder.eos
    )
    assert differ(weights(directory), weights(arms[1] / "mul_tokens-s0/base")) > 1e-4
    capsys.readouterr()
    tune(arms, "tune")
    assert "done already, skipped" in capsys.readouterr().err


@CPU
def test_micro_batches_make_the_same_step(arms):
    assert differ(weights(tune(arms, "tune")), weights(tune(arms, "whole_batches"))) < 1e-5


@CPU
def test_two_processes_make_the_same_steps_as_one(arms, torchrun):
    file, runs = arms
    command = [*torchrun, "sft.train", file, "mul_tokens", "0", "two"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert differ(weights(tune(arms, "tune")), weights(runs / "mul_tokens-s0/two")) < 1e-5


def test_packed_rows_train(arms):
    record = json.loads((tune(arms, "packed") / "stage.json").read_text())["record"]
    assert record["examples"] >= 24 and record["steps"] * 4 < record["examples"]


@CPU
def test_a_killed_stage_goes_on_to_the_same_weights(trl, arms, monkeypatch):
    whole = weights(tune(arms, "tune"))
    steps = []

    def killed(self, args, state, control, **kwargs):
        steps.append(state.global_step)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trl.Report, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(arms, "interrupted")
    assert steps == [1, 2, 3, 4, 5]
    after = []
    monkeypatch.setattr(
        trl.Report,
        "on_step_end",
        lambda self, args, state, control, **kwargs: after.append(state.global_step),
    )
    directory = tune(arms, "interrupted")
    assert after == [5, 6]
    assert differ(whole, weights(directory)) == 0
    assert not (directory / "checkpoints").exists()


def test_a_stage_killed_while_it_saves_its_model_has_lost_no_step(trl, arms, monkeypatch):
    whole = weights(tune(arms, "tune"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trl.encode, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(arms, "killed")
    monkeypatch.setattr(trl.Trainer, "training_step", None)  # nothing is trained any more
    assert differ(whole, weights(tune(arms, "killed"))) == 0


def test_a_curriculum_keeps_its_phases_apart_and_in_order(arms, monkeypatch):
    from sft import trl_trainer

    given = []
    monkeypatch.setattr(trl_trainer, "fit", lambda run, encoder, units, passes: given.extend(units) or [])
    directory = tune(arms, "curriculum")
    encoder = Encoder(Condition("x", "token", "multiplication", 4096))
    drills = [encoder.render(row.ids).startswith("User: What is ") for unit in given for row in unit]
    assert drills == [True] * 8 + [False] * 4
    record = json.loads((directory / "stage.json").read_text())["record"]
    assert [(part["task"], part["examples"]) for part in record["parts"]] == [("drills", 8), ("tinygsm", 4)]


@pytest.mark.parametrize(
    "name, said",
    [
        ("long", r"small.yaml: stages.long.max_length: 300 is more than the 256 positions"),
        ("cold", r"small.yaml: stages.cold.warmup: 99 steps are not less than the stage's 4;"),
        ("diverging", r"small.yaml: stages.diverging: the loss is not finite at step \d+; lower lr"),
        ("odd", r"small.yaml: stages.odd: TRL refuses: .*newton"),
    ],
)
def test_what_cannot_be_trained_is_one_line(arms, name, said):
    with pytest.raises(UserError, match=said):
        tune(arms, name)


def test_a_model_of_another_vocabulary_is_one_line(arms):
    file, runs = arms
    encoder = Encoder(Condition("mul_tokens", "token", "squares", 4096))
    run = SimpleNamespace(parent=runs / "mul_tokens-s0/base", spec=None)
    with pytest.raises(UserError, match=f"config.json: has 4189 ids and mul_tokens {encoder.size}"):
        train.read_shape(run, encoder)


def test_a_batch_that_the_processes_cannot_share_is_one_line(arms, monkeypatch):
    monkeypatch.setattr(world, "WORLD", 4)
    with pytest.raises(
        UserError, match="uneven.batch_size: 6 is not a multiple of micro_batch 3 × 4 processes"
    ):
        tune(arms, "uneven")


@CPU
def test_half_precision_without_a_gpu_is_one_line(arms):
    with pytest.raises(UserError, match="halves.precision: bf16 needs a GPU"):
        tune(arms, "halves")
