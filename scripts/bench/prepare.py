"""How fast this machine prepares data, beside a bare tiktoken loop.

    python -m scripts.bench.prepare openstax/train.parquet      # a file under DATA_DIR, with a column `text`

Bare: a process encodes the file's texts, which are in memory already, with tiktoken and does nothing else; one
alone, then one on every core at once, which is the machine's ceiling. Ours: the whole of prepare on all cores
(parquet → rewritten → encoded → shards on disk) under `token`, the mode that rewrites most, on several copies
of the file, so that the workers' start hardly counts. They take turns, and medians count.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import astuple
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.errors import UserError, cli
from pipeline.rows import source_files
from pipeline.sections import Prepare
from pipeline.world import cores
from pretrain.documents import encoder_of
from pretrain.prepare import prepare
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

TURNS = 5
COPIES = 4


def bare(encoder: Encoder, texts: list[str]) -> float:
    start = time.perf_counter()
    for text in texts:
        encoder.encode(text)
    return time.perf_counter() - start


def bare_at_once(encoder: Encoder, texts: list[str], workers: int) -> float:
    """Seconds until every one of `workers` processes has encoded all texts."""
    start = time.perf_counter()
    processes = [
        multiprocessing.get_context("fork").Process(target=bare, args=(encoder, texts))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - start


def whole(spec: Prepare, condition: Condition, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        prepare(Path(folder), spec, condition, workers)
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="a local parquet file, or a Hub id that was downloaded")
    args = parser.parse_args(argv)
    files = source_files(args.data, None, "train")
    if files[0].suffix != ".parquet":
        raise UserError(f"{files[0]}: name parquet data")
    texts = pq.read_table(files[0], columns=["text"]).column(0).to_pylist()
    size = sum(len(text.encode()) for text in texts) / 1e6
    condition, workers = Condition("mul_tokens", "token", "multiplication", 50256), cores()
    encoder, ratios = encoder_of(astuple(condition)), []
    print(f"{files[0]}: {size:.1f} MB in {len(texts):,} documents; {workers} workers", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(COPIES):
            Path(folder, f"{i}.parquet").symlink_to(files[0].resolve())
        spec = Prepare(run="prepare", data=folder, tokens=10**12, val_tokens=10**10)
        for _ in range(TURNS):
            alone = size / bare(encoder, texts)
            ceiling = workers * size / bare_at_once(encoder, texts, workers)
            ours = COPIES * size / whole(spec, condition, workers)
            ratios.append((ours / alone / workers, ours / ceiling))
            said = f"MB/s: bare {alone:.1f}, {workers} at once {ceiling:.1f}, ours {ours:.1f}"
            print(f"{said}; ratio {ratios[-1][0]:.2f}, to the ceiling {ratios[-1][1]:.2f}", flush=True)
    of_workers, of_ceiling = map(statistics.median, zip(*ratios))
    print(f"median {of_workers:.2f} of {workers} × bare, {of_ceiling:.2f} of {workers} bare at once")


if __name__ == "__main__":
    cli(main)
