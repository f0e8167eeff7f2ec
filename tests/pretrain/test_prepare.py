"""Prepare: the right documents, whole, once, in every condition; and nothing dropped unsaid."""

import contextlib
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT, read_json, sha256
from pipeline.identity import stage_dir
from pipeline.rows import load_rows
from pipeline.sample.documents import documents as sample_documents
from pipeline.sample.named import answered
from pipeline.sections import Prepare
from pretrain import documents, prepare, shards
from pretrain.documents import TEXT
from pretrain.shards import BYTES, FACTS, PLAIN, SPLITS, TOKENS
from tests.pretrain import torture
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

BASE = 1024


def condition(mode: str = "token") -> Condition:
    return Condition(mode, mode, "multiplication", BASE, share=0.5)


def spec(**keys) -> Prepare:
    return Prepare(
        **{"run": "prepare", "data": "sample", "tokens": 30_000, "val_tokens": 2_000, "shard_tokens": 8_000}
        | keys
    )


def make(directory: Path, asked: Prepare, mode: str = "token", workers: int = 1) -> dict[str, dict]:
    """Prepare into a directory; the index of each stretch."""
    directory.mkdir(parents=True, exist_ok=True)
    done, lacks = prepare.prepare(directory, asked, condition(mode), workers)
    assert not any(lacks.values())
    prepare.tidy(directory, done)
    return done


def block(directory: Path, split: str) -> shards.Arrays:
    """All documents of a split."""
    blocks = [shards.read(directory, int(path.name)).blocks[split] for path in sorted(directory.glob("0*"))]
    tokens, docs, facts = (np.concatenate([block[i] for block in blocks]) for i in range(3))
    return shards.Arrays(tokens, docs, facts, [])


def split_documents(whole: shards.Arrays) -> list[list[int]]:
    return [
        ids.tolist() for ids in np.split(whole.tokens, np.cumsum(whole.docs[:-1, TOKENS], dtype=np.int64))
    ]


def hashes(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): sha256(path) for path in sorted(directory.glob("0*/*.npy"))}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks in every stretch."""
    monkeypatch.setattr(documents, "CHUNK", 5_000)


def test_shards_hold_the_documents_rewritten_with_an_eos_behind_each(tmp_path):
    make(tmp_path, spec())
    encoder = Encoder(condition())
    source = [row["text"] for row in itertools.islice(sample_documents(0, "train"), 5_000)]
    there = {(encoder.condition.canonical(text), len(text.encode())) for text in source}
    for split, budget in (("train", 30_000), ("val", 2_000)):
        whole = block(tmp_path, split)
        for ids, numbers in zip(split_documents(whole), whole.docs, strict=True):
            assert ids[-1] == encoder.eos and encoder.eos not in ids[:-1]
            assert (encoder.render(ids), numbers[BYTES]) in there
            assert encoder.count_facts(ids) == numbers[FACTS]
        plain = np.cumsum(whole.docs[:, PLAIN])
        assert plain[-2] < budget <= plain[-1]


def test_no_text_is_in_both_splits(tmp_path):
    make(tmp_path, spec(tokens=60_000, val_tokens=10_000))  # the generator repeats itself
    train, val = (Counter(map(tuple, split_documents(block(tmp_path, split)))) for split in SPLITS)
    assert max(train.values()) > 1
    assert not train.keys() & val.keys()


def test_the_split_depends_on_the_plain_spelling_alone():
    def fraction(text: str) -> float:
        return documents.Document.of(text.encode(), condition()).fraction()

    assert fraction("so 9 × 6 = 54 eggs") == fraction("so 6*9=54 eggs") != fraction("so 6*9=54 hens")
    assert fraction("one text") == pytest.approx(0.7625980607830583)
    assert np.histogram([fraction(f"text {i}") for i in range(2000)], 4, (0, 1))[0] == pytest.approx(
        500, abs=80
    )


def test_every_condition_takes_the_same_documents(tmp_path):
    numbers = {}
    for mode in MODES:
        make(tmp_path / mode, spec(drills=0.2), mode)
        numbers[mode] = {split: block(tmp_path / mode, split).docs for split in SPLITS}
    for mode, split in itertools.product(MODES, SPLITS):
        columns = [BYTES, FACTS, PLAIN]
        assert (numbers[mode][split][:, columns] == numbers["plain"][split][:, columns]).all()
    assert (numbers["plain"]["train"][:, TOKENS] == numbers["plain"]["train"][:, PLAIN]).all()
    assert (numbers["token"]["train"][:, TOKENS] < numbers["plain"]["train"][:, TOKENS]).any()


def test_every_way_to_split_numbers_takes_the_same_documents(tmp_path):
    """Budgets are in GPT-2's own tokens, whatever a condition writes."""
    numbers = {}
    for split in ("bpe", "digits", "left", "right"):
        made = Condition(split, "echo", "multiplication", 4096, numbers=split, group=3)
        (tmp_path / split).mkdir()
        prepare.prepare(tmp_path / split, spec(drills=0.2), made, 1)
        numbers[split] = {part: block(tmp_path / split, part).docs for part in SPLITS}
        for ids in split_documents(block(tmp_path / split, "train"))[:40]:
            text = Encoder(made).render(ids)
            assert [*Encoder(made).encode_facts(text), 4096] == ids
    for split, part in itertools.product(numbers, SPLITS):
        columns = [BYTES, FACTS, PLAIN]
        assert (numbers[split][part][:, columns] == numbers["bpe"][part][:, columns]).all()
    assert (numbers["digits"]["train"][:, TOKENS] > numbers["bpe"]["train"][:, TOKENS]).any()


def test_bytes_do_not_depend_on_workers(tmp_path):
    make(tmp_path / "one", spec(drills=0.1), workers=1)
    make(tmp_path / "three", spec(drills=0.1), workers=3)
    assert len(hashes(tmp_path / "one")) >= 12
    assert hashes(tmp_path / "one") == hashes(tmp_path / "three")


def test_little_is_encoded_that_the_budgets_do_not_want(tmp_path, monkeypatch):
    """A small budget is not a reason to encode as much as would keep many workers busy."""
    read, written, chunks, append = [], [], prepare.chunks, shards.Writer.append
    monkeypatch.setattr(prepare, "chunks", lambda *words: (read.append(c) or c for c in chunks(*words)))
    monkeypatch.setattr(shards.Writer, "append", lambda self, e: written.append(e) or append(self, e))
    make(tmp_path, spec(), workers=4)
    assert len(written) > 10 and len(read) <= len(written) + 3


def test_killed_at_random_moments_and_rerun_it_writes_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    fell = torture.torture_prepare(tmp_path, 3, random.Random(0))
    assert fell["after the end"] < 3


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / ".00000.1").mkdir()
    done = make(tmp_path, spec())
    assert {path.name for path in tmp_path.iterdir()} == done.keys()


def test_a_stretch_appears_whole_or_not_at_all(tmp_path):
    chunk = documents.encode_chunk(documents.Recipe.of(spec(), condition()), next(documents.chunks(spec())))
    with shards.Writer(tmp_path, 0) as writer:
        writer.append(chunk)
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]  # no reader takes it for a stretch
        assert not shards.is_whole(tmp_path, 0)
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["00000"] and shards.is_whole(tmp_path, 0)
    with shards.Writer(tmp_path, 1) as writer:
        writer.append(chunk)
    assert [path.name for path in tmp_path.iterdir()] == ["00000"]


def test_parts_and_a_last_run_write_the_same(tmp_path):
    make(tmp_path / "whole", spec())
    (tmp_path / "parts").mkdir()
    for i in (2, 0, 1):
        done, _ = prepare.prepare(tmp_path / "parts", spec(), condition(), 1, part=(i, 3))
        assert done and all(int(name) % 3 == i for name in done)
    make(tmp_path / "parts", spec())
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_a_damaged_stretch_is_made_again(tmp_path):
    make(tmp_path, spec())
    before, victim = hashes(tmp_path), tmp_path / "00001" / "train.npy"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    make(tmp_path, spec())
    assert hashes(tmp_path) == before


# --- faults -------------------------------------------------------------------------------------------------


def parquet(path: Path, texts: list[bytes | None], group: int = 4) -> Path:
    """A parquet file with a string column `text`, whatever the bytes."""
    column = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), path, row_group_size=group)
    return path


def test_odd_documents_are_counted_and_the_rest_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    good = [f"Document {i}: {i} * 2 = {2 * i}.".encode() for i in range(20)]
    odd = [
        None,
        b"",
        b" \n ",
        b"\xff\xfe broken",
        b"a NUL \0 inside",
        b"<|endoftext|> and <MUL_6_9_54>",
        b"word " * 400_000,
    ]
    parquet(tmp_path / "odd.parquet", [x for pair in zip(good, odd + [None] * 13) for x in pair])
    asked, directory = (
        spec(data="odd.parquet", tokens=10**9, val_tokens=10**9, shard_tokens=10**6),
        tmp_path / "out",
    )
    directory.mkdir()
    done, _ = prepare.prepare(directory, asked, condition(), 1)
    counts = sum((Counter(stretch["counts"]) for stretch in done.values()), Counter())
    assert counts == {"dropped: null": 14, "dropped: empty": 2, "dropped: not UTF-8": 1, "kept: with NUL": 1}
    encoder = Encoder(condition())
    texts = [encoder.render(ids[:-1]) for split in SPLITS for ids in split_documents(block(directory, split))]
    assert {"a NUL \0 inside", "<|endoftext|> and <MUL_6_9_54>", "word " * 400_000} <= set(texts)
    assert len(texts) == 23


def test_the_source_is_read_once_and_never_by_a_worker(tmp_path, monkeypatch):
    """Else every worker would decompress every row group, and hold it."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    texts = [f"document {i} {'some words ' * 50}".encode() for i in range(100)]
    path = parquet(tmp_path / "one.parquet", texts, group=100)
    asked = spec(data="one.parquet")
    there = list(documents.chunks(asked))
    read = [chunk.read() for chunk in there[::2]]  # the others are on disk already, or another part's
    assert len(read) > 3
    assert [chunk.texts for chunk in read] == [tuple(texts[c.start : c.stop]) for c in there[::2]]
    assert next(documents.chunks(asked)).read().texts == read[0].texts  # again, in the same process
    path.unlink()
    encoded = documents.encode_chunk(documents.Recipe.of(asked, condition()), read[-1])
    assert sum(len(block.docs) for block in encoded.blocks.values()) == len(read[-1].texts)


def test_a_truncated_file_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    path = parquet(tmp_path / "cut.parquet", [b"some words " * 50] * 100)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="cut.parquet: cannot be read.*fetch it again"):
        make(tmp_path / "out", spec(data="cut.parquet"))


def test_a_damaged_page_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    path = parquet(
        tmp_path / "flipped.parquet", [os.urandom(30).hex().encode() for _ in range(100)], group=100
    )
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(UserError, match="flipped.parquet: cannot be read"):
        make(tmp_path / "out", spec(data="flipped.parquet"))


def test_a_killed_worker_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_decode", lambda *words: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="a worker was killed, perhaps for want of memory; run it again"):
        make(tmp_path, spec())


def test_a_corpus_of_its_own_for_every_seed_is_fresh_throughout(tmp_path, runs):
    path = tmp_path / "own.yaml"
    path.write_text(
        f"extends: {ROOT / 'tests/tiny.yaml'}\nseeds: [0, 1]\nstages: {{prepare: {{corpus: seed, name: worked}}}}\n"
    )
    texts = {}
    for condition, seed in (("baseline", 0), ("mul_tokens", 0), ("baseline", 1)):
        prepare.main([str(path), condition, str(seed)])
        directory = stage_dir(load(path), condition, seed, "prepare")
        assert read_json(directory / "stage.json")["identity"]["seed"] == seed
        encoder = Encoder(Condition.of(load(path), condition))
        texts[condition, seed] = [encoder.render(ids) for ids in split_documents(block(directory, "train"))]
    assert texts["baseline", 0] == texts["mul_tokens", 0]
    once = [set(texts["baseline", seed]) for seed in (0, 1)]
    assert len(once[0] & once[1]) < len(once[0]) / 10  # the table is small: a few of its products recur
    shared = [row["text"] for row in itertools.islice(load_rows("sample", TEXT, "train", name="worked"), 300)]
    assert len(once[0] & set(shared)) < 30
    drilled = [next(documents.drill_documents(documents.FRESH * corpus)) for corpus in (0, 1, 2)]
    assert len(set(drilled)) == 3


def test_rows_that_hold_no_text_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    texts = [row["text"] for row in itertools.islice(sample_documents(0, "train"), 60)]
    odd = [54, None, float("nan"), ["a"], "\ud800", " "]
    lines = [json.dumps({"text": text}) for text in [*odd, *texts]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    done = make(tmp_path / "out", spec(data="rows.jsonl", tokens=1_000, val_tokens=10))
    counts = sum((Counter(stretch["counts"]) for stretch in done.values()), Counter())
    dropped = {"dropped: not text": 3, "dropped: null": 1, "dropped: not UTF-8": 1, "dropped: empty": 1}
    assert dropped.items() <= counts.items()


def test_a_column_of_another_kind_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    with pytest.raises(UserError, match="numbers.parquet: column 'text' holds int64 and not text"):
        make(tmp_path / "out", spec(data="numbers.parquet"))


def test_a_missing_column_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    pq.write_table(pa.table({"content": ["words"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="other.parquet: has no column 'text'; its columns are content"):
        make(tmp_path / "out", spec(data="other.parquet"))


EXPERIMENT = """
vocabulary: multiplication
tokenizer: {base: 1024}
conditions: {baseline: {mode: plain}, mul_tokens: {mode: token}}
seeds: [0]
stages:
  prepare: {run: prepare, data: sample, tokens: 20e3, val_tokens: 1e3, shard_tokens: 6e3, drills: 0.3}
"""


@pytest.fixture
def experiment(tmp_path, runs) -> str:
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    return str(tmp_path / "small.yaml")


def test_a_source_that_is_too_small_is_refused_with_the_key(experiment, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    parquet(tmp_path / "few.parquet", [f"only a few words {i}".encode() for i in range(50)])
    words = [experiment, "baseline", "0", "--set", "stages.prepare.data=few.parquet", "--name", "few"]
    with pytest.raises(UserError, match=r"stages.prepare.tokens: few.parquet gives [\d,]+ of 20,000 tokens"):
        prepare.main(words)
    assert not list(runs.glob("data/*/stage.json"))


@pytest.mark.parametrize(
    "lacks, enough",
    [({"train": 0, "val": 90}, True), ({"train": 0, "val": 110}, False), ({"train": 90, "val": 0}, False)],
)
def test_only_validation_may_be_a_little_short(experiment, runs, monkeypatch, capsys, lacks, enough):
    """Which documents are held out is chance, so a source that has just enough may hold a little less of them."""
    real = prepare.prepare
    monkeypatch.setattr(prepare, "prepare", lambda *words, **keys: (real(*words, **keys)[0], lacks))
    with contextlib.nullcontext() if enough else pytest.raises(UserError, match="tokens; ask for no more"):
        prepare.main([experiment, "baseline", "0"])
    assert bool(list(runs.glob("data/*/stage.json"))) == enough
    assert ("prepare: val_tokens: sample gives 910 of 1,000 tokens" in capsys.readouterr().err) == enough


def test_too_little_disk_is_refused_beforehand(experiment, runs, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(UserError, match="B are free; set RUNS"):
        prepare.main([experiment, "baseline", "0"])
    assert not list(runs.glob("data/*/0*"))


def test_a_full_disk_is_said_and_room_made_it_goes_on(experiment, runs, monkeypatch):
    real, calls = shards.write_array_header_1_0, itertools.count()

    def full(*words):
        if next(calls) == 15:  # as the second stretch begins
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*words)

    monkeypatch.setattr(shards, "write_array_header_1_0", full)
    with pytest.raises(UserError, match="the disk is full; make room and run it again"):
        prepare.main([experiment, "baseline", "0"])
    (directory,) = runs.glob("data/*")
    assert (directory / "00000" / "index.json").exists() and not (directory / "stage.json").exists()
    prepare.main([experiment, "baseline", "0"])
    assert (directory / "stage.json").exists() and not list(directory.glob(".0*"))


# --- the stage ----------------------------------------------------------------------------------------------


def test_the_index_holds_what_the_arrays_hold(experiment, runs):
    prepare.main([experiment, "mul_tokens", "0"])
    (directory,) = runs.glob("data/*")
    index = read_json(directory / "index.json")
    assert index["fingerprint"] == condition().fingerprint() and index["dtype"] == "uint16"
    for split in SPLITS:
        whole = block(directory, split)
        assert index[split]["tokens"] == len(whole.tokens) == whole.docs[:, TOKENS].sum()
        assert index[split]["documents"] == len(whole.docs)
        assert index[split]["source_bytes"] == whole.docs[:, BYTES].sum()
        assert index[split]["facts"] == whole.docs[:, FACTS].sum() == len(whole.facts)
    assert {
        f"{name}/{array}": sha
        for name, stretch in index["stretches"].items()
        for array, sha in stretch["sha256"].items()
    } == hashes(directory)
    outputs = read_json(directory / "stage.json")["identity"]["outputs"]
    assert set(outputs) == {"index.json", "audit.json", *hashes(directory)}


def test_drills_have_their_share_everywhere_in_training_and_none_in_validation(experiment, runs):
    prepare.main([experiment, "mul_tokens", "0"])
    (directory,) = runs.glob("data/*")
    encoder = Encoder(condition())
    drills = {text for chunk in range(40) for text in itertools.islice(documents.drill_documents(chunk), 200)}
    drills = {encoder.condition.canonical(text) for text in drills}
    stretches = []
    for path in sorted(directory.glob("0*")):
        blocks = shards.read(directory, int(path.name)).blocks
        is_drill = {
            s: np.array([encoder.render(ids) in drills for ids in split_documents(blocks[s])]) for s in SPLITS
        }
        plain = blocks["train"].docs[:, PLAIN]
        stretches.append((plain[is_drill["train"]].sum(), plain.sum()))
        assert not is_drill["val"].any()
    assert sum(n for n, _ in stretches) / sum(n for _, n in stretches) == pytest.approx(0.3, abs=0.02)
    for drill_tokens, tokens in stretches[:-1]:  # the last is cut and may be short
        assert drill_tokens / tokens == pytest.approx(0.3, abs=0.04)


def test_drills_of_a_name_are_a_fifth_of_the_text_and_the_same_in_every_condition(tmp_path):
    """Sums without a product, for the question whether practice with digits makes the difference."""
    asked = spec(name="worked", drills=0.2, drills_name="arithmetic_add_2-6_worked")
    tokens, texts = [], {}
    for mode in ("plain", "token"):
        make(tmp_path / mode, asked, mode)
        encoder, whole = Encoder(condition(mode)), block(tmp_path / mode, "train")
        texts[mode] = [encoder.render(ids) for ids in split_documents(whole)]
        drilled = np.array(
            [re.match(r"User: What is \d+ \+ \d+\?", text) is not None for text in texts[mode]]
        )
        tokens.append((whole.docs[drilled, PLAIN].sum(), whole.docs[:, PLAIN].sum()))
        held_out = [encoder.render(ids) for ids in split_documents(block(tmp_path / mode, "val"))]
        assert not any(re.match(r"User: What is \d+ \+ \d+\?", text) for text in held_out)
    assert texts["plain"] == texts["token"] and tokens[0] == tokens[1]
    assert tokens[0][0] / tokens[0][1] == pytest.approx(0.2, abs=0.01)
    for text in itertools.compress(texts["plain"], drilled):
        assert not re.search("[*×x/-]", text.partition("Assistant:")[2])
        assert re.search(r"\d{2,6} \+ \d{2,6} = \d+\n#### \d+$", text)


def test_listed_documents_hold_true_sums_that_no_test_asks_and_end_in_a_conversation():
    name = "arithmetic_add_1-3"
    asked = {row["question"] for row in answered(name, "test", 2000, 0)}
    for document in itertools.islice(documents.generate("train", -1, 5, f"{name}_listed"), 200):
        *listed, question, solution, value = document["text"].splitlines()
        assert len(listed) == 8 and re.fullmatch(r"User: What is \d+ \+ \d+\?", question)
        assert value == f"#### {solution.rpartition(' ')[2]}"
        for line in [*listed, solution.removeprefix("Assistant: ")]:
            a, b, total = map(int, re.fullmatch(r"(\d+) \+ (\d+) = (\d+)", line).groups())
            assert a + b == total and (max(a, b) < 10 or f"What is {a} + {b}?" not in asked)


def test_the_audit_can_be_read_and_adds_up(experiment, runs):
    prepare.main([experiment, "mul_tokens", "0"])
    (directory,) = runs.glob("data/*")
    audit, text = read_json(directory / "audit.json"), (directory / "audit.txt").read_text()
    index = read_json(directory / "index.json")
    assert sum(audit["facts"].values()) == index["train"]["facts"] + index["val"]["facts"]
    assert len(audit["samples"]) == 10
    encoder = Encoder(condition())
    for shown in audit["samples"]:
        assert shown["written"] in encoder.condition.names
        ids = encoder.encode_segments(encoder.condition.rewrite(shown["source"]))
        assert encoder.condition.names[ids[0] - BASE] == shown["written"]
        assert f"[{shown['source']} → {shown['written']}]" in text
    assert f"{sum(audit['facts'].values()):,} facts in" in text


def test_the_audit_shows_a_fact_as_its_document_has_it(tmp_path):
    """`mixed` draws by the document and not by the fact, which alone would always be written in one way."""
    make(tmp_path, spec(drills=0.2), "mixed")
    samples = [
        sample
        for path in sorted(tmp_path.glob("0*"))
        for sample in shards.read(tmp_path, int(path.name)).blocks["train"].samples
    ]
    ways = {(sample["source"], "<" in sample["written"]) for sample in samples}
    assert len({source for source, _ in ways}) < len(ways)


def test_done_already_it_is_skipped_and_a_part_too(experiment, runs, capsys):
    prepare.main([experiment, "baseline", "0"])
    (directory,) = runs.glob("data/*")
    before = json.dumps(read_json(directory / "stage.json"))
    prepare.main([experiment, "baseline", "0"])
    prepare.main([experiment, "baseline", "0", "--part", "1/4"])
    assert capsys.readouterr().err.count("skipped") == 2
    assert json.dumps(read_json(directory / "stage.json")) == before


@pytest.mark.parametrize("part", ["3/3", "x", "1", "1/2/3", "0/0"])
def test_an_impossible_part_is_refused(experiment, part):
    with pytest.raises(UserError, match="--part"):
        prepare.main([experiment, "baseline", "0", "--part", part])


def test_ids_that_shards_cannot_hold_are_refused(tmp_path, monkeypatch):
    """uint16 would wrap without a word."""
    assert documents.MOST_IDS == np.iinfo(np.uint16).max + 1
    monkeypatch.setattr(documents, "MOST_IDS", 1000)
    with pytest.raises(UserError, match=r"tokenizer: 1,117 ids are more than the 1,000 that shards hold"):
        make(tmp_path, spec())
