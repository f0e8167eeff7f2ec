"""Prepared documents → batches, as a function of the step alone.

Documents are permuted anew in every epoch, by the seed and the epoch's number, alike in all conditions, and
packed end to end. Window w of an epoch is its tokens [wT, wT + T]: T inputs and T targets, the last of them
the next window's first input, so that every token is predicted once. Only the last, partial window of an
epoch is left out. Step s is windows sB … sB + B − 1, counted through the epochs, whatever the world size,
micro-batch or number of restarts: finding a window is a look-up in the running sum of document lengths.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.files import read_json
from pretrain import shards
from pretrain.shards import BYTES, FACTS, TOKENS


class Documents:
    """The documents of one split, memory-mapped.

    Raises UserError where index and arrays disagree, or hold another tokenizer's ids. That the bytes are
    those that prepare wrote, the stage contract has checked before.
    """

    def __init__(self, directory: Path, split: str, fingerprint: str):
        index = read_json(directory / "index.json")
        if index is None:
            raise UserError(f"{directory}: holds no index.json; prepare the data first")
        if index["fingerprint"] != fingerprint:
            raise UserError(
                f"{directory}: was prepared with another tokenizer ({index['condition']}); prepare it again"
            )
        self.stretches, docs = [], []
        for name, stretch in index["stretches"].items():
            place = directory / name
            try:
                tokens, numbers, _ = shards.map_arrays(place, split)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{place}: cannot be read ({error}); prepare the data again with --overwrite"
                ) from None
            said = stretch[split]["tokens"], stretch[split]["documents"], str(np.dtype(index["dtype"]))
            if (len(tokens), len(numbers), str(tokens.dtype)) != said or numbers[:, TOKENS].sum(
                dtype=np.int64
            ) != len(tokens):
                raise UserError(
                    f"{place}: its arrays and its index disagree; prepare the data again with --overwrite"
                )
            self.stretches.append(tokens)
            docs.append(np.asarray(numbers))
        docs = np.concatenate(docs)
        self.lengths, self.bytes, self.facts = (
            docs[:, column].astype(np.int64) for column in (TOKENS, BYTES, FACTS)
        )
        self.starts = (
            np.cumsum(self.lengths) - self.lengths
        )  # of each document, counted through all stretches
        self.first = np.cumsum(
            [0, *(len(tokens) for tokens in self.stretches)]
        )  # token of each stretch, likewise
        self.tokens = int(self.first[-1])

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, document: int, start: int, count: int) -> np.ndarray:
        """Tokens [start, start + count) of a document, fewer at its end; uint16."""
        at = self.starts[document]
        stretch = int(np.searchsorted(self.first, at, "right")) - 1
        at -= self.first[stretch]
        return self.stretches[stretch][at + start : at + min(start + count, self.lengths[document])]


class Windows:
    """Training windows of T + 1 tokens, numbered through the epochs."""

    def __init__(self, documents: Documents, length: int, seed: int):
        self.documents, self.length, self.seed = documents, length, seed
        self.per_epoch = (documents.tokens - 1) // length
        if self.per_epoch < 1:
            raise UserError(
                f"block_size {length}: the training data holds only {documents.tokens} tokens; prepare more"
            )
        self.left_out = (
            documents.tokens - 1 - self.per_epoch * length
        )  # tokens of an epoch that no window predicts
        self.order = lru_cache(maxsize=2)(self._order)  # a batch may straddle two epochs

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(documents, tokens up to the end of each) in the order of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.documents))
        return order, np.cumsum(self.documents.lengths[order])

    def holding(self, documents: int) -> int:
        """How many windows, from the first, hold so many documents; those of later epochs count again."""
        epochs, rest = divmod(documents, len(self.documents))
        tokens = int(self.order(epochs)[1][rest - 1]) if rest else 0
        return epochs * self.per_epoch + min(self.per_epoch, -(-tokens // self.length))

    def pieces(self, number: int) -> Iterator[tuple[int, int, int]]:
        """(document, first token, tokens) of a window."""
        epoch, window = divmod(number, self.per_epoch)
        order, ends = self.order(epoch)
        at, wanted = window * self.length, self.length + 1
        place = int(np.searchsorted(ends, at, "right"))
        while wanted:
            document = int(order[place])
            start = at - int(ends[place]) + int(self.documents.lengths[document])
            count = min(wanted, int(ends[place]) - at)
            yield document, start, count
            at, wanted, place = at + count, wanted - count, place + 1

    def batch(self, first: int, count: int) -> np.ndarray:
        """Windows [first, first + count): int64 (count, T + 1)."""
        out = np.empty((count, self.length + 1), np.int64)
        for row, number in zip(out, range(first, first + count)):
            position = 0
            for document, start, length in self.pieces(number):
                row[position : position + length] = self.documents.read(document, start, length)
                position += length
        return out
