"""What all training shares: schedules, optimizers, memory, the place and the dashboards."""

import itertools
import sys
from types import SimpleNamespace

import accelerate.tracking  # noqa: F401, looks which packages are installed before a test pretends
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

import training
from model import GPT, GPTConfig
from muon import Muon, orthogonal
from pipeline import world
from pipeline.errors import UserError
from pipeline.sections import Pretrain
from training import Place, largest_that_fits, micro_batches, optimizers, refuse_memory, schedule

CONFIG = GPTConfig(150, 2, 4, 32, 24)
HERE = Place(torch.device("cpu"))


def rates(scheduler_of) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler, seen = scheduler_of(optimizer), []
    for _ in range(50):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    "name, theirs",
    [("cosine", "cosine"), ("linear", "linear"), ("constant", "constant_with_warmup")],
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_from_zero_are_those_of_transformers(name, theirs, warmup):
    ours = rates(lambda o: LambdaLR(o, schedule(name, warmup, 50, from_zero=True)))
    assert ours == rates(lambda o: get_scheduler(theirs, o, num_warmup_steps=warmup, num_training_steps=50))


@pytest.mark.parametrize("name", training.SCHEDULES)
def test_a_schedule_warms_up_falls_and_reaches_its_end_in_the_last_step(name):
    seen = [schedule(name, 10, 100, 1e-3, 1e-4)(step) for step in range(100)]
    assert seen[0] == pytest.approx(1e-4) and seen[9] == pytest.approx(1e-3) == max(seen)
    assert all(a >= b for a, b in itertools.pairwise(seen[9:]))
    assert seen[-1] == pytest.approx(1e-3 if name == "constant" else 1e-4)


def test_wsd_is_stable_for_four_fifths():
    seen = [schedule("wsd", 0, 101)(step) for step in range(101)]
    assert seen[:81] == [1.0] * 81 and seen[85] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizers_cover_every_parameter_once_and_only_matrices_decay(name):
    model = GPT(CONFIG).init_weights(0)
    chosen = optimizers(model, name, 1e-3, (0.9, 0.95), 0.5)
    decay = [(p, g["weight_decay"]) for o in chosen for g in o.param_groups for p in g["params"]]
    assert {id(p) for p, _ in decay} == {id(p) for p in model.parameters()} and len(decay) == len(
        list(model.parameters())
    )
    assert all(share == (0.5 if p.dim() > 1 else 0.0) for p, share in decay)


def test_muon_takes_the_matrices_of_the_blocks_and_learns():
    model = GPT(CONFIG).init_weights(0)
    adamw, muon = optimizers(model, "muon", 3e-3, (0.9, 0.95), 0.1)
    inside = {id(p) for block in model.h for p in block.parameters() if p.dim() == 2}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == inside
    ids = torch.randint(150, (4, 25), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(15):
        loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        for optimizer in (adamw, muon):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (16, 16)])
def test_muon_makes_every_singular_value_about_one_and_agrees_with_pytorchs(shape):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for _ in range(2)] for _ in range(2))
    optimizers = Muon(ours, 0.1, 0.5), torch.optim.Muon(theirs, 0.1, 0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for a, b in zip(ours, theirs):
            a.grad = torch.randn(shape, generator=generator)
            b.grad = a.grad.clone()
            values = torch.linalg.svdvals(orthogonal(a.grad[None]))
            assert values.min() > 0.3 and values.max() < 1.3
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs):
        change, expected = (p.detach() - 0.95**3 for p in (a, b))
        assert (change - expected).norm() < 0.02 * expected.norm()  # PyTorch's is bf16, of 8 bits


def test_a_share_is_cut_into_equal_parts_below_the_ceiling():
    assert micro_batches(8) == [8, 4, 2, 1] and micro_batches(12, 5) == [4, 3, 2, 1]
    assert micro_batches(4, 64) == [4, 2, 1]


def test_the_largest_micro_batch_that_fits_is_found_and_other_errors_pass():
    tried = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(attempt, [8, 4, 2, 1], HERE) == 2 and tried == [8, 4, 2]
    assert largest_that_fits(attempt, [8, 4], HERE) is None
    with pytest.raises(RuntimeError, match="size"):
        largest_that_fits(lambda size: torch.zeros(size) @ torch.zeros(3), [1], HERE)


def test_what_does_not_fit_is_one_line_with_a_value_that_does():
    def refuse(key, why):
        raise UserError(f"{key}: {why}")

    with pytest.raises(UserError, match=r"^micro_batch: 64 windows at once do not fit.*set micro_batch: 16"):
        refuse_memory(refuse, 64, 16)
    with pytest.raises(UserError, match="not even 1 fits"):
        refuse_memory(refuse, 1, None)


@pytest.mark.parametrize("given, seen", [(None, "0"), ("3,5", "3"), ("", ""), ("GPU-4f,GPU-5a", "GPU-4f")])
def test_a_single_process_sees_the_first_gpu_that_it_was_given(given, seen, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with training.placed():
        assert training.os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_several_processes_keep_the_gpus_that_they_were_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(world, "WORLD", 2)
    training._see_one_gpu()
    assert training.os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_attention_by_cudnn_is_off():
    assert not torch.backends.cuda.cudnn_sdp_enabled()


# --- dashboards ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """What a dashboard asks of a run."""
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "steps": 1, "batch_size": 1}
    sizes |= {"micro_batch": 1, "lr": 1.0, "min_lr": 0.0, "warmup": 0, "weight_decay": 0.0}
    words = {"run": "pretrain", "from": "prepare", "precision": "fp32", "compile": False}
    spec = Pretrain(**sizes, **words, eval_every=1, save_every=1)

    def refuse(key, why):
        raise UserError(f"stages.pretrain.{key}: {why}")

    names = {"condition": "plain", "seed": 0, "name": "pretrain", "identity": {}, "dir": tmp_path}
    return SimpleNamespace(experiment=SimpleNamespace(name="try"), spec=spec, refuse=refuse, **names)


class Fake:
    """A dashboard's package: what was opened and what was logged."""

    def __init__(self, error: str = ""):
        self.opened, self.lines, self.error = [], [], error

    def init(self, **names):
        if self.error:
            raise ValueError(self.error)
        self.opened.append(names)
        return self

    def log(self, values, step):
        self.lines.append((step, values))


def test_several_dashboards_get_every_line_under_one_id(run, monkeypatch):
    wandb, trackio = Fake(), Fake()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for step in (0, 10):
        training.dashboards(run, ["wandb", "trackio", "wandb"], step)({"step": step + 5, "loss": 1.5})
    for fake in (wandb, trackio):
        assert [step for step, _ in fake.lines] == [5, 15] and fake.lines[0][1]["loss"] == 1.5
        assert len(fake.opened) == 2 and fake.opened[0] == fake.opened[1]
        assert (fake.opened[0]["project"], fake.opened[0]["group"]) == ("try", "plain")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_dashboard_that_is_not_installed_is_refused_with_the_remedy(run, name, monkeypatch):
    for module in ("wandb", "trackio", "tensorboard", "tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"report_to: {name} is not installed; run: .*pip install {name}"):
        training.dashboards(run, name, 0)


def test_a_missing_login_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Fake("No API key configured.\nUse `wandb login` to log in."))
    with pytest.raises(UserError, match=r"report_to: wandb: No API key configured.; log in to it") as error:
        training.dashboards(run, "wandb", 0)
    assert "\n" not in str(error.value)


def test_none_is_no_dashboard(run):
    training.dashboards(run, "none", 0)({"step": 1})
