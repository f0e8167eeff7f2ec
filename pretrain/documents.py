"""The documents of a source, cut into chunks; and a chunk, rewritten and encoded, which is a worker's job."""

import contextlib
import hashlib
import itertools
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.conversation import as_text, conversation
from pipeline.errors import UserError
from pipeline.formats import Format, anything
from pipeline.rows import load_rows, source_files
from pipeline.sample import arithmetic
from pipeline.sample.documents import documents
from pipeline.sample.named import answered
from pipeline.sample.worked import drills
from pipeline.sections import Prepare
from pretrain import shards
from pretrain.shards import SPLITS, Arrays, Encoded
from tokenizer.conditions import Condition, Spans
from tokenizer.encode import Encoder

CHUNK = 1_000_000  # bytes of text, about, that a worker encodes at once
READ = 2**20  # bytes of a file that are read at once
DRILLS = 8  # exercises in one drill document
FRESH = 1_000_000  # chunks of a corpus, more than there ever are: those of the next one get other drills
MOST_IDS = 2**16  # of uint16, which would wrap without a word
AROUND = 60  # characters that the audit shows on both sides of a rewrite


# --- the source ---------------------------------------------------------------------------------------------


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    """Documents without end; those of a name are conversations, and a model of them can be asked at once."""
    if name is None:
        return documents(seed, split)
    if split != "train":
        raise ValueError(f"those named '{name}' have no split '{split}'; there is train")
    part = arithmetic.named(name)
    each = arithmetic.LISTED if part and part.listed else 1
    rows = answered(name, split, -1, seed)
    groups = iter(lambda: tuple(itertools.islice(rows, each)), ())
    return ({"text": _as_document(rows)} for rows in groups)


def _as_document(rows: tuple[dict, ...]) -> str:
    """A conversation about the last problem, behind the bare solutions of the others."""
    *listed, asked = rows
    solutions = [row["answer"].rpartition("\n####")[0] for row in listed]
    return "\n".join([*solutions, as_text(conversation(asked["question"], asked["answer"]))])


# Whether a document can be used, `_decode` says, who counts it with its chunk.
TEXT = Format("text", {"text": anything}, generate, held_apart="validation", alone=True)


class Chunk(NamedTuple):
    """Consecutive documents: rows [start, stop) of a parquet row group, or the texts themselves."""

    number: int
    size: int  # bytes of text, about
    group: "_RowGroup | None" = None
    start: int = 0
    stop: int = 0
    texts: tuple[str | bytes | None, ...] = ()

    def read(self) -> "Chunk":
        """The same with its texts. Chunks of a row group are read in their order, and not all need be."""
        if self.group is None:
            return self
        return Chunk(self.number, self.size, texts=self.group.take(self.start, self.stop))


def chunks(spec: Prepare, corpus: int = 0) -> Iterator[Chunk]:
    """The source in order. Raises UserError where a file cannot be read."""
    files = [] if spec.data == "sample" else source_files(spec.data, spec.name, "train")
    parts = _parquet(files) if files and files[0].suffix == ".parquet" else _rows(spec, corpus)
    for number, part in enumerate(parts):
        yield part._replace(number=number)


def _parquet(files: list[Path]) -> Iterator[Chunk]:
    for file in files:
        with _readable(file):
            meta = pq.ParquetFile(file).metadata
            kind = pq.read_schema(file)
        if "text" not in kind.names:
            raise UserError(f"{file}: has no column 'text'; its columns are {', '.join(kind.names)}")
        if not (kind := kind.field("text").type).equals(pa.null()) and not _is_text(kind):
            raise UserError(
                f"{file}: column 'text' holds {kind} and not text; convert it, or name other data"
            )
        column = meta.schema.names.index("text")
        for group in range(meta.num_row_groups):
            rows = meta.row_group(group).num_rows
            size = meta.row_group(group).column(column).total_uncompressed_size
            step = max(1, CHUNK * rows // max(1, size))
            texts = _RowGroup(file, group, step)
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                yield Chunk(0, size * (stop - start) // rows, texts, start, stop)


def _rows(spec: Prepare, corpus: int) -> Iterator[Chunk]:
    texts, size = [], 0
    for row in load_rows(spec.data, TEXT, "train", name=spec.name, seed=corpus):
        texts.append(row["text"])
        size += len(row["text"]) if isinstance(row["text"], str) else 0
        if size >= CHUNK:
            yield Chunk(0, size, texts=tuple(texts))
            texts, size = [], 0
    if texts:
        yield Chunk(0, size, texts=tuple(texts))


def _is_text(kind: pa.DataType) -> bool:
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    return kind in kinds or pa.types.is_dictionary(kind) and kind.value_type in kinds


class _RowGroup:
    """The texts of a row group in order, each read and decompressed once; `rows` of them are in memory."""

    def __init__(self, file: Path, group: int, rows: int):
        self.texts, self.at = self._texts(file, group, rows), 0

    def _texts(self, file: Path, group: int, rows: int) -> Iterator[bytes | None]:
        with _readable(file):
            source = pq.ParquetFile(file, buffer_size=READ, pre_buffer=False)  # else all of it is read
            for batch in source.iter_batches(rows, [group], ["text"], use_threads=False):
                # raw, so that invalid UTF-8 costs a document and not the file
                yield from batch.column(0).cast(pa.large_binary()).to_pylist()

    def take(self, start: int, stop: int) -> tuple[bytes | None, ...]:
        """Rows [start, stop), none of which was taken before."""
        texts = tuple(itertools.islice(self.texts, start - self.at, stop - self.at))
        self.at = stop
        return texts


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]}); fetch it again") from None


# --- a worker -----------------------------------------------------------------------------------------------


class Recipe(NamedTuple):
    """All that a worker has to know."""

    condition: tuple  # the fields of a Condition
    held_out: float  # share of documents
    drills: float  # share of training tokens
    drills_name: str | None
    corpus: int = 0

    @classmethod
    def of(cls, spec: Prepare, condition: Condition, corpus: int = 0) -> "Recipe":
        if condition.size > MOST_IDS:
            raise UserError(
                f"tokenizer: {condition.size:,} ids are more than the {MOST_IDS:,} that shards hold; "
                "lower tokenizer.group or tokenizer.base"
            )
        text = spec.tokens * (1 - spec.drills)
        held_out = spec.val_tokens / (text + spec.val_tokens)
        return cls(astuple(condition), held_out, spec.drills, spec.drills_name, corpus)


def encode_chunk(recipe: Recipe, chunk: Chunk) -> Encoded:
    """A chunk's documents, rewritten and encoded, drills among those for training."""
    encoder, counts = encoder_of(recipe.condition), Counter()
    condition, writers = encoder.condition, {split: _Writer(encoder, chunk.number) for split in SPLITS}
    generated = drill_documents(chunk.number + FRESH * recipe.corpus, recipe.drills_name)
    drills, owed = (Document.of(drill.encode(), condition) for drill in generated), 0.0
    drill = next(drills) if recipe.drills else None
    for document in chunk.texts:
        text = _decode(document, condition, counts)
        if text is None:
            continue
        if text.fraction() < recipe.held_out:
            writers["val"].add(text)
            continue
        owed += writers["train"].add(text) * recipe.drills / (1 - recipe.drills)
        while (
            owed > 0 and owed >= len(encoder.baseline.encode_ordinary(drill.canonical)) / 2
        ):  # chunks err both ways
            owed -= writers["train"].add(drill)
            drill = next(drills)
    return Encoded({split: writer.block() for split, writer in writers.items()}, counts)


@cache
def encoder_of(condition: tuple) -> Encoder:
    return Encoder(Condition(*condition))


def drill_documents(seed: int, name: str | None = None) -> Iterator[str]:
    """Generated arithmetic with its working, without end; nothing that a test of generated products asks.

    Those of a name are the documents that a corpus of that name consists of.
    """
    if name is not None:
        yield from (row["text"] for row in generate("train", -1, seed, name))
    rows = drills(sys.maxsize, seed, all_products=False)
    texts = (f"{row['question']}\n{row['answer'].rpartition('####')[0].rstrip()}" for row in rows)
    while True:
        yield "\n\n".join(itertools.islice(texts, DRILLS))


class Document(NamedTuple):
    """A document: as it stands, with its facts in the plain spelling, and where they are."""

    text: str
    raw: bytes  # its UTF-8
    canonical: str
    facts: Spans

    @classmethod
    def of(cls, raw: bytes, condition: Condition) -> "Document":
        text = raw.decode()
        facts = condition.find(text)
        return cls(text, raw, condition.canonical(text) if facts else text, facts)

    def fraction(self) -> float:
        """The text's own place in [0, 1), the same however its facts are spelled."""
        plain = self.canonical.encode() if self.facts else self.raw
        digest = hashlib.sha1(plain, usedforsecurity=False).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def _decode(document: object, condition: Condition, counts: Counter) -> Document | None:
    """A document's text; None where it is dropped, for a reason that `counts` then holds."""
    if document is not None and not isinstance(document, bytes | str):
        counts["dropped: not text"] += 1
        return None
    try:
        text = Document.of(document.encode() if isinstance(document, str) else document or b"", condition)
    except UnicodeError:
        counts["dropped: not UTF-8"] += 1
        return None
    if not text.text.strip():
        counts["dropped: null" if document is None else "dropped: empty"] += 1
        return None
    if "\0" in text.text:
        counts["kept: with NUL"] += 1
    return text


class _Writer:
    """Gathers the documents of one split of a chunk."""

    def __init__(self, encoder: Encoder, chunk: int):
        self.encoder, self.chunk = encoder, chunk
        self.tokens: list[np.ndarray] = []
        self.docs: list[tuple[int, int, int, int]] = []
        self.facts: list[tuple[int, int]] = []
        self.found: list[tuple[int, int, int, int, str]] = []  # key, document, start, end, text

    def add(self, text: Document) -> int:
        """Encode a document; its tokens in the plain spelling, with EOS."""
        doc = len(self.docs)
        if text.facts:
            ids = self.encoder.encode_facts(text.text)
        else:  # as encode() does it, without a Python object for every id
            ids = self.encoder.bpe.encode_to_numpy(text.text, disallowed_special=())
        plain = len(ids) + 1
        if text.facts or self.encoder.bpe is not self.encoder.baseline:
            plain = len(self.encoder.baseline.encode_to_numpy(text.canonical, disallowed_special=())) + 1
        tokens = np.full(len(ids) + 1, self.encoder.eos, np.uint16)
        tokens[:-1] = ids
        self.tokens.append(tokens)
        self.docs.append((len(tokens), len(text.raw), len(text.facts), plain))
        for start, end, index in text.facts:
            self.facts.append((doc, index))
            self.found.append(
                (zlib.crc32(f"{self.chunk} {doc} {start}".encode()), doc, start, end, text.text)
            )
        return plain

    def block(self) -> Arrays:
        tokens = np.concatenate([np.empty(0, np.uint16), *self.tokens])
        docs = np.array(self.docs, np.uint32).reshape(-1, 4)
        facts = np.array(self.facts, np.uint32).reshape(-1, 2)
        return Arrays(tokens, docs, facts, [self._sample(*f) for f in sorted(self.found)[: shards.SAMPLES]])

    def _sample(self, key: int, doc: int, start: int, end: int, text: str) -> dict:
        """A rewrite in its context, for the audit."""
        condition = self.encoder.condition
        segments = next(written for at, _, written in condition.rewrites(text) if at == start)
        written = condition.written(segments)
        around = {"before": text[max(0, start - AROUND) : start], "after": text[end : end + AROUND]}
        return {"key": key, "doc": doc, "source": text[start:end], "written": written, **around}
