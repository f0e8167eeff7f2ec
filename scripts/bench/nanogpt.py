"""Our pretraining step beside nanoGPT's own train.py, on this machine's CPU.

    git clone https://github.com/karpathy/nanoGPT ../nanoGPT
    python -m scripts.bench.nanogpt ../nanoGPT experiments/quickstart.yaml
    python -m scripts.bench.nanogpt ../nanoGPT experiments/quickstart.yaml --set stages.pretrain.compile=true --name c

The same shape (biases, no dropout, as many rows in the embedding), tokens a step, clipping and fp32, with one thread and
with two. They take turns, so that a busy machine slows both. nanoGPT's time is the one that its log gives for an
iteration, the median of a turn without its first iterations; it reads its batches from a file meanwhile. Ours is
`pretrain.train.update` on a batch that is there (reading one takes 0.1 ms at the quickstart's size).
"""

import argparse
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from model import GPTConfig
from pipeline.errors import UserError, cli
from pipeline.experiment import add_experiment_arguments
from pipeline.sections import Pretrain
from scripts.bench.pretrain import Contender, measured

TURNS = 5
SECONDS = 8.0  # of nanoGPT's iterations in a turn, about
WARM = 3  # iterations that are not counted: the first ones allocate, or compile
THREADS = (1, 2)
TIME = re.compile(r"^iter \d+: .* time ([\d.]+)ms", re.MULTILINE)


class NanoGPT:
    """nanoGPT's train.py on random tokens, a process for each turn."""

    def __init__(self, checkout: Path, config: GPTConfig, spec: Pretrain, threads: int, compiled: bool):
        self.checkout, self.threads, self.vocab = checkout, threads, config.padded_vocab
        self.settings = dict(
            device="cpu", dtype="float32", compile=compiled, bias=True, dropout=0.0,
            n_layer=config.n_layer, n_head=config.n_head, n_embd=config.n_embd, block_size=config.block_size,
            batch_size=spec.batch_size, gradient_accumulation_steps=1, grad_clip=spec.clip,
            learning_rate=spec.lr, weight_decay=spec.weight_decay, beta1=spec.betas[0], beta2=spec.betas[1],
            log_interval=1, eval_interval=10**9, eval_iters=1, always_save_checkpoint=False,
        )  # fmt: skip
        self.seconds: list[float] = []  # of an iteration, by turn
        self.iterations = 3
        self.turn()
        self.iterations = max(3, round(SECONDS / self.seconds[-1]))
        self.seconds.clear()

    def turn(self) -> None:
        last = WARM + self.iterations
        with tempfile.TemporaryDirectory() as folder:
            self._write_data(Path(folder))
            settings = self.settings | {"dataset": folder, "out_dir": f"{folder}/out", "max_iters": last}
            done = subprocess.run(
                [sys.executable, "train.py", *(f"--{key}={value}" for key, value in settings.items())],
                cwd=self.checkout,
                env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
                capture_output=True,
                text=True,
            )
        times = [float(time) / 1e3 for time in TIME.findall(done.stdout)][WARM:]
        if done.returncode or not times:
            last_line = (done.stderr.strip().splitlines() or ["it printed no iteration"])[-1]
            raise UserError(f"{self.checkout / 'train.py'}: failed: {last_line}")
        self.seconds.append(statistics.median(times))

    def _write_data(self, folder: Path) -> None:
        """Random tokens, as many ids as our embedding has rows; a pickle, because nanoGPT reads one."""
        ids = np.random.default_rng(0).integers(self.vocab, size=200_000, dtype=np.uint16)
        for split in ("train", "val"):
            ids.tofile(folder / f"{split}.bin")
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": self.vocab}))


def compare(checkout: Path, config: GPTConfig, spec: Pretrain, threads: int) -> str:
    """A row of the table: milliseconds of a step, and how many times as fast ours is."""
    theirs = NanoGPT(checkout, config, spec, threads, spec.compile)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the process that Contender starts
    ours = Contender(config, spec)
    for _ in range(TURNS):
        ours.turn()
        theirs.turn()
    ours.end()
    steps = [ours.tokens / rate for rate in ours.rates]
    ratios = sorted(nano / own for nano, own in zip(theirs.seconds, steps))
    own, nano = (1e3 * statistics.median(seconds) for seconds in (steps, theirs.seconds))
    how = "compiled" if ours.compiled else "eager"
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return f"{threads:>7}  {how:<8}{own:>10.1f}{nano:>10.1f}   {statistics.median(ratios):.2f} ({spread})"


def processor() -> str:
    """The processor's name and the widest vectors that PyTorch uses on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.backends.cpu.get_cpu_capability()}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.nanogpt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("nanogpt", type=Path, help="a checkout of nanoGPT")
    add_experiment_arguments(parser)
    args = parser.parse_args(argv)
    checkout = args.nanogpt.resolve()
    if not (checkout / "train.py").is_file():
        raise UserError(f"{checkout}: holds no train.py; name a checkout of nanoGPT")
    _, config, spec = measured(args)
    print(f"{processor()}; {spec.batch_size * spec.block_size:,} tokens a step, fp32; milliseconds of a step")
    print("threads            ours   nanoGPT   times as fast (turns)")
    for threads in THREADS:
        print(compare(checkout, config, spec, threads), flush=True)


if __name__ == "__main__":
    cli(main)
