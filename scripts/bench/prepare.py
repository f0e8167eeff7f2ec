"""How fast this machine prepares data, beside a bare tiktoken loop; and in how much memory.

    python -m scripts.bench.prepare openstax/train.parquet             # a file under DATA_DIR, with a column `text`
    python -m scripts.bench.prepare openstax/train.parquet --memory

Bare: a process encodes the file's texts, which are in memory already, with tiktoken and does nothing else; one
alone, then one on every core at once, which is the machine's ceiling. Ours: the whole of prepare on all cores
(parquet → rewritten → encoded → shards on disk) under `token`, the mode that rewrites most, on several copies
of the file, so that the workers' start hardly counts. They take turns, and medians count. CPU seconds, of which other
work on the machine takes nothing, are given beside: a bare loop's of a MB, by ours of a MB in all processes.

Memory is the peak of the process that reads and writes, and of the largest worker, each with its libraries, for the file
and for ten times its rows in one file and one row group.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from dataclasses import astuple
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
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
LARGER = 10  # times the rows
CONDITION = Condition("mul_tokens", "token", "multiplication", 50256)


def spent() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def bare(encoder: Encoder, texts: list[str]) -> None:
    for text in texts:
        encoder.encode(text)


def bare_at_once(encoder: Encoder, texts: list[str], workers: int) -> None:
    """Encode all texts in every one of `workers` processes."""
    processes = [
        multiprocessing.get_context("fork").Process(target=bare, args=(encoder, texts))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def whole(data: str, workers: int) -> None:
    """Prepare all of `data`."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Prepare(run="prepare", data=data, tokens=10**12, val_tokens=10**10)
        prepare(Path(folder), spec, CONDITION, workers)


def timed(function, *arguments) -> tuple[float, float]:
    """(seconds, CPU seconds) of a call."""
    start, cpu = time.perf_counter(), spent()
    function(*arguments)
    return time.perf_counter() - start, spent() - cpu


def speeds(file: Path, workers: int) -> None:
    texts = pq.read_table(file, columns=["text"]).column(0).to_pylist()
    size = sum(len(text.encode()) for text in texts) / 1e6
    encoder, ratios = encoder_of(astuple(CONDITION)), []
    print(f"{file}: {size:.1f} MB in {len(texts):,} documents; {workers} workers", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(COPIES):
            Path(folder, f"{i}.parquet").symlink_to(file.resolve())
        for _ in range(TURNS):
            alone, alone_cpu = timed(bare, encoder, texts)
            ceiling, _ = timed(bare_at_once, encoder, texts, workers)
            ours, ours_cpu = (each / COPIES for each in timed(whole, folder, workers))
            ratios.append((alone / ours / workers, ceiling / ours / workers, alone_cpu / ours_cpu))
            rates = f"bare {size / alone:.1f}, {workers} at once {workers * size / ceiling:.1f}"
            print(
                f"MB/s: {rates}, ours {size / ours:.1f}; ratio {ratios[-1][0]:.2f}, "
                f"to the ceiling {ratios[-1][1]:.2f}, of CPU seconds {ratios[-1][2]:.2f}",
                flush=True,
            )
    of_workers, of_ceiling, of_cpu = map(statistics.median, zip(*ratios))
    print(
        f"median {of_workers:.2f} of {workers} × bare, {of_ceiling:.2f} of {workers} bare at once, "
        f"{of_cpu:.2f} of CPU seconds"
    )


def memory(file: Path, workers: int) -> None:
    table = pq.read_table(file, columns=["text"])
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, LARGER):
            data = Path(folder, f"{times}.parquet")
            repeated = pa.concat_tables([table] * times)
            pq.write_table(repeated, data, row_group_size=len(repeated))
            receiver, sender = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("spawn")  # else this process's own memory would count
            process = context.Process(target=_measured, args=(sender, str(data), workers))
            process.start()
            own, worker = receiver.recv()
            process.join()
            print(f"{times} × {table.nbytes / 1e6:.1f} MB: peak {own:.0f} MB, largest worker {worker:.0f} MB")


def _measured(sender: Connection, data: str, workers: int) -> None:
    """Prepare, and send the peaks of this process and of its largest worker, in MB."""
    whole(data, workers)
    status = Path("/proc/self/status").read_text()  # getrusage would count what started this process
    own = int(status.partition("VmHWM:")[2].split()[0])
    sender.send([kib * 1024 / 1e6 for kib in (own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="a local parquet file, or a Hub id that was downloaded")
    parser.add_argument("--memory", action="store_true", help="measure memory and not speed")
    args = parser.parse_args(argv)
    file = source_files(args.data, None, "train")[0]
    if file.suffix != ".parquet":
        raise UserError(f"{file}: name parquet data")
    (memory if args.memory else speeds)(file, cores())


if __name__ == "__main__":
    cli(main)
