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
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from eval.tasks.task import load
from model import GPT, GPTConfig
from pipeline import stage
from pipeline.errors import UserError
from pipeline.files import ROOT
from pipeline.sections import Pretrain
from pretrain import prepare, train
from pretrain.loader import Documents, Windows
from pretrain.trainer import Place, Trainer, learning_rate, placed, refuse_cpu
from tests.pretrain import torture
from tokenizer import encode
from tokenizer.conditions import Condition

CONFIG = GPTConfig(1117, 2, 2, 32, 32)
CONDITION = Condition("mul_tokens", "token", "multiplication", 1024)
HERE = Place(torch.device("cpu"), 0, 1)
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


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


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


def test_micro_batches_and_the_whole_batch_give_the_same_step():
    """Loss, norm and gradients: not weights, since Adam divides a tiny gradient's rounding by itself."""
    results = []
    for micro_batch in (8, 3, 1):
        trainer = Trainer(CONFIG, spec(micro_batch=micro_batch), 0, HERE)
        gradients = {}
        trainer.optimizer.register_step_pre_hook(
            lambda *_, trainer=trainer, gradients=gradients: gradients.update(
                {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
            )
        )
        results.append((trainer.step(windows(), 1e-3), gradients))
    for report, gradients in results[1:]:
        torch.testing.assert_close(report, results[0][0])
        for name, expected in results[0][1].items():
            # Sums of fp32 in another order: each rounding is an epsilon of the terms, which are of the whole's size.
            error = (gradients[name] - expected).norm() / expected.norm()
            assert error < 100 * torch.finfo(torch.float32).eps, name


def test_the_loss_reported_is_the_models_own():
    trainer = Trainer(CONFIG, spec(), 0, HERE)
    with torch.no_grad():
        logits = GPT(CONFIG).init_weights(0)(windows()[:, :-1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows()[:, 1:].flatten())
    assert trainer.step(windows(), 1e-3)[0] == pytest.approx(expected.item(), rel=1e-5)
    assert expected == pytest.approx(math.log(CONFIG.vocab_size), abs=0.5)  # a narrow model starts wide


def test_what_is_not_finite_updates_nothing_then_or_later():
    trainer = Trainer(CONFIG, spec(), 0, HERE)
    trainer.step(windows(), 1e-3)
    before = parameters(trainer)
    bias = trainer.model.ln_f.bias
    with torch.no_grad():
        bias.fill_(math.inf)
    assert not math.isfinite(trainer.step(windows(), 1e-3)[0])
    with torch.no_grad():
        bias.copy_(before["ln_f.bias"])
    assert math.isfinite(trainer.step(windows(), 1e-3)[0])
    after = parameters(trainer)
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_only_matrices_decay():
    trainer = Trainer(CONFIG, spec(weight_decay=0.5), 0, HERE)
    decay = {
        id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]
    }
    assert {name: decay[id(p)] for name, p in trainer.model.named_parameters()} == {
        name: 0.5 if p.dim() == 2 else 0.0 for name, p in trainer.model.named_parameters()
    }


def test_the_learning_rate_warms_up_and_ends_at_its_minimum():
    asked = spec(steps=100, warmup=10, lr=1e-3, min_lr=1e-4)
    rates = [learning_rate(asked, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3) == max(rates)
    assert rates[-1] == pytest.approx(1e-4)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:]))
    assert rates[10 + 45] == pytest.approx(5.5e-4, rel=0.02)


def test_fp32_products_keep_their_precision_once_tuned():
    with placed():
        a = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
        assert (a @ a - (a.double() @ a.double())).abs().max() < 1e-4


def test_where_compiling_fails_training_is_eager_and_says_so(monkeypatch, capsys):
    def broken(*args, **keys):
        raise RuntimeError("InductorError: no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    trainer, plain = Trainer(CONFIG, spec(compile=True), 0, HERE), Trainer(CONFIG, spec(), 0, HERE)
    trainer.wrap()
    assert "torch.compile failed" in capsys.readouterr().err
    assert torch.equal(trainer.step(windows(), 1e-3), plain.step(windows(), 1e-3))


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
    looks = [line for line in lines if "val_loss" in line]
    assert losses[-1] < losses[0] - 0.5 and [line["step"] for line in looks] == [15, 30, 40]
    assert looks[-1]["val_bits_per_byte"] < looks[0]["val_bits_per_byte"]
    assert {"val_bits_per_byte_without_facts", "val_loss"} <= looks[0].keys()
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


def test_sigterm_saves_within_a_step_and_the_rest_is_exact(words, tmp_path, monkeypatch, capsys):
    train.main(words)
    whole = (directory(tmp_path) / "model.safetensors").read_bytes()
    monkeypatch.setenv("RUNS", str(tmp_path / "stopped"))
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "data").symlink_to(tmp_path / "data")
    step, steps = Trainer.step, []

    def signalled(self, *args, **keys):
        steps.append(len(steps))
        if steps[-1] == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **keys)

    monkeypatch.setattr(Trainer, "step", signalled)
    train.main(words)
    assert len(steps) <= 18 and f"stopped at step {len(steps)}" in capsys.readouterr().err
    assert not (directory(tmp_path / "stopped") / "stage.json").exists()
    train.main(words)
    assert len(steps) == 40
    assert (directory(tmp_path / "stopped") / "model.safetensors").read_bytes() == whole
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_a_random_moment_it_resumes_to_the_same_bits(ranks, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    torture.torture(
        tmp_path, ranks, kills=2 if ranks == 1 else 1, rng=random.Random(os.environ.get("SEED", "1"))
    )


def test_under_torchrun_a_dead_rank_ends_all(words, tmp_path, torchrun):
    (tmp_path / "long.yaml").write_text(Path(words[0]).read_text().replace("steps: 40", "steps: 1000000"))
    command = [*torchrun, "pretrain.train", str(tmp_path / "long.yaml"), *words[1:]]
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
    with pytest.raises(UserError, match=r"nothing was updated.*lower stages.pretrain.lr"):
        train.main([*words, "--set", "stages.pretrain.lr=1e30", "--name", "torture2"])
    bad = json.loads((tmp_path / "torture2/mul_tokens-s0/pretrain/bad_batch.json").read_text())
    assert len(bad["windows"]) == 8
    for pieces in bad["windows"].values():
        assert sum(tokens for _, _, tokens in pieces) == 33


def interrupted(words: list[str], monkeypatch) -> None:
    """A run that breaks in its first evaluation, after step 15."""
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(Trainer, "evaluate", _power_cut)
        train.main(words)


def _power_cut(*args):
    raise RuntimeError("power cut")


def test_a_changed_key_is_refused_on_resume_and_named(words, tmp_path, monkeypatch, prepared):
    interrupted(words, monkeypatch)
    text = Path(words[0]).read_text()
    (tmp_path / "torture.yaml").write_text(text.replace("lr: 2e-3", "lr: 3e-3"))
    with pytest.raises(UserError, match=re.escape("section.lr: 0.002 → 0.003")):
        train.main([str(tmp_path / "torture.yaml"), *words[1:]])


def test_a_damaged_checkpoint_is_refused_and_the_one_before_takes_over(words, tmp_path, monkeypatch):
    train.main(words)
    whole = (directory(tmp_path) / "model.safetensors").read_bytes()
    monkeypatch.setenv("RUNS", str(tmp_path / "broken"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "data").symlink_to(tmp_path / "data")
    interrupted(words, monkeypatch)
    last = sorted((directory(tmp_path / "broken") / "checkpoints").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{last.name}: is damaged.*remove it"):
        train.main(words)
    last.unlink()
    train.main(words)
    assert (directory(tmp_path / "broken") / "model.safetensors").read_bytes() == whole


def test_a_flipped_bit_in_the_data_is_refused_before_the_first_step(words, tmp_path, monkeypatch):
    (tmp_path / "data").unlink()
    prepare.main(words)
    victim = next(tmp_path.glob("data/*/00000/train.npy"))
    content = bytearray(victim.read_bytes())
    content[2000] ^= 4
    victim.write_bytes(content)
    monkeypatch.setattr(Trainer, "step", lambda *args, **keys: pytest.fail("a step was made"))
    with pytest.raises(UserError, match=f"{victim}: damaged since it was written"):
        train.main(words)


def test_a_batch_that_ranks_cannot_share_is_refused(words):
    with stage.begin("pretrain", words, None, resumable=True) as run:
        with pytest.raises(UserError, match="batch_size: 8 is not a multiple of 3"):
            train.train(run, Place(torch.device("cpu"), 0, 3))


def test_ranks_that_find_other_checkpoints_are_refused_before_the_first_step(words, monkeypatch):
    place = Place(torch.device("cpu"), 0, 1)
    place.gather = lambda step: [step, 4]  # another rank went on from step 4
    with stage.begin("pretrain", words, None, resumable=True) as run:
        with pytest.raises(UserError, match="rank 0 finds it at step 0, another at 4"):
            train.train(run, place)
    assert not (run.dir / "metrics.jsonl").exists()


def test_hellaswag_is_looked_at_and_metrics_are_mirrored_under_one_id(words, tmp_path, monkeypatch):
    dashboard = SimpleNamespace(
        ids=[], lines=[], log=lambda metrics, step: dashboard.lines.append((step, metrics))
    )
    dashboard.init = lambda **names: dashboard.ids.append(names)
    monkeypatch.setitem(sys.modules, "wandb", dashboard)
    keys = {"hellaswag_every": 30, "hellaswag": "sample", "report_to": "wandb", "block_size": 64}
    sets = [word for key, value in keys.items() for word in ("--set", f"stages.pretrain.{key}={value}")]
    monkeypatch.setattr(train, "load_task", lambda *args: (load(*args)[0][:40], {}))
    sets += ["--name", "mirrored"]
    interrupted([*words, *sets], monkeypatch)
    train.main([*words, *sets])
    assert len(dashboard.ids) == 2 and dashboard.ids[0] == dashboard.ids[1]
    assert (dashboard.ids[0]["project"], dashboard.ids[0]["group"]) == ("mirrored", "mul_tokens")
    lines = (tmp_path / "mirrored/mul_tokens-s0/pretrain/metrics.jsonl").read_text().splitlines()
    looks = [line for line in map(json.loads, lines) if "hellaswag_acc_norm" in line]
    assert [(line["step"], line["hellaswag_rows"]) for line in looks] == [(30, 40), (40, 40)]
    assert all(0 < line["hellaswag_acc_norm"] < 1 for line in looks)
    mirrored = [metrics for _, metrics in dashboard.lines if "hellaswag_acc_norm" in metrics]
    assert [m["hellaswag_acc_norm"] for m in mirrored] == [line["hellaswag_acc_norm"] for line in looks]


def test_a_dashboard_that_is_not_installed_is_refused_with_the_remedy(words, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError, match=r"stages.pretrain.report_to: wandb is not installed; run: .*pip install wandb"
    ):
        train.main([*words, "--set", "stages.pretrain.report_to=wandb", "--name", "refused"])
