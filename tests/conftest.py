"""What every test may ask for."""

import gc
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import save_file

from eval import dev
from model import GPT, GPTConfig, to_hf
from pipeline.experiment import Experiment, load
from pipeline.files import ROOT
from pipeline.kinds import KINDS
from pipeline.lock import locked
from pretrain import documents
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder, save

torch.set_num_threads(1)
# Tests kill processes and cut no power, and the disk takes milliseconds for each.
os.fsync = lambda descriptor: None
# A busy machine is no failure: no deadline, and no complaint that examples come slowly.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Leave what is imported now out of garbage collections; the Trainers ask for one at every start and end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rows; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"{folder}: real data is not here; set SHARED_DATA to its folder")
    return folder


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    """Hide any GPU, here and in processes that the test starts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A RUNS folder of the test's own."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def run_arm() -> Callable[..., Experiment]:
    """Runs every stage of an arm, or those that are named, through the scripts' own mains, in this process.

    Prepare encodes and fine-tuning looks at as much as a small run needs.
    """

    def run(path: Path, condition: str, seed: int = 0, only: tuple[str, ...] = ()) -> Experiment:
        experiment = load(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "CHUNK", 50_000)
            patch.setattr(dev, "PROBLEMS", 16)
            for name in only or experiment.stage_names():
                main = importlib.import_module(KINDS[experiment.kind(name)].module).main
                main([str(path), condition, str(seed), name.removeprefix("eval_")])
        return experiment

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, run_arm) -> tuple[Experiment, Path]:
    """Both conditions of tests/tiny.yaml, run whole, once for all tests: (experiment, its RUNS). Change a copy.

    Of the suite's processes the first that asks runs them, and the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    runs = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "tiny"
    runs.mkdir(exist_ok=True)
    path = ROOT / "tests/tiny.yaml"
    with pytest.MonkeyPatch.context() as patch, locked(runs, wait=True):
        patch.setenv("RUNS", str(runs))
        if not (runs / "whole").exists():
            for condition in ("baseline", "mul_tokens"):
                run_arm(path, condition)
            (runs / "whole").touch()
    return load(path), runs


def make_model(
    directory: Path, condition: str | Condition, block_size: int = 128, spread: float = 8.0
) -> Path:
    """A random GPT-2 of two layers, its weights spread so that its greedy replies vary and contain facts."""
    if isinstance(condition, str):  # a mode
        condition = Condition("arm", condition, "multiplication", 1024)
    encoder = Encoder(condition)
    config = GPTConfig(encoder.size, 2, 2, 32, block_size)
    model = GPT(config).init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(spread if parameter.dim() > 1 else 1)
        model.wte.weight[encoder.suppressed] *= 4  # it likes to say what it never may
    save(encoder, directory)
    save_file(to_hf(model.state_dict(), config), directory / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": encoder.eos, "eos_token_id": encoder.eos, "pad_token_id": encoder.pad}
    sizes = {"vocab_size": encoder.size, "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": block_size}
    content = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes, **ids}
    (directory / "config.json").write_text(json.dumps(content))
    return directory


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A model of a condition that writes facts as tokens."""
    return make_model(tmp_path_factory.mktemp("models") / "token", "token")


@pytest.fixture(scope="session")
def wide_model_dir(tmp_path_factory) -> Path:
    """The same with a context that real problems fit."""
    return make_model(tmp_path_factory.mktemp("models") / "wide", "token", block_size=640)
