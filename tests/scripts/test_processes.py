"""The full study's arms on any number of processes: its own files, the sizes set down.

    python -m tests.scripts.test_processes 1 2 4 8      # every stage of both files, through scripts/arm.sh

The suite runs the mains of some of them, on two processes.

What decides how a batch is shared out stays as the files have it: batch_size, micro_batch, group_size, packing.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.kinds import KINDS
from pipeline.world import divisor
from tests import forks

UNWATCHED = {"eval_every": 0, "dev": None, "dev_name": None}
ROWS = UNWATCHED | {
    "data": "sample",
    "name": None,
    "max_length": 128,
    "examples": 96,
    "warmup": 0,
    "precision": "fp32",
}
PHASES = [{"task": task, "data": "sample", "examples": 32} for task in ("drills", "tinygsm")]
GRPO = {
    "eval_every": 0,
    "data": "sample",
    "name": None,
    "steps": 1,
    "prompts": 4,
    "pass_at": 2,
    "max_new_tokens": 8,
}
STAGES = {
    "prepare": {"data": "sample", "name": None, "tokens": 120e3, "val_tokens": 2e3, "shard_tokens": 1e5},
    "pretrain": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 160, "steps": 1, "warmup": 0}
    | {
        "precision": "fp32",
        "compile": False,
        "eval_every": 1,
        "hellaswag_every": 0,
        "save_every": 1,
        "milestones": [1],
    },
    "export_2000": {"step": 1},
    "export_19072": None,
    **dict.fromkeys(("sft_tulu", "sft_gsm8k", "sft_tinygsm"), ROWS),
    "sft_curriculum": {
        "eval_every": 0,
        "max_length": 128,
        "phases": PHASES,
        "warmup": 0,
        "precision": "fp32",
    },
    **{
        f"grpo_{reward}": GRPO | {"warmup": 0, "precision": "fp32"}
        for reward in ("published", "fair", "binary")
    },
}
SMALL = {"tokenizer": {"base": 1024}, "seeds": [0], "eval": None, "compare": None}


def write(folder: Path, study: str, left_out: tuple[str, ...] = ()) -> Path:
    """The study's file with small stages."""
    experiment = folder / f"{study}.yaml"
    stages = STAGES | dict.fromkeys(left_out)
    content = SMALL | {"extends": str(ROOT / "experiments" / f"{study}.yaml"), "stages": stages}
    experiment.write_text(yaml.safe_dump(content))
    return experiment


def worlds(experiment: Path, runs: Path) -> dict[str, int]:
    """How many processes each stage of an arm ran on."""
    finished = (runs / experiment.stem).glob("*/*/stage.json")
    return {path.parent.name: json.loads(path.read_text())["record"]["world_size"] for path in finished}


def run(folder: Path, study: str, processes: int) -> dict[str, int]:
    """How many processes each stage of an arm ran on. Raises AssertionError if one fails."""
    experiment = write(folder, study)
    command = ["bash", "scripts/arm.sh", str(experiment), "mul_tokens", "0"]
    environment = os.environ | {"RUNS": str(folder / "runs"), "NPROC": str(processes), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = divisor(2, processes)  # a step of GRPO has two groups
    for name in ("grpo_published", "grpo_fair", "grpo_binary"):
        message = f"stages.{name}.batch_size: feeds {used} of {processes} processes evenly; the others end"
        assert (message in done.stderr) == (used < processes), done.stderr
    return worlds(experiment, folder / "runs")


def test_an_arm_of_the_full_study_runs_on_two_processes(tmp_path, runs, run_arm):
    left_out = ("sft_gsm8k", "sft_tinygsm", "grpo_published", "grpo_fair")  # of the shape of one that is run
    path = write(tmp_path, "gpt2_124m", left_out)
    experiment = load(path)
    for name in experiment.stage_names():
        if (kind := experiment.kind(name)) in ("tokenizer", "prepare", "export"):
            run_arm(path, "mul_tokens", only=(name,))
            continue
        main = importlib.import_module(KINDS[kind].module).main
        ranks = forks.launch(main, 2, [str(path), "mul_tokens", "0", name], tmp_path)
        assert forks.finish(ranks) == [0, 0], (tmp_path / "rank0.log").read_text()
    assert "processes evenly" not in (tmp_path / "rank0.log").read_text()
    alone = {"tokenizer": 1, "export": 1, "export_2000": 1}
    ran = {"pretrain": 2, "sft_tulu": 2, "sft_curriculum": 2, "grpo_binary": 2}
    assert worlds(path, runs) == alone | ran


def main() -> None:
    for processes in map(int, sys.argv[1:]):
        for study in ("gpt2_124m", "gpt2_355m"):
            with tempfile.TemporaryDirectory() as folder:
                started = time.monotonic()
                ran = run(Path(folder), study, processes)
                assert len(ran) == 11, ran
                print(f"{study}, NPROC={processes}: {ran} in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
