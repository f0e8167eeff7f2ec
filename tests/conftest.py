"""What every test may ask for."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# A busy machine is no failure: no deadline, and no complaint that examples come slowly.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rows; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"{folder}: real data is not here; set SHARED_DATA to its folder")
    return folder


@pytest.fixture
def torchrun() -> list[str]:
    """The command that starts a module, whose name and words follow, in two processes."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A RUNS folder of the test's own."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"
