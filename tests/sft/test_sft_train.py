"""The stage as a whole, and TRL underneath: labels, loss, order, settings, resume."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import cross_entropy
import finetuning
import training
from eval.dev import DevLooks
from pipeline import stage, world
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT, write_json
from pipeline.results import read_result
from sft import curriculum, train, trl_trainer
from sft.batches import Shape, group, take
from sft.curriculum import parts
from tests import forks
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder
from training import Place

CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="exact on CPUs")
YAML = """
vocabulary: multiplication
tokenizer: {base: 4096}
conditions: {baseline: {mode: plain}, mul_tokens: {mode: token}}
seeds: [0]
stages:
  base: {run: import, base: FOLDER, rows: random}
  tune: &sft {run: sft, from: base, task: gsm8k, data: sample, examples: 24, batch_size: 4, micro_batch: 2,
    max_length: 120, lr: 1e-3, schedule: cosine, warmup: 1, weight_decay: 0.1, precision: fp32}
  whole_batches: {<<: *sft, micro_batch: 4}
  packed: {<<: *sft, packing: true}
  interrupted: {<<: *sft, save_every: 2}
  killed: {<<: *sft, save_every: 2}
  flipped: {<<: *sft, save_every: 2}
  curriculum:
    <<: *sft
    task: curriculum
    data: null
    examples: null
    phases: [{task: drills, data: sample, examples: 8}, {task: tinygsm, data: sample, examples: 4}]
  long: {<<: *sft, max_length: 300}
  halves: {<<: *sft, precision: bf16}
  two: {<<: *sft, eval_every: 3}
  watched: {<<: *sft, save_every: 2, eval_every: 2}
  watched_and_killed: {<<: *sft, save_every: 2, eval_every: 2}
  watched_programs: {<<: *sft, task: tinygsm, answer_format: program, annotations: strip, eval_every: 9, dev: sample}
  cold: {<<: *sft, examples: null, tokens: 1000, warmup: 99}
  diverging: {<<: *sft, lr: 1e38, trainer: {max_grad_norm: 0}}
  odd: {<<: *sft, trainer: {loging_dir: here}}
  ours: {<<: *sft, trainer: {optim: newton}}
  dirty: {<<: *sft, task: tulu, data: FOLDER/dirty.jsonl, examples: 8}
  watched_heavy: {<<: *sft, eval_every: 1}
  heavy: {<<: *sft, batch_size: 8, micro_batch: 8, save_every: 1}
  changed: {<<: *sft, save_every: 2}
"""


@pytest.fixture(scope="module")
def trl():
    return trl_trainer


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """An experiment file whose `base` stages hold a small random model each."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("sft")
    (folder / "model.safetensors").touch()  # the public weights; what the stage makes of them, we make here
    (folder / "small.yaml").write_text(YAML.replace("FOLDER", str(folder)))
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
    config = trl.SFTConfig(**trl.settings(spec, 0, tmp_path))
    model = trl.load(arms[1] / "mul_tokens-s0/base/model")
    return trl.build(model, encoder, units, spec, config), units, encoder


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


def test_flops_are_those_of_the_matrices_that_are_multiplied(trl, arms, tmp_path, spec, monkeypatch):
    """Those of the fused loss the counter does not see."""
    monkeypatch.setattr(cross_entropy, "fuses", lambda hidden: False)
    trainer, units, encoder = trainer_for(trl, arms, tmp_path, spec(examples=8, batch_size=1, micro_batch=1))
    batch, [row] = next(iter(trainer.get_train_dataloader())), units[0]
    with FlopCounterMode(display=False) as counter:
        trainer.compute_loss(trainer.model, batch, num_items_in_batch=1).backward()
    matrices = sum(
        n for op, n in counter.get_flop_counts()["Global"].items() if op.__name__.startswith(("mm", "addmm"))
    )
    attention = 6 * 1 * 32 * len(row.ids) ** 2
    assert Shape(1, 32, encoder.size).flops(row) - attention == matrices


def test_every_setting_of_the_optimization_is_written_out(trl, spec):
    """What TRL would decide by itself: change a default of it, and nothing that is trained may change."""
    import transformers

    silent = {field.name for field in dataclasses.fields(transformers.TrainingArguments)} - set(
        trl.settings(spec(), 0, Path("x"))
    )
    decisive = (
        "adam optim lr_ learning warmup decay norm clip label_smooth neftune bf16 fp16 seed epochs max_steps"
    )
    assert {name for name in silent if any(word in name for word in decisive.split())} == {
        "optim_args",
        "optim_target_modules",
        "lr_scheduler_kwargs",
        "bf16_full_eval",
        "fp16_full_eval",
        "max_grad_norm",
    }
    assert trl.FREE == {"max_grad_norm": 1.0}


def test_learning_rates_and_decay_are_those_that_pretraining_has(trl, arms, tmp_path, spec):
    trainer, units, _ = trainer_for(trl, arms, tmp_path, spec(schedule="wsd", warmup=3))
    told = []
    trainer.report = lambda step, metrics: told.append(metrics["lr"])
    trainer.train()
    rate = training.schedule("wsd", 3, len(units) // 8, from_zero=True)
    assert told == pytest.approx([1e-3 * rate(step) for step in range(len(units) // 8)])
    matrices, vectors = trainer.optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in matrices["params"]} == {2} and {p.dim() for p in vectors["params"]} == {1}


FAKE_GPUS = """
import os, torch, training
from trl import SFTConfig
torch.cuda.device_count = lambda: len(os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7").split(","))
torch.cuda.is_available = torch.cuda.is_bf16_supported = lambda *_: True
torch.cuda.set_device = lambda device: None
for given in (None, "5,6"):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    if given:
        os.environ["CUDA_VISIBLE_DEVICES"] = given
    with training.placed() as place:
        print(place.device, SFTConfig("x").n_gpu, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    os._exit(0)
"""


def test_trl_sees_one_of_a_machines_gpus():
    """It refuses to train in one process that sees several."""
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", FAKE_GPUS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["cuda:0 1 0", "cuda:0 1 5"], done.stderr


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
    assert "gsm8k: of" in (told := capsys.readouterr().err) and "longer than 120 tokens" in told
    tune(arms, "tune")
    assert "done already, skipped" in capsys.readouterr().err


def test_rows_that_cannot_be_used_are_skipped_counted_and_said(arms, capsys):
    file, _ = arms
    fine = [{"role": "user", "content": "6 * 9?"}, {"role": "assistant", "content": "54"}]
    rows = [fine] * 5 + [5, None, "text", [{"role": 3, "content": "x"}], [["user", "x"]], fine[:1], []]
    text = "".join(json.dumps({"messages": messages}) + "\n" for messages in rows)
    (Path(file).parent / "dirty.jsonl").write_text(text)
    directory = tune(arms, "dirty")
    (part,) = json.loads((directory / "stage.json").read_text())["record"]["parts"]
    assert (part["read"], part["kept"], sum(part["dropped"].values())) == (12, 5, 7)
    assert "of 12 rows read 5 kept, 8 trained on; dropped: " in (told := capsys.readouterr().err)
    assert all(f"{count} {reason}" in told for reason, count in part["dropped"].items())


@CPU
def test_micro_batches_make_the_same_step(arms):
    assert differ(weights(tune(arms, "tune")), weights(tune(arms, "whole_batches"))) < 1e-5


@CPU
def test_two_processes_make_the_same_steps_as_one(arms, tmp_path):
    file, runs = arms
    ranks = forks.launch(train.main, 2, [file, "mul_tokens", "0", "two"], tmp_path)
    assert forks.finish(ranks) == [0, 0], (tmp_path / "rank0.log").read_text()
    assert differ(weights(tune(arms, "tune")), weights(runs / "mul_tokens-s0/two")) < 1e-5
    (*_, one), (_, two) = looks(tune(arms, "watched")), looks(runs / "mul_tokens-s0/two")
    assert (one["step"], two["step"]) == (6, 6) and one["dev_problems"] == two["dev_problems"] == 200
    for key in ("dev_loss", "dev_gold_bits_per_byte"):
        assert one[key] == pytest.approx(two[key], rel=1e-4)


def test_packed_rows_train(arms):
    record = json.loads((tune(arms, "packed") / "stage.json").read_text())["record"]
    assert record["examples"] >= 24 and record["steps"] * 4 < record["examples"]


@pytest.fixture
def kill(monkeypatch):
    """kill(step) → a context in which training is killed behind that step, before it is saved."""

    @contextlib.contextmanager
    def killed(at):
        def report(self, step, metrics, **kwargs):
            call(self, step, metrics, **kwargs)
            if step == at:
                raise KeyboardInterrupt

        call = finetuning.Report.__call__
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(finetuning.Report, "__call__", report)
            yield

    return killed


def log(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@CPU
def test_a_killed_stage_goes_on_to_the_same_weights_and_the_same_log(arms, kill, monkeypatch):
    undisturbed = tune(arms, "tune")
    with kill(5):
        tune(arms, "interrupted")
    trained = []
    step = trl_trainer.UnitTrainer.training_step
    monkeypatch.setattr(
        trl_trainer.UnitTrainer, "training_step", lambda *a, **k: trained.append(1) or step(*a, **k)
    )
    directory = tune(arms, "interrupted")
    assert len(trained) == 2 * 2  # steps 5 and 6, of two micro-batches each
    assert differ(weights(undisturbed), weights(directory)) == 0
    assert log(undisturbed) == log(directory)
    assert [line["step"] for line in log(directory)] == [1, 2, 3, 4, 5, 6]
    assert not (directory / "checkpoints").exists()


def looks(directory):
    return [line for line in log(directory) if "dev_loss" in line]


@CPU
def test_looks_change_nothing_and_repeat_exactly_after_a_kill(arms, kill):
    undisturbed, watched = tune(arms, "tune"), tune(arms, "watched")
    assert differ(weights(undisturbed), weights(watched)) == 0
    assert [line for line in log(watched) if "loss" in line] == log(undisturbed)
    assert [line["step"] for line in looks(watched)] == [2, 4, 6]
    assert looks(watched)[-1]["dev_loss"] < looks(watched)[0]["dev_loss"]
    with kill(4):  # behind the look, before the step is saved
        tune(arms, "watched_and_killed")
    assert [line["step"] for line in looks(arms[1] / "mul_tokens-s0/watched_and_killed")] == [2, 4]
    assert log(tune(arms, "watched_and_killed")) == log(watched)
    assert read_result(undisturbed).expected == read_result(watched).expected


def test_dev_problems_are_never_trained_on_and_answered_as_training_writes_them(arms, spec, capsys):
    encoder = Encoder(Condition("mul_tokens", "token", "multiplication", 4096))
    run = SimpleNamespace(spec=spec(eval_every=2, annotations="strip"), name="x", experiment=load(arms[0]))
    problems = curriculum.dev_problems(run, encoder)
    assert "looks at 200 of 500 dev rows of sample; left out: " in capsys.readouterr().err
    (part,) = parts(run.spec)
    trained = {row["question"]: row["answer"] for row in curriculum.load(part, Counter(), 0)}
    assert len({problem.question for problem in problems} - trained.keys()) == 200
    assert not any("<<" in problem.solution for problem in problems)
    run.spec = spec(eval_every=2)
    assert any("<<" in problem.solution for problem in curriculum.dev_problems(run, encoder))


def test_a_stage_on_other_rows_looks_at_those_of_dev(arms):
    (line,) = looks(tune(arms, "watched_programs"))
    assert (line["step"], line["dev_problems"]) == (6, 200)


def test_a_look_that_does_not_fit_is_one_line(arms, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DevLooks, "__call__", full)
    with pytest.raises(
        UserError, match="stages.watched_heavy.eval_every: a look does not fit .* set it to 0"
    ):
        tune(arms, "watched_heavy")


@CPU
def test_micro_batch_and_save_every_may_change_in_the_middle_of_a_run(arms, kill, monkeypatch, tmp_path):
    whole = weights(tune(arms, "tune"))
    with kill(5):
        tune(arms, "changed")
    file, runs = arms
    text = Path(file).read_text()
    changed = "changed: {<<: *sft, save_every: 2}"
    assert changed in text
    saved = []
    save = trl_trainer.UnitTrainer._save_checkpoint
    monkeypatch.setattr(
        trl_trainer.UnitTrainer,
        "_save_checkpoint",
        lambda self, *a: saved.append(self.state.global_step) or save(self, *a),
    )
    Path(file).write_text(text.replace(changed, "changed: {<<: *sft, save_every: 1, micro_batch: 4}"))
    try:
        directory = tune(arms, "changed")
    finally:
        Path(file).write_text(text)
    assert saved == [5, 6] and differ(whole, weights(directory)) < 1e-5
    assert [line["step"] for line in log(directory)] == [1, 2, 3, 4, 5, 6]


@CPU
def test_a_damaged_checkpoint_is_passed_over_and_damaged_lines_are_said(arms, kill, capsys):
    """A bit that flipped on the disk, and the zeros that a power loss leaves in a file."""
    undisturbed = tune(arms, "tune")
    with kill(5):
        tune(arms, "flipped")
    directory = arms[1] / "mul_tokens-s0/flipped"
    file = directory / "checkpoints/checkpoint-4/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with open(directory / "metrics.jsonl", "ab") as metrics:
        metrics.write(b"\0" * 50 + b"\n[1]\n")
    tune(arms, "flipped")
    told = capsys.readouterr().err
    assert "checkpoint-4: damaged since it was saved; an earlier one is taken" in told
    assert "it is now damaged1-checkpoint-4" in told  # a name that transformers does not remove
    assert "metrics.jsonl: 2 lines cannot be read and are removed" in told
    assert differ(weights(undisturbed), weights(directory)) == 0 and log(directory) == log(undisturbed)


def test_a_checkpoint_that_cannot_be_read_is_not_damaged(tmp_path, monkeypatch, capsys):
    for step in (2, 4):
        checkpoint = tmp_path / f"checkpoints/checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        for name in finetuning.SAVED:
            (checkpoint / name).write_text(name)
        write_json(checkpoint / finetuning.SUMS, finetuning.sums(checkpoint))
    run, place = SimpleNamespace(dir=tmp_path), Place(torch.device("cpu"))

    def broken(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", broken)
        with pytest.raises(UserError, match="checkpoint-4/model.safetensors: cannot be read: Input/output"):
            finetuning.resume(run, place)
    assert finetuning.resume(run, place) == (str(checkpoint), 4) and not capsys.readouterr().err
    (checkpoint / "optimizer.pt").unlink()
    assert finetuning.resume(run, place)[1] == 2
    (aside,) = (tmp_path / "checkpoints").glob("damaged*")
    assert "checkpoint-4: damaged since" in capsys.readouterr().err and aside.name == "damaged1-checkpoint-4"


def test_a_stage_killed_before_it_is_declared_done_has_lost_no_step(arms, monkeypatch):
    whole = weights(tune(arms, "tune"))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.Run, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(arms, "killed")
    monkeypatch.setattr(trl_trainer.UnitTrainer, "training_step", None)  # nothing is trained any more
    assert differ(whole, weights(tune(arms, "killed"))) == 0


def test_out_of_memory_is_one_line_that_names_what_fits(arms, monkeypatch):
    compute = trl_trainer.UnitTrainer.compute_loss

    def full(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 2 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trl_trainer.UnitTrainer, "compute_loss", full)
        with pytest.raises(UserError, match="stages.heavy.micro_batch: 8 rows .* set micro_batch: 2 and"):
            tune(arms, "heavy")
    directory = arms[1] / "mul_tokens-s0/heavy"
    assert {path.name for path in (directory / "checkpoints").glob("c*")} == {"checkpoint-1", "checkpoint-2"}


def test_a_curriculum_keeps_its_phases_apart_and_in_order(arms, monkeypatch):
    given = []
    monkeypatch.setattr(trl_trainer, "fit", lambda run, place, encoder, units, *_: given.extend(units) or [])
    directory = tune(arms, "curriculum")
    encoder = Encoder(Condition("x", "token", "multiplication", 4096))
    drills = [encoder.render(row.ids).startswith("User: What is ") for unit in given for row in unit]
    assert drills == [True] * 8 + [False] * 4
    record = json.loads((directory / "stage.json").read_text())["record"]
    assert [(part["task"], part["examples"]) for part in record["parts"]] == [("drills", 8), ("tinygsm", 4)]


@pytest.mark.parametrize(
    "name, message",
    [
        ("long", r"small.yaml: stages.long.max_length: 300 is more than the model's 256 positions"),
        ("cold", r"small.yaml: stages.cold.warmup: 99 steps are not less than the stage's 4;"),
        (
            "diverging",
            r"small.yaml: stages.diverging.lr: (loss|grad_norm) is (nan|inf) at step \d+; lower it",
        ),
        ("odd", r"small.yaml: stages.odd.trainer: TRL refuses: .*'loging_dir'"),
        ("ours", r"small.yaml: stages.ours.trainer.optim: is set by the stage"),
    ],
)
def test_what_cannot_be_trained_is_one_line(arms, name, message):
    with pytest.raises(UserError, match=message):
        tune(arms, name)


def test_a_model_of_another_vocabulary_is_one_line(arms):
    file, runs = arms
    encoder = Encoder(Condition("mul_tokens", "token", "squares", 4096))
    run = SimpleNamespace(parent=runs / "mul_tokens-s0/base", spec=None)
    with pytest.raises(UserError, match=f"config.json: has 4189 ids and mul_tokens {encoder.size}"):
        train.read_shape(run, encoder)


@pytest.mark.parametrize(
    "processes, used, micro_batch, passes",
    [(1, 1, 3, 2), (2, 2, 3, 1), (3, 3, 2, 1), (4, 3, 2, 1), (6, 6, 1, 1), (8, 6, 1, 1)],
)
def test_any_number_of_processes_shares_a_batch(spec, monkeypatch, processes, used, micro_batch, passes):
    section = spec(batch_size=6, micro_batch=4)  # a ceiling that divides no share
    assert train.usable(section, processes) == used
    monkeypatch.setattr(world, "WORLD", used)
    assert finetuning.split(section.batch_size, section.micro_batch) == (micro_batch, passes)


@CPU
def test_half_precision_without_a_gpu_is_one_line(arms):
    with pytest.raises(UserError, match="halves.precision: bf16 needs a GPU"):
        tune(arms, "halves")
