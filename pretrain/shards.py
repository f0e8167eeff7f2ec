"""Prepared data on disk: what prepare writes and the loader reads.

A stretch of the source is a directory, which appears with one rename and so is there whole or not at all:

    00000/index.json         counts, and the SHA-256 of the arrays beside it
    00000/train.npy          uint16: the training documents one after another, EOS behind each
    00000/train.docs.npy     uint32 (documents, 4): tokens with EOS, source bytes, facts, plain tokens
    00000/train.facts.npy    uint32 (facts, 2): document, fact
    00000/val*.npy           the same for validation
"""

import contextlib
import operator
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import write_array_header_1_0

from pipeline.files import read_json, sha256, write_json

SPLITS = ("train", "val")
TOKENS, BYTES, FACTS, PLAIN = range(4)  # the columns of docs
ARRAYS = {  # suffix → type, shape of an item, what the items are
    "": ("<u2", (), "tokens"),
    ".docs": ("<u4", (4,), "documents"),
    ".facts": ("<u4", (2,), "facts"),
}
COUNTED = ("documents", "tokens", "source_bytes", "facts", "plain_tokens", "documents_with_facts")
BYTES_PER_TOKEN = 4  # of prose, about
SAMPLES = 10  # rewrites kept for the audit


class Arrays(NamedTuple):
    """Encoded documents of one split; the arrays are as on disk."""

    tokens: np.ndarray
    docs: np.ndarray
    facts: np.ndarray
    samples: list[dict]  # rewrites in context; those with the smallest `key` are kept

    def plain_tokens(self) -> int:
        return int(self.docs[:, PLAIN].sum(dtype=np.int64))

    def cut(self, budget: float) -> "Arrays":
        """The first documents that hold `budget` plain tokens, with the one that reaches it; all if fewer."""
        if self.plain_tokens() <= budget:
            return self
        plain = np.cumsum(self.docs[:, PLAIN], dtype=np.int64)
        docs = self.docs[: np.searchsorted(plain, budget) + 1 if budget > 0 else 0]
        tokens = self.tokens[: docs[:, TOKENS].sum(dtype=np.int64)]
        facts = self.facts[self.facts[:, 0] < len(docs)]
        return Arrays(tokens, docs, facts, [s for s in self.samples if s["doc"] < len(docs)])


class Encoded(NamedTuple):
    """Blocks by split, and counts of documents that were dropped or odd, by reason."""

    blocks: dict[str, Arrays]
    counts: Counter


class Left:
    """What of the budgets is left, plain tokens by split, and so how much text is still to be encoded."""

    def __init__(self, tokens: dict[str, float], held_out: float):
        self.tokens, self.share = tokens, {"train": 1 - held_out, "val": held_out}  # of documents
        self.seen_bytes, self.seen_tokens = 0, 0

    def without(self, encoded: Encoded) -> Encoded:
        """Take documents off."""
        for split, block in encoded.blocks.items():
            self.tokens[split] -= block.plain_tokens()
            self.seen_tokens += block.plain_tokens()
            self.seen_bytes += int(block.docs[:, BYTES].sum(dtype=np.int64))
        return encoded

    def bytes(self) -> float:
        """Judged by the documents so far. Which are held out is chance, so either split may be the last to be full."""
        tokens = max(self.tokens[split] / share for split, share in self.share.items() if share)
        return tokens * (self.seen_bytes / self.seen_tokens if self.seen_tokens else BYTES_PER_TOKEN)


class Writer:
    """Writes one stretch aside, block after block; `close` puts it in its place."""

    def __init__(self, directory: Path, number: int):
        self.aside, self.place = directory / f".{number:05}.{os.getpid()}", directory / f"{number:05}"
        self.aside.mkdir(exist_ok=True)
        self.index: dict = {"counts": Counter(), "sha256": {}}
        self.index |= {s: dict.fromkeys(COUNTED, 0) | {"by_fact": Counter(), "samples": []} for s in SPLITS}
        self.files = {(s, end): open(self.aside / f"{s}{end}.npy", "wb") for s in SPLITS for end in ARRAYS}

    def __enter__(self) -> "Writer":
        self._write_headers()
        return self

    def _write_headers(self) -> None:
        """Headers for what has been appended so far; numpy pads them so that their size does not change."""
        for (split, suffix), file in self.files.items():
            dtype, item, counted = ARRAYS[suffix]
            file.seek(0)
            shape = (self.index[split][counted], *item)
            write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})

    def append(self, encoded: Encoded) -> None:
        self.index["counts"] += encoded.counts
        for split, block in encoded.blocks.items():
            index = self.index[split]
            first = index["documents"]
            facts = block.facts + np.array([first, 0], np.uint32)
            for suffix, array in zip(ARRAYS, (block.tokens, block.docs, facts), strict=True):
                self.files[split, suffix].write(array.astype(ARRAYS[suffix][0], copy=False).tobytes())
            numbers = block.docs.sum(axis=0, dtype=np.int64).tolist()
            touched = int((block.docs[:, FACTS] > 0).sum())
            for key, n in zip(COUNTED, (len(block.docs), *numbers, touched), strict=True):
                index[key] += n
            index["by_fact"].update(map(str, block.facts[:, 1].tolist()))
            index["samples"] += [s | {"doc": s["doc"] + first} for s in block.samples]

    def close(self) -> dict:
        """Flush to disk, rename; the index."""
        self._write_headers()
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self.index["sha256"][Path(file.name).name] = sha256(Path(file.name))
        for split in SPLITS:
            self.index[split]["samples"] = smallest(self.index[split]["samples"])
        write_json(self.aside / "index.json", self.index)
        shutil.rmtree(self.place, ignore_errors=True)
        os.rename(self.aside, self.place)
        return self.index

    def __exit__(self, *exception: object) -> None:
        for file in self.files.values():
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
                file.close()
        shutil.rmtree(self.aside, ignore_errors=True)


def smallest(samples: list[dict]) -> list[dict]:
    return sorted(samples, key=operator.itemgetter("key", "doc"))[:SAMPLES]


def read_index(directory: Path, number: int) -> dict | None:
    return read_json(directory / f"{number:05}" / "index.json")


def is_whole(directory: Path, number: int) -> bool:
    """Whether a stretch is there with the bytes that were written."""
    index, place = read_index(directory, number), directory / f"{number:05}"
    return index is not None and all(
        (place / name).exists() and sha256(place / name) == sha for name, sha in index["sha256"].items()
    )


def read(directory: Path, number: int) -> Encoded:
    """A stretch on disk, its arrays memory-mapped."""
    index, place = read_index(directory, number), directory / f"{number:05}"
    blocks = {split: Arrays(*map_arrays(place, split), index[split]["samples"]) for split in SPLITS}
    return Encoded(blocks, Counter(index["counts"]))


def map_arrays(place: Path, split: str) -> list[np.ndarray]:
    """A stretch's tokens, docs and facts of one split, memory-mapped."""
    return [np.load(place / f"{split}{suffix}.npy", mmap_mode="r", allow_pickle=False) for suffix in ARRAYS]
