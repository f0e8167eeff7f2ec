"""Preparing and pretraining killed at random moments and run again: shards and final weights are those of an
undisturbed run.

    python -m tests.pretrain.torture --kills 20      # on 1 and on 2 gloo ranks; the suite runs a short form

Preparing is killed in a fresh directory each time. Every kill of pretraining is resumed twice, from copies of what it left. On two ranks one of them, or both, are killed, and
the other has 30 seconds to end by itself. A checkpoint is written at every step, so that many kills fall
inside a save.
"""

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from pipeline.files import sha256
from pretrain import documents, prepare, train
from tests import forks
from tests.forks import finish

EXPERIMENT = """
vocabulary: multiplication
tokenizer: {base: 1024}
conditions: {baseline: {mode: plain}, mul_tokens: {mode: token}}
seeds: [0]
stages:
  prepare: {run: prepare, data: sample, tokens: 20e3, val_tokens: 1e3, shard_tokens: 6e3}
  pretrain: {run: pretrain, from: prepare, n_layer: 2, n_head: 2, n_embd: 32, block_size: 32, steps: 40,
    batch_size: 8, micro_batch: 2, lr: 2e-3, min_lr: 2e-4, warmup: 5, weight_decay: 0.1,
    precision: fp32, compile: false, eval_every: 15, save_every: 1}
"""


TIMES = ("seconds", "tokens_per_second")


def torture_prepare(folder: Path, kills: int, rng: random.Random) -> Counter:
    """Raises AssertionError if what is prepared after a kill differs from undisturbed data; how the kills fell."""
    experiment = folder / "torture.yaml"
    experiment.write_text(
        EXPERIMENT.replace("tokens: 20e3, val_tokens: 1e3", "tokens: 100e3, val_tokens: 5e3")
    )

    def start(runs: Path) -> BaseProcess:
        return forks.start(prepare.main, [str(experiment), "mul_tokens", "0"], folder / "log", RUNS=runs)

    def hashes(runs: Path) -> dict[str, str]:
        (data,) = (runs / "data").iterdir()
        files = [data / "index.json", data / "audit.json", *data.glob("0*/*")]
        return {str(path.relative_to(data)): sha256(path) for path in files}

    assert finish([start(folder / "warm")]) == [0]
    began = time.monotonic()
    assert finish([start(folder / "whole")]) == [0]
    duration, expected, fell = time.monotonic() - began, hashes(folder / "whole"), Counter()
    for number in range(kills):
        killed = folder / f"killed-{number}"
        process = start(killed)
        time.sleep(rng.uniform(0.1, 1.0) * duration)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        done = len(list(killed.glob("data/*/0*")))
        fell[
            "after the end"
            if process.exitcode == 0
            else f"{'between' if done else 'before any of the'} shards"
        ] += 1
        assert finish([start(killed)]) == [0]
        assert hashes(killed) == expected, f"kill {number}: shards differ"
        shutil.rmtree(killed)
    return fell


def launch(ranks: int, words: list[str], runs: Path) -> list:
    """Pretraining on so many ranks."""
    return forks.launch(train.main, ranks, words, runs, RUNS=runs)


def result(runs: Path) -> tuple[bytes, list[dict]]:
    """Weights, and metrics without what differs between any two runs."""
    directory = runs / "torture" / "mul_tokens-s0" / "pretrain"
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return (directory / "model.safetensors").read_bytes(), metrics


def torture(folder: Path, ranks: int, kills: int, rng: random.Random) -> Counter:
    """Raises AssertionError if any resumed run differs from the undisturbed one; how the kills fell."""
    experiment = folder / "torture.yaml"
    experiment.write_text(EXPERIMENT)
    words = [str(experiment), "mul_tokens", "0"]
    os.environ["RUNS"] = str(folder / "prepared")
    prepare.main(words)
    whole = shutil.copytree(folder / "prepared", folder / f"whole{ranks}")
    start = time.monotonic()
    assert finish(launch(ranks, words, whole)) == [0] * ranks
    duration, expected = time.monotonic() - start, result(whole)
    fell = Counter()
    for number in range(kills):
        killed = shutil.copytree(folder / "prepared", folder / f"killed{ranks}-{number}")
        processes = launch(ranks, words, killed)
        time.sleep(rng.uniform(0.1, 1.0) * duration)
        # A rank that waits for one that never came is ended by torchrun, here by us.
        apart = any(killed.glob("torture/*/pretrain/checkpoints/*")) and number % 3
        victims = [process for process in processes if not apart or process is processes[number % ranks]]
        for process in victims:
            os.kill(process.pid, signal.SIGKILL)
        codes = finish(processes, 30)  # the others end by themselves
        left = list(killed.glob("torture/*/pretrain/checkpoints/*"))
        fell[
            "after the end"
            if 0 in codes
            else "in a save"
            if any(p.name.startswith(".") for p in killed.rglob(".0*"))
            else "behind a checkpoint"
            if left
            else "before the first checkpoint"
        ] += 1
        twin = shutil.copytree(killed, folder / f"twin{ranks}-{number}")
        for runs in (killed, twin):
            assert finish(launch(ranks, words, runs)) == [0] * ranks, (runs / "rank0.log").read_text()
            weights, metrics = result(runs)
            assert weights == expected[0], f"kill {number}: weights differ"
            assert metrics == expected[1], f"kill {number}: metrics differ"
            shutil.rmtree(runs)
        print(f"{ranks} ranks, kill {number + 1}/{kills}: identical twice; {dict(fell)}", flush=True)
    return fell


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    documents.CHUNK = 5_000  # several in every shard
    with tempfile.TemporaryDirectory() as folder:
        fell = torture_prepare(Path(folder), args.kills, random.Random(args.seed))
        print(f"prepare, {args.kills} kills: identical; {dict(fell)}", flush=True)
    for ranks in args.ranks:
        with tempfile.TemporaryDirectory() as folder:
            torture(Path(folder), ranks, args.kills, random.Random(args.seed))


if __name__ == "__main__":
    main()
