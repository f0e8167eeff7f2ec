"""Pretraining: it learns, goes on exactly where it was stopped, and refuses what would corrupt it."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import accelerate.tracking  # noqa: F401, looks which packages are installed before a test pretends
import pytest
import torch
from safetensors.torch import load_file

from eval import bpb
from eval.tasks.task import load
from model import GPT, GPTConfig
from pipeline import stage, world
from pipeline.errors import UserError
from pipeline.files import ROOT
from pipeline.sections import Pretrain
from pretrain import checkpoint, looks, prepare, train
from pretrain.loader import Documents, Windows
from pretrain.looks import Looks
from pretrain.network import Network, refuse_cpu
from tests.pretrain import torture
from tokenizer import encode
from tokenizer.conditions import Condition
from training import Place, optimizers, tune

CONFIG = GPTConfig(1117, 2, 2, 32, 32)
CONDITION = Condition("mul_tokens", "token", "multiplication", 1024)
HERE = Place(torch.device("cpu"), 0, 1)
pytestmark = pytest.mark.usefixtures("no_gpu")  # bits and two ranks are promised of CPUs
WORDS = {
    "run": "pretrain",
    "from": "prepare",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "steps": 40,
    "batch_size": 8,
    "micro_batch": 8,
    "lr": 2e-3,
    "min_lr": 2e-4,
    "warmup": 5,
    "weight_decay": 0.1,
    "precision": "fp32",
    "compile": False,
    "eval_every": 20,
    "save_every": 10,
}


def spec(**keys) -> Pretrain:
    return Pretrain(**WORDS | keys)


def windows(seed: int = 0) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, (8, 33), generator=torch.Generator().manual_seed(seed))


class Training:
    """A network with its optimizers, a step at a time: pretrain.train's own, without a run around it."""

    def __init__(self, **keys):
        asked, self.clip = spec(**keys), spec(**keys).clip
        self.model = GPT(CONFIG).init_weights(0)
        self.optimizers = optimizers(self.model, asked.optimizer, asked.lr, asked.betas, asked.weight_decay)
        self.network = Network(self.model, self.optimizers, asked, HERE, refuse)

    def step(self, batch: torch.Tensor, lr: float = 1e-3) -> torch.Tensor:
        return train.update(self.network, self.optimizers, batch, lr, self.clip)

    def parameters(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def refuse(key: str, why: str):
    raise UserError(f"{key}: {why}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """RUNS with data prepared for the torture's experiment, its file beside."""
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "torture.yaml").write_text(torture.EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS", str(folder))
        prepare.main([str(folder / "torture.yaml"), "mul_tokens", "0"])
    return folder


@pytest.fixture
def words(prepared, tmp_path, monkeypatch):
    """The words of the experiment; the data is shared, the results are this test's own."""
    (tmp_path / "data").symlink_to(prepared / "data")
    monkeypatch.setenv("RUNS", str(tmp_path))
    return [str(prepared / "torture.yaml"), "mul_tokens", "0"]


def directory(runs: Path) -> Path:
    return runs / "torture" / "mul_tokens-s0" / "pretrain"


def metrics(runs: Path) -> list[dict]:
    return [json.loads(line) for line in (directory(runs) / "metrics.jsonl").read_text().splitlines()]


# --- one step -----------------------------------------------------------------------------------------------


def gradients_of(training: Training) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The report of a step, and the gradients that its optimizer was given."""
    gradients = {}

    def keep(*_):
        gradients.update({name: p.grad.clone() for name, p in training.model.named_parameters()})

    training.optimizers[0].register_step_pre_hook(keep)
    return training.step(windows()), gradients


def assert_same_step(a, b):
    """Loss, norm and gradients: not weights, since Adam divides a tiny gradient's rounding by itself."""
    torch.testing.assert_close(a[0], b[0])
    for name, expected in a[1].items():
        # Sums of fp32 in another order: each rounding is an epsilon of the terms, which are of the whole's size.
        error = (b[1][name] - expected).norm() / expected.norm()
        assert error < 100 * torch.finfo(torch.float32).eps, name


def test_micro_batches_and_the_whole_batch_give_the_same_step():
    whole = gradients_of(Training(micro_batch=8))
    for micro_batch in (3, 1):
        assert_same_step(whole, gradients_of(Training(micro_batch=micro_batch)))


def test_micro_batch_is_a_ceiling_and_says_what_was_taken(capsys):
    for asked, taken in ((64, 8), (3, 2), (8, 8)):
        assert Training(micro_batch=asked).network.micro_batch == taken
        assert (f"micro_batch: {taken} ({asked} is asked)" in capsys.readouterr().err) == (asked != taken)


class Memory:
    """A device with room for so many windows of a forward pass."""

    def __init__(self, monkeypatch, windows: int):
        forward = GPT.forward

        def bounded(self, ids, *args):
            if len(ids) > windows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return forward(self, ids, *args)

        monkeypatch.setattr(GPT, "forward", bounded)


def test_micro_batch_auto_is_the_largest_that_fits(monkeypatch, capsys):
    Memory(monkeypatch, 4)
    training = Training(micro_batch="auto")
    assert training.network.micro_batch == 4 and "micro_batch: 4 (auto is asked)" in capsys.readouterr().err
    assert all(p.grad is None for p in training.model.parameters())
    assert_same_step(gradients_of(Training(micro_batch=4)), gradients_of(training))


def test_what_is_not_even_one_window_is_refused(monkeypatch):
    Memory(monkeypatch, 0)
    with pytest.raises(UserError, match="not even 1 fits"):
        Training(micro_batch="auto")


def test_out_of_memory_is_one_line_with_a_value_that_fits(words, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        Memory(patch, 3)
        with pytest.raises(UserError, match=r"pretrain.micro_batch: 8 windows .*; 2 would fit; set") as error:
            train.main(changed(words, micro_batch=8))
    assert "\n" not in str(error.value)


def test_micro_batch_auto_keeps_room_only_for_moments_that_are_not_there_yet(words, tmp_path, monkeypatch):
    """A device with room for either the moments or nothing: after a resume the optimizer holds them."""
    steps, empty = signal_at(20, monkeypatch), torch.empty

    def bounded(*size, **kwargs):
        if isinstance(size[0], int) and size[0] > 10_000:  # shapes of weights come as tuples
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return empty(*size, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="not even 1 fits"):
        patch.setattr(torch, "empty", bounded)
        train.main(changed(words, micro_batch="auto"))
    train.main(changed(words, micro_batch=8))
    assert 20 < len(steps) < 40
    monkeypatch.setattr(torch, "empty", bounded)
    train.main(changed(words, micro_batch="auto"))
    record = json.loads((tmp_path / "changed/mul_tokens-s0/pretrain/stage.json").read_text())["record"]
    assert record["micro_batch"] == 8


@pytest.mark.parametrize(
    "look, part, key",
    [("validate", "bpb.document_nats", "eval_every"), ("hellaswag", "logprobs", "hellaswag_every")],
)
def test_a_look_that_does_not_fit_is_one_line(look, part, key, words, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(looks, "load_task", lambda *args: (load(*args)[0][:4], {}))
    monkeypatch.setattr(f"pretrain.looks.{part}", full)
    with pytest.raises(
        UserError, match=rf"stages.pretrain.{key}: .* does not fit .* run it again on"
    ) as error:
        train.main(changed(words, hellaswag_every=10, hellaswag="sample", block_size=64))
    assert "\n" not in str(error.value)


def test_the_loss_reported_is_the_models_own():
    with torch.no_grad():
        logits = GPT(CONFIG).init_weights(0)(windows()[:, :-1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows()[:, 1:].flatten())
    assert Training().step(windows())[0] == pytest.approx(expected.item(), rel=1e-5)
    assert expected == pytest.approx(math.log(CONFIG.vocab_size), abs=0.5)  # a narrow model starts wide


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_what_is_not_finite_updates_nothing_then_or_later(optimizer):
    training = Training(optimizer=optimizer)
    training.step(windows())
    before = training.parameters()
    bias = training.model.ln_f.bias
    with torch.no_grad():
        bias.fill_(math.inf)
    assert not math.isfinite(training.step(windows())[0])
    with torch.no_grad():
        bias.copy_(before["ln_f.bias"])
    assert math.isfinite(training.step(windows())[0])
    after = training.parameters()
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_fp32_products_keep_their_precision_once_tuned():
    tune(torch.device("cpu"))
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    assert (a @ a - (a.double() @ a.double())).abs().max() < 1e-4


def test_where_compiling_fails_training_is_eager_and_says_so(monkeypatch, capsys):
    def broken(*args, **keys):
        raise RuntimeError("InductorError: no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    training = Training(compile=True)
    assert "torch.compile failed" in capsys.readouterr().err and not training.network.compiled
    assert torch.equal(training.step(windows()), Training().step(windows()))


def test_a_compiler_that_runs_out_of_memory_is_not_a_compiler_that_fails(monkeypatch):
    def full(*args, **keys):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda network, **keys: full)
    with pytest.raises(UserError, match="micro_batch: 8 windows at once do not fit"):
        Training(compile=True)


def test_a_large_model_is_not_trained_on_a_cpu_unasked(monkeypatch):
    config = GPTConfig(50349, 12, 12, 768, 1024)
    with pytest.raises(UserError, match="124M parameters.*ALLOW_CPU=1"):
        refuse_cpu(config, torch.device("cpu"))
    refuse_cpu(config, torch.device("cuda"))
    monkeypatch.setenv("ALLOW_CPU", "1")
    refuse_cpu(config, torch.device("cpu"))


# --- a run --------------------------------------------------------------------------------------------------


def test_it_learns_and_leaves_what_export_needs(words, tmp_path):
    train.main(words)
    lines = metrics(tmp_path)
    losses = [line["loss"] for line in lines if "loss" in line]
    seen = [line for line in lines if "val_loss" in line]
    assert losses[-1] < losses[0] - 0.5 and [line["step"] for line in seen] == [15, 30, 40]
    assert seen[-1]["val_bits_per_byte"] < seen[0]["val_bits_per_byte"]
    assert {"val_bits_per_byte_without_facts", "val_loss"} <= seen[0].keys()
    config = GPTConfig(**json.loads((directory(tmp_path) / "config.json").read_text()))
    model = GPT.from_tensors(load_file(directory(tmp_path) / "model.safetensors"), config)
    assert config.vocab_size == 1117 and model.wte.weight.dtype == torch.float32
    record = json.loads((directory(tmp_path) / "stage.json").read_text())["record"]
    assert record["tokens"] == 40 * 8 * 32 and record["flops"] == pytest.approx(
        record["tokens"] * model.flops_per_token()
    )
    assert 0 <= record["tokens_left_out_per_epoch"] < 32
    assert len(list((directory(tmp_path) / "checkpoints").iterdir())) == 2


def changed(words: list[str], **keys) -> list[str]:
    """The words of an experiment with other keys in its pretraining."""
    sets = [word for key, value in keys.items() for word in ("--set", f"stages.pretrain.{key}={value}")]
    return [*words, *sets, "--name", "changed"]


def test_a_budget_in_documents_ends_in_the_step_that_has_read_them(words, tmp_path):
    train.main(changed(words, steps="null", examples=300))
    record = json.loads((tmp_path / "changed/mul_tokens-s0/pretrain/stage.json").read_text())["record"]
    (data,) = (tmp_path / "data").iterdir()
    windows = Windows(Documents(data, "train", encode.Encoder(CONDITION).fingerprint()), 32, 0)
    assert len(windows.documents) < 300 and record["epochs"] > 1
    steps, rest = divmod(record["tokens"], 8 * 32)
    assert rest == 0 and 8 * (steps - 1) < windows.holding(300) <= 8 * steps


def test_fact_rows_may_begin_as_the_mean_of_their_spelling(words, tmp_path):
    train.main(changed(words, fact_rows="mean", steps=1, warmup=0, lr=1e-9, min_lr=0, weight_decay=0))
    rows = load_file(tmp_path / "changed/mul_tokens-s0/pretrain/model.safetensors")["wte.weight"]
    start = GPT(GPTConfig(1117, 2, 2, 32, 32)).init_weights(0).wte.weight
    spellings = encode.Encoder(CONDITION).spellings()
    assert torch.allclose(rows[: min(spellings)], start[: min(spellings)], atol=1e-7)
    for row, ids in spellings.items():
        assert torch.allclose(rows[row], start[ids].mean(0), atol=1e-7)


def another(runs: Path, name: str, monkeypatch) -> Path:
    """A second RUNS with the same data."""
    (runs / name).mkdir()
    (runs / name / "data").symlink_to(runs / "data")
    monkeypatch.setenv("RUNS", str(runs / name))
    return runs / name


def signal_at(step: int, monkeypatch) -> list[int]:
    """Let SIGTERM arrive in a step, once; the steps that are made."""
    update, steps = train.update, []

    def signalled(*args):
        steps.append(len(steps))
        if steps[-1] == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*args)

    monkeypatch.setattr(train, "update", signalled)
    return steps


def without_times(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in torture.TIMES} for line in lines]


def test_sigterm_saves_within_a_step_and_the_rest_is_exact(words, tmp_path, monkeypatch, capsys):
    train.main(words)
    whole, lines = (directory(tmp_path) / "model.safetensors").read_bytes(), metrics(tmp_path)
    stopped = another(tmp_path, "stopped", monkeypatch)
    steps, save = signal_at(16, monkeypatch), checkpoint.save

    def signalled(*args):
        if len(steps) > 16:
            os.kill(os.getpid(), signal.SIGTERM)  # once more, in the save
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", signalled)
        train.main(words)
    assert len(steps) <= 18 and f"stopped at step {len(steps)}" in capsys.readouterr().err
    assert not (directory(stopped) / "stage.json").exists()
    train.main(words)
    assert len(steps) == 40
    assert (directory(stopped) / "model.safetensors").read_bytes() == whole
    # The losses of the steps before the signal are part of the first line behind it.
    assert without_times(metrics(stopped)) == without_times(lines)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_in_the_last_step_leaves_the_last_look_to_be_made(words, tmp_path, monkeypatch):
    steps = signal_at(39, monkeypatch)
    train.main(words)
    assert len(steps) == 40 and not (directory(tmp_path) / "stage.json").exists()
    assert not any("val_loss" in line for line in metrics(tmp_path) if line["step"] == 40)
    train.main(words)
    assert len(steps) == 40 and (directory(tmp_path) / "stage.json").exists()
    assert [line["step"] for line in metrics(tmp_path) if "val_loss" in line] == [15, 30, 40]


def test_operational_keys_may_change_in_the_middle_of_a_run(words, tmp_path, monkeypatch):
    """As after an out-of-memory error: another micro-batch is another rounding, and nothing else."""
    monkeypatch.setitem(sys.modules, "wandb", Dashboard())
    text = Path(words[0]).read_text()
    (tmp_path / "torture.yaml").write_text(text)
    words = [str(tmp_path / "torture.yaml"), *words[1:]]
    steps = signal_at(31, monkeypatch)
    train.main(words)
    changes = {"micro_batch: 2": "micro_batch: 4", "compile: false": "compile: true"}
    changes |= {"save_every: 1": "save_every: 7, keep: 1, report_to: wandb"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "torture.yaml").write_text(text)
    monkeypatch.setattr(torch, "compile", lambda network, **keys: network)
    train.main(words)
    assert len(steps) == 40
    record = json.loads((directory(tmp_path) / "stage.json").read_text())["record"]
    assert record["micro_batch"] == 4 and record["compiled"]
    assert [line["step"] for line in metrics(tmp_path) if "loss" in line] == [10, 20, 30, 40]
    assert [path.name for path in (directory(tmp_path) / "checkpoints").iterdir()] == ["00000040.safetensors"]


def test_a_damaged_log_does_not_end_a_resume(words, tmp_path, monkeypatch, capsys):
    signal_at(24, monkeypatch)
    train.main(words)
    log = directory(tmp_path) / "metrics.jsonl"
    first, rest = log.read_bytes().split(b"\n", 1)
    log.write_bytes(first + b"\n" + bytes(40) + b"\n[1]\n" + rest + bytes(10))
    train.main(words)
    assert "2 lines cannot be read and are removed" in capsys.readouterr().err
    assert [line["step"] for line in metrics(tmp_path) if "loss" in line] == [10, 20, 30, 40]


def test_more_warm_up_than_the_examples_give_steps_is_refused(words):
    with pytest.raises(UserError, match=r"warmup: 30 is more than the \d+ steps of 20 examples"):
        train.main(changed(words, steps="null", examples=20, warmup=30))


@pytest.mark.starts
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_a_random_moment_it_resumes_to_the_same_bits(ranks, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    torture.torture(
        tmp_path, ranks, kills=2 if ranks == 1 else 1, rng=random.Random(os.environ.get("SEED", "1"))
    )


@pytest.mark.starts
def test_under_torchrun_a_dead_rank_ends_all(words, tmp_path):
    (tmp_path / "long.yaml").write_text(Path(words[0]).read_text().replace("steps: 40", "steps: 1000000"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "pretrain.train", str(tmp_path / "long.yaml"), *words[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        log = tmp_path / "long" / "mul_tokens-s0" / "pretrain" / "metrics.jsonl"
        while not log.exists() and run.poll() is None:
            time.sleep(0.1)
        children = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
        assert len(children) == 2
        os.kill(children[1], signal.SIGKILL)
        start = time.monotonic()
        assert run.wait(30) != 0
        assert time.monotonic() - start < 30
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        run.kill()
        run.communicate()


def test_a_diverging_run_stops_and_names_its_documents(words, tmp_path):
    with pytest.raises(UserError, match=r"nothing of it is kept.*lower stages.pretrain.lr"):
        train.main([*words, "--set", "stages.pretrain.lr=1e30", "--name", "torture2"])
    bad = json.loads((tmp_path / "torture2/mul_tokens-s0/pretrain/bad_batch.json").read_text())
    assert len(bad["windows"]) == 8
    for pieces in bad["windows"].values():
        assert sum(tokens for _, _, tokens in pieces) == 33


def interrupted(words: list[str], monkeypatch) -> None:
    """A run that breaks in its first evaluation, after step 15."""
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(Looks, "validate", _power_cut)
        train.main(words)


def _power_cut(*args, **keys):
    raise RuntimeError("power cut")


def test_a_changed_key_is_refused_on_resume_and_named(words, tmp_path, monkeypatch, prepared):
    interrupted(words, monkeypatch)
    text = Path(words[0]).read_text()
    (tmp_path / "torture.yaml").write_text(text.replace("lr: 2e-3", "lr: 3e-3"))
    with pytest.raises(UserError, match=re.escape("section.lr: 0.002 → 0.003")):
        train.main([str(tmp_path / "torture.yaml"), *words[1:]])


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_and_said(damage, words, tmp_path, monkeypatch, capsys):
    train.main(words)
    whole = (directory(tmp_path) / "model.safetensors").read_bytes()
    broken = directory(another(tmp_path, "broken", monkeypatch))
    interrupted(words, monkeypatch)
    before, last = sorted((broken / "checkpoints").iterdir())
    content = bytearray(last.read_bytes())
    content[-1000] ^= 1
    last.write_bytes(content if damage == "flipped" else content[:-100])
    capsys.readouterr()
    train.main(words)
    lines = capsys.readouterr().err
    assert f"{last.name}: is damaged" in lines and f"going on from step {int(before.stem)}" in lines
    assert (broken / "checkpoints" / f"{last.name}.aside1").exists()
    assert (broken / "model.safetensors").read_bytes() == whole


def test_without_a_whole_checkpoint_it_does_not_silently_start_again(words, tmp_path, monkeypatch):
    interrupted(words, monkeypatch)
    for file in (directory(tmp_path) / "checkpoints").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="every checkpoint in it is damaged; remove it"):
        train.main(words)


@pytest.fixture
def saved(tmp_path) -> tuple[Training, Path]:
    """A training with checkpoints of its steps 10 and 20."""
    training = Training()
    training.step(windows())
    for step in (10, 20):
        checkpoint.save(tmp_path, step, [], training.model, training.optimizers, keep=2)
    return training, tmp_path


@pytest.mark.parametrize("place", ["safe_open", "_restore"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_checkpoint_that_does_not_fit_into_memory_is_not_damaged(place, error, saved, monkeypatch, capsys):
    training, folder = saved

    def full(*args):
        raise error

    monkeypatch.setattr(checkpoint, place, full)
    with pytest.raises(type(error)):
        checkpoint.load(folder, training.model, training.optimizers)
    assert "damaged" not in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_read_is_not_damaged(saved, monkeypatch):
    training, folder = saved

    def broken_disk(*args):
        raise OSError("Input/output error (os error 5)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "safe_open", broken_disk)
        with pytest.raises(UserError, match=r"00000020.safetensors: cannot be read \(.*no damage"):
            checkpoint.load(folder, training.model, training.optimizers)
    assert checkpoint.load(folder, training.model, training.optimizers)[0] == 20


def test_later_checkpoints_are_kept_under_another_name(saved, capsys):
    training, folder = saved
    damaged = []
    for _ in range(2):
        damaged.append((folder / "00000020.safetensors").read_bytes()[:-1])
        (folder / "00000020.safetensors").write_bytes(damaged[-1])
        assert checkpoint.load(folder, training.model, training.optimizers)[0] == 10
        checkpoint.set_aside(folder, 10)
        checkpoint.save(folder, 20, [], training.model, training.optimizers, keep=2)
    aside = [f"00000020.safetensors.aside{number}" for number in (1, 2)]
    whole = ["00000010.safetensors", "00000020.safetensors"]
    assert {file.name for file in folder.iterdir()} == {*whole, *aside}
    assert [(folder / name).read_bytes() for name in aside] == damaged
    assert "00000020.safetensors: is now 00000020.safetensors.aside2" in capsys.readouterr().err


def test_muon_goes_on_exactly(words, tmp_path, monkeypatch):
    keys = {"optimizer": "muon", "schedule": "wsd", "steps": 20}
    train.main(changed(words, **keys))
    whole = (tmp_path / "changed/mul_tokens-s0/pretrain/model.safetensors").read_bytes()
    stopped = another(tmp_path, "stopped", monkeypatch)
    signal_at(8, monkeypatch)
    train.main(changed(words, **keys))
    train.main(changed(words, **keys))
    assert (stopped / "changed/mul_tokens-s0/pretrain/model.safetensors").read_bytes() == whole


def test_a_flipped_bit_in_the_data_is_refused_before_the_first_step(words, tmp_path, monkeypatch):
    (tmp_path / "data").unlink()
    prepare.main(words)
    victim = next(tmp_path.glob("data/*/00000/train.npy"))
    content = bytearray(victim.read_bytes())
    content[2000] ^= 4
    victim.write_bytes(content)
    monkeypatch.setattr(train, "update", lambda *args: pytest.fail("a step was made"))
    with pytest.raises(UserError, match=f"{victim}: damaged since it was written"):
        train.main(words)


def test_a_batch_that_ranks_cannot_share_is_refused(words):
    with stage.begin("pretrain", words, None, resumable=True) as run:
        with pytest.raises(UserError, match="batch_size: 8 is not a multiple of 3"):
            train.train(run, Place(torch.device("cpu"), 0, 3))


@pytest.mark.starts
def test_ranks_come_late_and_rank_0_clears_slowly_and_all_start_alike(words, tmp_path, monkeypatch):
    """NCCL connects when it likes; gloo waits. So one rank comes late here, and rank 0's part takes long."""
    interrupted(words, monkeypatch)  # with checkpoints, which no rank may go on from
    move, init = stage._move_aside, torch.distributed.init_process_group

    def slowly(directory):
        time.sleep(2)
        move(directory)

    def late(*args, **keys):
        time.sleep(1 if world.RANK else 0)
        init(*args, **keys)

    monkeypatch.setattr(stage, "_move_aside", slowly)
    monkeypatch.setattr(torch.distributed, "init_process_group", late)
    assert torture.finish(torture.launch(2, [*words, "--overwrite"], tmp_path)) == [0, 0], (
        tmp_path / "rank0.log"
    ).read_text()
    assert json.loads((directory(tmp_path) / "stage.json").read_text())["record"]["micro_batch"] == 2


@pytest.mark.starts
def test_where_compiling_fails_on_one_rank_all_are_eager(words, tmp_path, monkeypatch):
    def compiles_on_rank_0(network, **keys):
        if world.RANK:
            raise RuntimeError("no C++ compiler")
        return network

    monkeypatch.setattr(torch, "compile", compiles_on_rank_0)
    runs = [*changed(words, compile="true", steps=6, micro_batch=64), "--overwrite"]
    assert torture.finish(torture.launch(2, runs, tmp_path)) == [0, 0]
    record = json.loads((tmp_path / "changed/mul_tokens-s0/pretrain/stage.json").read_text())["record"]
    assert record["compiled"] is False and record["micro_batch"] == 4
    for rank, message in enumerate(("on another process", "no C++ compiler")):
        log = (tmp_path / f"rank{rank}.log").read_text()
        assert f"torch.compile failed, so training is eager and slower: {message}" in log


class Dashboard:
    """A dashboard's package: what was opened, and the lines that were logged."""

    def __init__(self):
        self.opened, self.lines = [], []

    def init(self, **names):
        self.opened.append(names)
        return self

    def log(self, metrics, step):
        self.lines.append((step, metrics))


def test_hellaswag_is_looked_at_and_a_dashboard_gets_it_under_one_id(words, tmp_path, monkeypatch):
    dashboard = Dashboard()
    monkeypatch.setitem(sys.modules, "wandb", dashboard)
    keys = {"hellaswag_every": 30, "hellaswag": "sample", "report_to": "[wandb]", "block_size": 64}
    monkeypatch.setattr(looks, "load_task", lambda *args: (load(*args)[0][:40], {}))
    interrupted(changed(words, **keys), monkeypatch)
    train.main(changed(words, **keys))
    first, second = dashboard.opened
    assert first == second and (first["project"], first["group"]) == ("changed", "mul_tokens")
    lines = (tmp_path / "changed/mul_tokens-s0/pretrain/metrics.jsonl").read_text().splitlines()
    seen = [line for line in map(json.loads, lines) if "hellaswag_acc_norm" in line]
    assert [(line["step"], line["hellaswag_rows"]) for line in seen] == [(30, 40), (40, 40)]
    assert all(0 < line["hellaswag_acc_norm"] < 1 for line in seen)
    mirrored = [metrics for _, metrics in dashboard.lines if "hellaswag_acc_norm" in metrics]
    assert [m["hellaswag_acc_norm"] for m in mirrored] == [line["hellaswag_acc_norm"] for line in seen]


def test_looks_on_the_way_are_at_the_first_documents_and_the_last_is_at_all(words, monkeypatch):
    asked, nats = [], bpb.document_nats

    def counted(model, texts, *args):
        asked.append(len(texts))
        return nats(model, texts, *args)

    monkeypatch.setattr(bpb, "document_nats", counted)
    monkeypatch.setattr(looks, "LOOK_BYTES", 700)
    train.main(changed(words, steps=30))
    first, last = asked
    assert 0 < first < last


def test_a_dashboard_that_is_missing_is_refused_before_any_step(words, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(train, "update", lambda *args: pytest.fail("a step was made"))
    with pytest.raises(UserError, match=r"stages.pretrain.report_to: wandb is not installed; run: .*pip"):
        train.main(changed(words, report_to="wandb"))
