"""An arm whose stages are forks of one process: the same results, failures and signals as from their scripts."""

import importlib
import itertools
import json
import signal
import time

import pytest

from pipeline import arm
from pipeline.experiment import load
from pipeline.files import ROOT, read_json
from pipeline.identity import stage_dir
from pipeline.kinds import KINDS
from pipeline.sample.documents import documents
from tests import forks

SHORT = f"""
extends: {ROOT}/tests/tiny.yaml
stages: {{prepare: {{data: rows.jsonl}}, sft_tulu: null, sft_gsm8k: null, sft_tinygsm: null, sft_curriculum: null, grpo: null}}
eval: null
compare: null
"""


@pytest.fixture
def short(tmp_path, monkeypatch):
    """An experiment that ends with its first model, on few documents."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    rows = itertools.islice(documents(0, "train"), 600)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def test_its_results_are_those_of_the_stages_own_scripts(short, tmp_path, monkeypatch):
    words, log = [str(short), "mul_tokens", "0"], tmp_path / "log"
    assert forks.finish([forks.start(arm.main, words, log, RUNS=tmp_path / "forked")]) == [0], log.read_text()
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


def test_it_ends_at_a_stage_that_fails_with_its_exit_code(short, tmp_path, runs):
    short.write_text(SHORT.replace("rows.jsonl", "none.jsonl"))
    code = forks.finish([forks.start(arm.main, [str(short), "mul_tokens", "0"], tmp_path / "log")])
    errors = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: ")]
    assert code == [2] and len(errors) == 1 and "none.jsonl" in errors[0]
    assert not list(runs.glob("*/*/pretrain/stage.json"))


def test_a_signal_reaches_the_stage_at_work(short, tmp_path, runs):
    """Pretraining answers SIGTERM with a checkpoint and exit code 0; the arm does not go on to the next stage."""
    short.write_text(SHORT.replace("sft_tulu: null", "pretrain: {steps: 100000}, sft_tulu: null"))
    process = forks.start(arm.main, [str(short), "mul_tokens", "0"], tmp_path / "log")
    while not list(runs.glob("short/mul_tokens-s0/pretrain/metrics.jsonl")):
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.1)
    process.terminate()
    codes, output = forks.finish([process]), (tmp_path / "log").read_text()
    assert codes == [128 + signal.SIGTERM] and "and saved; run it again to go on" in output
    assert not (runs / "short/mul_tokens-s0/export").exists() and "error" not in output
