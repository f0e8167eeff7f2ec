"""Documents → shards of token ids.

    python -m pretrain.prepare experiments/quickstart.yaml mul_tokens 0
    python -m pretrain.prepare experiments/gpt2_124m.yaml mul_tokens 0 --part 3/16    # one of a Slurm array,
    python -m pretrain.prepare experiments/gpt2_124m.yaml mul_tokens 0               # then what is missing

The source is cut into stretches of about `shard_tokens` (pretrain/shards.py), a stretch into chunks of a few
documents, which all cores encode. Where a stretch ends depends on the source alone, so the bytes are the same
whatever the number of workers, parts or restarts. Finished stretches are kept when it is run again.

A document is held out for validation if the hash of its plain spelling says so: its copies go with it, in
every condition. Budgets count tokens in the plain spelling, so that every condition takes the same documents.
Drills are generated arithmetic, mixed in behind training documents at their share of plain tokens, as text,
before it is rewritten.

Beside the stretches stand index.json (totals, documents dropped by reason, SHA-256 of every array),
audit.json and audit.txt (what the rewriting did, for a person).
"""

import argparse
import contextlib
import errno
import itertools
import math
import multiprocessing
import operator
import os
import shutil
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.files import write_json
from pipeline.formats import described
from pipeline.identity import stage_dir
from pipeline.progress import Bar, size
from pipeline.rows import corpus_of
from pipeline.sections import Prepare
from pipeline.world import cores
from pretrain import documents, shards
from pretrain.documents import Chunk, Recipe, chunks, encode_chunk, encoder_of
from pretrain.shards import SPLITS, Encoded
from tokenizer.conditions import Condition
from tokenizer.vocabulary import fact_use

AHEAD = 4  # chunks encoded ahead of the writer, for each worker
SHORT = {
    "train": 0.0,
    "val": 0.1,
}  # share of a budget that the source may lack: which documents are held out is chance
DISK_PER_TOKEN = 2.1  # bytes: uint16, and 16 bytes a document


# --- all workers --------------------------------------------------------------------------------------------


def stretches(
    spec: Prepare, condition: Condition, directory: Path, workers: int, part: tuple[int, int], corpus: int
) -> Iterator[tuple[int, Iterator[Encoded | None]]]:
    """Every stretch of a part in order: its number, and its chunks encoded, or None if it is on disk already.

    A part (i, n) is the stretches i, i + n, … The source is read and encoded some chunks ahead.
    """
    recipe, (i, n) = Recipe.of(spec, condition, corpus), part
    left = shards.Left({"train": spec.tokens / n, "val": spec.val_tokens / n}, recipe.held_out)
    encoder_of(recipe.condition)  # made once, before the workers fork
    pool = ProcessPoolExecutor(workers, initializer=_watch_parent)

    def jobs() -> Iterator[tuple[int, Future | None]]:
        for number, group in itertools.groupby(_numbered(spec, corpus), operator.itemgetter(0)):
            if number % n == i and shards.is_whole(directory, number):
                yield number, None
            elif number % n == i:
                yield from ((number, pool.submit(encode_chunk, recipe, chunk.read())) for _, chunk in group)

    try:
        buffered = _buffered(jobs(), lambda: min(AHEAD * workers, math.ceil(left.bytes() / documents.CHUNK)))
        for number, group in itertools.groupby(buffered, operator.itemgetter(0)):
            yield number, (job and left.without(job.result()) for _, job in group)
    finally:
        pool.shutdown(cancel_futures=True)


def _numbered(spec: Prepare, corpus: int) -> Iterator[tuple[int, Chunk]]:
    """Chunks with the number of their stretch."""
    size = 0
    for chunk in chunks(spec, corpus):
        yield size // (spec.shard_tokens * shards.BYTES_PER_TOKEN), chunk
        size += chunk.size


def _buffered(items: Iterator, ahead: Callable[[], int]) -> Iterator:
    """The same items, so many read ahead as `ahead` says each time: so much work is under way."""
    waiting: deque = deque()
    while True:
        waiting.extend(itertools.islice(items, max(0, max(1, ahead()) - len(waiting))))
        if not waiting:
            return
        yield waiting.popleft()


def _watch_parent() -> None:
    """End this worker when its parent ends, however that ends."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# --- the stage ----------------------------------------------------------------------------------------------


def prepare(
    directory: Path,
    spec: Prepare,
    condition: Condition,
    workers: int,
    progress: Callable[[int], object] = lambda tokens: None,
    part: tuple[int, int] | None = None,
    corpus: int = 0,
) -> tuple[dict[str, dict], dict[str, float]]:
    """Write stretches up to the budgets: (their indexes by name, tokens that the source lacks by split).

    A part goes to its share of the budgets, and its stretches are whole: where the last one is cut, only a
    run that knows all stretches before it can say.
    """
    _, n = part or (0, 1)
    room, done = {"train": spec.tokens / n, "val": spec.val_tokens / n}, {}
    try:
        for number, encoded in stretches(spec, condition, directory, workers, part or (0, 1), corpus):
            limit = dict.fromkeys(SPLITS, math.inf) if part else room
            index = done[f"{number:05}"] = fill(directory, number, encoded, limit, progress)
            room = {split: room[split] - index[split]["plain_tokens"] for split in SPLITS}
            if max(room.values()) <= 0:
                break
    except BrokenProcessPool:
        raise UserError("a worker was killed, perhaps for want of memory; run it again to go on") from None
    return done, {split: max(0, tokens) for split, tokens in room.items()}


def fill(
    directory: Path,
    number: int,
    chunks: Iterator[Encoded | None],
    room: dict[str, float],
    progress: Callable[[int], object],
) -> dict:
    """Write the documents of a stretch that have room; its index. One that is on disk is kept, or cut."""
    first = next(chunks)
    if first is None:
        first = shards.read(directory, number)
        if all(len(block.docs) == len(block.cut(room[split]).docs) for split, block in first.blocks.items()):
            progress(sum(block.plain_tokens() for block in first.blocks.values()))
            return shards.read_index(directory, number)
    with shards.Writer(directory, number) as writer:
        for encoded in itertools.chain([first], chunks):
            blocks = {split: block.cut(room[split]) for split, block in encoded.blocks.items()}
            unused = len(encoded.blocks["val"].docs) - len(blocks["val"].docs)
            counts = encoded.counts + Counter({"held out, beyond val_tokens": unused})
            writer.append(Encoded(blocks, counts))
            plain = {split: block.plain_tokens() for split, block in blocks.items()}
            room = {split: room[split] - plain[split] for split in SPLITS}
            progress(sum(plain.values()))
            if max(room.values()) <= 0:
                break
        return writer.close()


def tidy(directory: Path, done: dict[str, dict]) -> None:
    """Remove what a part encoded beyond the budgets, and what a killed run left half written."""
    for path in [*directory.glob("[0-9]*"), *directory.glob(".[0-9]*")]:
        if path.name not in done:
            shutil.rmtree(path)


def write_index(directory: Path, condition: Condition, done: dict[str, dict]) -> dict:
    """Totals over all stretches, into index.json; and the audit."""
    index = {
        "dtype": "uint16",
        "ids": condition.size,
        "condition": condition.name,
        "fingerprint": condition.fingerprint(),
        **{split: _sum(done, split) for split in SPLITS},
        "stretches": {
            name: {"sha256": stretch["sha256"], **{s: _numbers(stretch[s]) for s in SPLITS}}
            for name, stretch in done.items()
        },
    }
    write_json(directory / "index.json", index)
    by_fact = sum((Counter(stretch[s]["by_fact"]) for stretch in done.values() for s in SPLITS), Counter())
    samples = shards.smallest([sample for stretch in done.values() for sample in stretch["train"]["samples"]])
    audit = {
        "documents": sum(index[split]["documents"] for split in SPLITS),
        "documents_with_facts": sum(index[split]["documents_with_facts"] for split in SPLITS),
        "plain_tokens": sum(index[split]["plain_tokens"] for split in SPLITS),
        "facts": {condition.facts.FACTS[int(i)]: n for i, n in by_fact.most_common()},
        "counts": dict(sum((Counter(stretch["counts"]) for stretch in done.values()), Counter())),
        "samples": samples,
    }
    write_json(directory / "audit.json", audit)
    (directory / "audit.txt").write_text(audit_text(condition.name, audit), encoding="utf-8")
    return index


def _numbers(block: dict) -> dict[str, int]:
    return {key: value for key, value in block.items() if isinstance(value, int)}


def _sum(done: dict[str, dict], split: str) -> dict[str, int]:
    numbers = [_numbers(stretch[split]) for stretch in done.values()]
    return {key: sum(number[key] for number in numbers) for key in numbers[0]}


def audit_text(name: str, audit: dict) -> str:
    """The audit for a person."""
    million, facts = audit["plain_tokens"] / 1e6, audit["facts"]
    lines = [
        f"{name}: {audit['documents']:,} documents, {million:,.3f} million tokens in plain spelling",
        f"{sum(facts.values()):,} facts in {audit['documents_with_facts']:,} documents,"
        f" {sum(facts.values()) / million:,.1f} per million tokens",
        *(f"{reason}: {n:,} documents" for reason, n in sorted(audit["counts"].items())),
        "",
        "facts per million tokens",
        *(f"  {fact:<16} {n / million:>10,.1f}" for fact, n in facts.items()),
        "",
        "rewrites in their context: source → as written",
    ]
    for s in audit["samples"]:
        before, after = (" ".join(s[side].split()) for side in ("before", "after"))
        lines.append(f"  …{before} [{s['source']} → {s['written']}] {after}…")
    return "\n".join(lines) + "\n"


def _check_disk(directory: Path, spec: Prepare) -> None:
    """Say how much disk it takes, and refuse if there is less."""
    need = (spec.tokens + spec.val_tokens) * DISK_PER_TOKEN
    there = sum(path.stat().st_size for path in directory.glob("*/*.npy"))
    free = shutil.disk_usage(directory).free
    print(f"prepare: about {size(need)} into {directory}; {size(free)} free", file=sys.stderr)
    if need - there > free:
        message = f"needs about {size(need - there)}, and {size(free)} are free"
        raise UserError(f"{directory}: {message}; set RUNS to a larger disk")


@contextlib.contextmanager
def _disk_full(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{directory}: the disk is full; make room and run it again to go on") from None


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 0 < int(n) and int(i) < int(n)):
        raise UserError(f"--part {text}: write i/n with i from 0 to n - 1, for example 3/16")
    return int(i), int(n)


def main(argv: list[str] | None = None) -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--part", type=_part)
    args, words = own.parse_known_args(argv)
    if args.part is not None:
        return _main_part(words, args.part)
    with stage.begin("prepare", words, __doc__, resumable=True) as run:
        if run is None:
            return
        spec, condition = run.spec, Condition.of(run.experiment, run.condition)
        _check_disk(run.dir, spec)
        with _disk_full(run.dir), run.bar(spec.tokens + spec.val_tokens, "tokens") as bar:
            corpus = corpus_of(spec, run.seed)
            done, lacks = prepare(run.dir, spec, condition, cores(), bar.update, corpus=corpus)
            for split, key in (("train", "tokens"), ("val", "val_tokens")):
                asked, has = getattr(spec, key), getattr(spec, key) - int(lacks[split])
                said = f"{spec.data} gives {has:,} of {asked:,} tokens"
                if lacks[split] > SHORT[split] * asked:
                    run.refuse(key, f"{said}; ask for no more")
                if lacks[split]:
                    print(f"prepare: {key}: {said}", file=sys.stderr)
            tidy(run.dir, done)
            index = write_index(run.dir, condition, done)
        _say_drops(done)
        by_fact = sum((Counter(stretch["train"]["by_fact"]) for stretch in done.values()), Counter())
        use = fact_use(condition.facts, by_fact, index["train"]["plain_tokens"])
        print(f"prepare: {use}", file=sys.stderr)
        arrays = [f"{name}/{array}" for name, stretch in done.items() for array in stretch["sha256"]]
        train = index["train"]
        run.finish(["index.json", "audit.json", *arrays], tokens=train["tokens"], examples=train["documents"])


def _say_drops(done: dict[str, dict]) -> None:
    counts = sum((Counter(stretch["counts"]) for stretch in done.values()), Counter())
    dropped = Counter(
        {key.removeprefix("dropped: "): n for key, n in counts.items() if key.startswith("dropped")}
    )
    if dropped:
        print(f"prepare: dropped {dropped.total():,} documents: {described(dropped)}", file=sys.stderr)


def _main_part(words: list[str], part: tuple[int, int]) -> None:
    """Parts of one stage work side by side in its directory, without its lock: each owns its stretches."""
    args, experiment, name = stage.parse("prepare", words, __doc__)
    directory = stage_dir(experiment, args.condition, args.seed, name)
    if (directory / "stage.json").exists():
        return print(f"{directory}: done already, skipped", file=sys.stderr)
    directory.mkdir(parents=True, exist_ok=True)
    spec, condition = experiment.stages[name], Condition.of(experiment, args.condition)
    _check_disk(directory, spec)
    total = (spec.tokens + spec.val_tokens) // part[1]
    label = f"{args.condition} {name} part {part[0]}/{part[1]}"
    with _disk_full(directory), Bar(directory, label, total, "tokens") as bar:
        prepare(directory, spec, condition, cores(), bar.update, part, corpus_of(spec, args.seed))


if __name__ == "__main__":
    cli(main)
