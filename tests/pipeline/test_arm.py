"""An arm whose stages are forks of one process: the same results, failures and signals as from their scripts."""

import importlib
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.experiment import load
from pipeline.files import ROOT, read_json
from pipeline.identity import stage_dir
from pipeline.kinds import KINDS

SHORT = f"""
extends: {ROOT}/tests/tiny.yaml
stages: {{sft_tulu: null, sft_gsm8k: null, sft_tinygsm: null, sft_curriculum: null, grpo: null}}
eval: null
compare: null
"""


@pytest.fixture
def short(tmp_path):
    """An experiment that ends with its first model."""
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def start(path, runs):
    command = [sys.executable, "-m", "pipeline.arm", str(path), "mul_tokens", "0"]
    environment = os.environ | {"RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_its_results_are_those_of_the_stages_own_scripts(short, tmp_path, monkeypatch):
    arm = start(short, tmp_path / "forked")
    output = arm.communicate(timeout=240)[1]
    assert arm.returncode == 0, output
    experiment, identities = load(short), {}
    for runs in ("alone", "forked"):
        monkeypatch.setenv("RUNS", str(tmp_path / runs))
        for name in experiment.stage_names():
            if runs == "alone":
                module = importlib.import_module(KINDS[experiment.kind(name)].module)
                module.main([str(short), "mul_tokens", "0", name])
            done = read_json(stage_dir(experiment, "mul_tokens", 0, name) / "stage.json")
            identities.setdefault(name, []).append(done["identity"])
    assert all(alone == forked for alone, forked in identities.values())
    assert identities["export"][0]["outputs"]


def test_it_ends_at_a_stage_that_fails_with_its_exit_code(short, tmp_path):
    short.write_text(SHORT.replace("sft_tulu: null", "prepare: {data: none.parquet}, sft_tulu: null"))
    arm = start(short, tmp_path / "runs")
    errors = [line for line in arm.communicate(timeout=120)[1].splitlines() if line.startswith("error: ")]
    assert arm.returncode == 2 and len(errors) == 1 and "none.parquet" in errors[0]
    assert not list((tmp_path / "runs").glob("*/*/pretrain/stage.json"))


def test_a_signal_reaches_the_stage_at_work(short, tmp_path):
    """Pretraining answers SIGTERM with a checkpoint and exit code 0; the arm does not go on to the next stage."""
    short.write_text(SHORT.replace("sft_tulu: null", "pretrain: {steps: 100000}, sft_tulu: null"))
    runs = tmp_path / "runs"
    arm = start(short, runs)
    while not list(runs.glob("short/mul_tokens-s0/pretrain/metrics.jsonl")):
        assert arm.poll() is None, arm.communicate()
        time.sleep(0.1)
    arm.send_signal(signal.SIGTERM)
    output = arm.communicate(timeout=120)[1]
    assert arm.returncode == 128 + signal.SIGTERM and "and saved; run it again to go on" in output
    assert not (runs / "short/mul_tokens-s0/export").exists() and "error" not in output
