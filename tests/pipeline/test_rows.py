"""Rows from local files, a Hub that answers on this machine, and `sample`; and what bad data says."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
from pyarrow import compute

from eval.tasks import hellaswag, svamp
from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.files import ROOT
from pipeline.rows import corpus_of, load_rows, source_digests, source_files, split_dev, training_rows
from pipeline.sections import Sft
from pretrain.documents import TEXT
from sft.curriculum import FORMATS

KINDS = {
    "text": TEXT,
    **FORMATS,
    "hellaswag": hellaswag.FORMAT,
    "svamp": svamp.TASK.format,
}
SUM = {"question": "What is 6 * 9?", "answer": "6 * 9 = 54\n#### 54"}
ROWS = [{**SUM, "question": f"What is 6 * {i}?"} for i in range(5)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(source, kind="gsm8k", split="train", **more):
    return list(load_rows(source, KINDS[kind], split, **more))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.json"])
def test_every_format_gives_the_same_rows(folder, name):
    write(folder / name, ROWS)
    assert read(name) == ROWS
    assert read(name, limit=2) == ROWS[:2]


def test_other_columns_come_along_but_for_text(folder):
    write(folder / "a.parquet", [{**SUM, "seen": True, "text": "Six nines."}])
    assert read("a.parquet")[0]["seen"] is True
    assert read("a.parquet", "text") == [{"text": "Six nines."}]


def test_a_folder_gives_the_files_named_for_the_split(folder):
    for i, name in enumerate(["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.jsonl"]):
        write(folder / "set" / "main" / name, [ROWS[i]])
    assert read("set", name="main") == ROWS[:2]
    assert read("set", split="test", name="main") == [ROWS[2]]
    assert source_files("set", "main", "dev") == source_files("set", "main", "train")
    with pytest.raises(UserError, match=r"main: has no files of split 'validation' \(test.jsonl, .*name the"):
        read("set", split="validation", name="main")


def test_a_folder_without_split_names_is_all_for_training(folder):
    write(folder / "web" / "000.parquet", [{"text": "a"}])
    write(folder / "web" / "001.parquet", [{"text": "b"}])
    assert [row["text"] for row in read("web", "text")] == ["a", "b"]
    with pytest.raises(UserError, match="no files of split 'test'"):
        read("web", "text", "test")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_missing_column_is_named_before_the_first_row(folder, name):
    write(folder / name, [{"question": "?", "solution": "54"}])
    with pytest.raises(UserError, match=rf"{name}.*: no column 'answer', .*; it has question, solution"):
        load_rows(name, KINDS["gsm8k"], "train")


def test_a_column_missing_from_a_later_line_is_named_with_its_line(folder):
    write(folder / "a.jsonl", [SUM, {"question": "?"}])
    with pytest.raises(UserError, match="a.jsonl, line 2: no column 'answer'"):
        read("a.jsonl")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_set_without_rows_is_refused(folder, name):
    if name == "a.parquet":
        none = pyarrow.array([], "string")
        pyarrow.parquet.write_table(pyarrow.table({"question": none, "answer": none}), folder / name)
    else:
        (folder / name).write_text("\n")
    with pytest.raises(UserError, match=f"{name}: has no rows"):
        load_rows(name, KINDS["gsm8k"], "train")


@pytest.mark.parametrize("damage", ["cut", "not parquet", "page"])
def test_a_damaged_parquet_file_is_one_line(folder, damage):
    path = folder / "a.parquet"
    write(path, [{**SUM, "question": os.urandom(300).hex()} for _ in range(200)])
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-20],
            "not parquet": b"no parquet here",
            "page": whole[:4] + b"\xff" * 400 + whole[404:],
        }[damage]
    )
    with pytest.raises(UserError, match=r"a.parquet: cannot be read \(.*; fetch it again") as caught:
        read("a.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line, said", [('{"question": ', "2: not JSON"), ("[1]", "2: not an object")])
def test_a_damaged_line_is_named(folder, line, said):
    (folder / "a.jsonl").write_text(json.dumps(SUM) + "\n" + line + "\n")
    with pytest.raises(UserError, match=f"a.jsonl, line {said}"):
        read("a.jsonl")


def test_a_missing_file_is_named(folder):
    with pytest.raises(UserError, match=r"nowhere.parquet: no such file or folder; .*DATA_DIR"):
        load_rows("nowhere.parquet", KINDS["text"], "train")


def not_utf8(*values):
    """A column of texts whose bytes nobody has checked."""
    options = compute.CastOptions(pyarrow.string(), allow_invalid_utf8=True)
    return compute.cast(pyarrow.array(values, pyarrow.binary()), options=options)


UNUSABLE = {
    "'question' is null, not text": {"question": None},
    "'question' is a number, not text": {"question": 54},
    "'question' is empty": {"question": " "},
    "'question' holds half a character": {"question": "\ud800"},
    "'question' is list, not text": {"question": ["What?"]},
    "'answer' is a number, not text": {"answer": float("nan")},
    "'answer' is true or false, not text": {"answer": True},
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_a_row_that_cannot_be_used_is_skipped_counted_and_said(folder, capsys, reason):
    write(folder / "a.jsonl", [ROWS[0], SUM | UNUSABLE[reason], ROWS[1]])
    assert read("a.jsonl") == ROWS[:2]
    assert capsys.readouterr().err == f"a.jsonl (train): skipped 1 rows: 1 {reason}\n"
    skipped = Counter()
    assert read("a.jsonl", limit=2, skipped=skipped) == ROWS[:1]  # of the first two rows
    assert skipped == {reason: 1} and not capsys.readouterr().err
    write(folder / "b.jsonl", [SUM | UNUSABLE[reason]] * 2)
    with pytest.raises(UserError, match=f"b.jsonl: has no row that can be used: 2 {reason}"):
        load_rows("b.jsonl", KINDS["gsm8k"], "train")


COLUMNS = {
    "'question' is bytes, not text": pyarrow.array([b"What?", None]),
    "'question' is a number, not text": pyarrow.array([1.5, None]),
    "'question' is not UTF-8": not_utf8(b"\xff?", None),
}


@pytest.mark.parametrize("reason", COLUMNS)
def test_a_parquet_column_of_another_kind_is_no_traceback(folder, reason):
    table = pyarrow.table({"question": COLUMNS[reason], "answer": ["#### 1"] * 2})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    with pytest.raises(
        UserError, match=f"a.parquet: has no row that can be used: 1 {reason}, 1 'question' is null"
    ):
        read("a.parquet")


def test_one_damaged_text_costs_its_row_and_no_other(folder):
    columns = {"question": not_utf8(b"One?", b"\xff\xfe", b"Three?"), "answer": ["#### 1"] * 3}
    time = pyarrow.array([1, 2, 3], pyarrow.timestamp("ns"))  # has no place in Python, and nobody asks for it
    pyarrow.parquet.write_table(pyarrow.table({**columns, "time": time}), folder / "a.parquet")
    skipped = Counter()
    assert [row["question"] for row in read("a.parquet", skipped=skipped)] == ["One?", "Three?"]
    assert skipped == {"'question' is not UTF-8": 1}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("Hi", "'messages' is text, not a list of turns"),
        ([{"role": "user", "content": 5}], "'messages' has a turn without the texts role and content"),
        (["Hi"], "'messages' has a turn without the texts role and content"),
        ([{"role": "user", "content": "\ud800"}], "'messages' holds half a character"),
    ],
)
def test_a_conversation_of_another_shape_is_skipped(folder, messages, reason):
    good = [{"role": "user", "content": None}]  # whether it can be learned, sft/tulu.py says
    write(folder / "a.jsonl", [{"messages": good}, {"messages": messages}])
    skipped = Counter()
    assert read("a.jsonl", "tulu", skipped=skipped) == [{"messages": good}] and skipped == {reason: 1}


def test_a_bare_number_is_an_answer(folder):
    write(
        folder / "a.jsonl",
        [{"question": "Two and two?", "answer": 4}, {"question": "A half?", "answer": 0.5}],
    )
    assert [row["answer"] for row in read("a.jsonl")] == ["4", "0.5"]


def test_digests_are_those_of_the_bytes(folder):
    write(folder / "a.jsonl", ROWS)
    digest = hashlib.sha256((folder / "a.jsonl").read_bytes()).hexdigest()
    assert source_digests("a.jsonl", None, "train") == [digest]


# The Hub

SHA = "a" * 40
CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train-*}, {split: test, path: main/test-*}]
- config_name: other
  data_files: [{split: train, path: other/*}]
---
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's interface as its own clients ask for one data set, acme/sums."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    asked: list[str]

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        self.asked.append(path)
        if re.fullmatch(rf"/api/datasets/acme/sums(/revision/{SHA})?", path):
            siblings = [{"rfilename": name} for name in self.files]
            return self.send_json({"id": "acme/sums", "sha": SHA, "siblings": siblings, "tags": []})
        if path == f"/api/datasets/acme/sums/paths-info/{SHA}":
            return self.send_json([self.entry(name) for name in urllib.parse.parse_qs(body)["paths"]])
        if found := re.fullmatch(rf"/api/datasets/acme/sums/tree/{SHA}/?(.*)", path):
            inside = [name for name in self.files if name.startswith(found[1])]
            folders = {name.split("/")[0] for name in inside if "/" in name and not found[1]}
            return self.send_json(
                [self.entry(name) for name in inside if found[1] or "/" not in name]
                + [{"type": "directory", "path": name, "oid": SHA} for name in folders]
            )
        name = path.removeprefix(f"/datasets/acme/sums/resolve/{SHA}/")
        if name in self.files:
            return self.send(self.files[name], ETag=f'"{hashlib.sha256(self.files[name]).hexdigest()}"')
        self.send(b"", 404)

    do_GET = do_HEAD = do_POST = answer

    def entry(self, name):
        size, sha256 = len(self.files[name]), hashlib.sha256(self.files[name]).hexdigest()
        lfs = {"oid": sha256, "size": size, "pointerSize": 9}
        return {"type": "file", "path": name, "size": size, "oid": SHA, "lfs": lfs}

    def send_json(self, value):
        self.send(json.dumps(value).encode(), Content_Type="application/json")

    def send(self, content, code=200, **headers):
        self.send_response(code)
        for key, value in {**headers, "X_Repo_Commit": SHA, "Content_Length": len(content)}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    """A running Hub; `.files` can be changed, `.asked` is what it was asked."""
    parts = {"main/train-0": ROWS[:3], "main/train-1": ROWS[3:], "main/test-0": [SUM], "other/0": ROWS}
    for name, part in parts.items():
        write(tmp_path / "there" / f"{name}.parquet", part)
    files = {p.relative_to(tmp_path / "there").as_posix(): p.read_bytes() for p in tmp_path.glob("there/*/*")}
    handler = type("Handler", (Hub,), {"files": {"README.md": CARD.encode(), **files}, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()


@pytest.fixture
def download(folder):
    """Run `data download` of an experiment that is evaluated and watched on acme/sums, as a person does."""
    file = folder / "study.yaml"
    file.write_text(
        f"extends: {ROOT / 'experiments/quickstart.yaml'}\n"
        "stages: {sft_tulu: {eval_every: 5, dev: acme/sums, dev_name: main}}\n"
        "eval: {sets: {word_problems: {data: acme/sums, name: main, split: test}}}\n"
    )

    def run(endpoint):
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf")}
        command = [sys.executable, "-m", "pipeline", "download", str(file)]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)

    return run


def test_what_was_downloaded_is_read_without_network_while_it_is_whole(hub, download, folder):
    done = download(hub.url)
    assert done.returncode == 0, done.stderr
    assert "acme/sums main/train: 2 files" in done.stdout and "0 of 2 splits are here" in done.stdout
    assert read("acme/sums", name="main") == ROWS
    assert read("acme/sums", split="test", name="main") == [SUM]
    wanted = [hashlib.sha256(hub.files[f"main/train-{i}.parquet"]).hexdigest() for i in (0, 1)]
    assert source_digests("acme/sums", "main", "train") == wanted
    assert not any("other/0" in path for path in hub.asked)
    hub.asked.clear()
    assert "2 of 2 splits are here" in download(hub.url).stdout and not hub.asked
    (folder / "hub/acme--sums/main/train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not downloaded .*scripts/download.sh"):
        load_rows("acme/sums", KINDS["gsm8k"], "train", name="main")


def test_an_interrupted_download_goes_on_and_is_not_read_before(hub, download, folder):
    whole = hub.files.pop("main/train-1.parquet")
    hub.files["main/train-1.parquet"] = b""  # announced and given empty, then whole
    cut = "main/train-1.parquet"
    hub.entry = lambda self, name: Hub.entry(self, name) | ({"size": len(whole)} if name == cut else {})
    failed = download(hub.url)
    assert failed.returncode == 2 and "train-1.parquet" in failed.stderr and "run this again" in failed.stderr
    assert len(failed.stderr.strip().splitlines()[-1]) < 400
    with pytest.raises(UserError, match=r"acme/sums \(main, train\)"):
        load_rows("acme/sums", KINDS["gsm8k"], "train", name="main")
    hub.files["main/train-1.parquet"], hub.entry = whole, Hub.entry
    hub.asked.clear()
    assert download(hub.url).returncode == 0
    assert read("acme/sums", name="main") == ROWS
    assert not any("resolve" in path and "main/test" in path for path in hub.asked)  # it was finished


def test_no_network_is_one_line_that_names_the_id(download):
    done = download("http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: acme/sums (main, test): the Hub does not give it")
    assert done.stderr.count("\n") == 1


def test_public_weights_are_fetched_with_the_rest(folder, monkeypatch, capsys):
    (folder / "study.yaml").write_text(
        "vocabulary: multiplication\nconditions: {baseline: {mode: plain}}\nseeds: [0]\n"
        "stages: {import: {run: import, base: acme/gpt2, rows: mean}}\n"
    )
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda base, **_: asked.append(base) or folder)
    main(["download", str(folder / "study.yaml")])
    assert asked == ["acme/gpt2"] and f"acme/gpt2: in {folder}" in capsys.readouterr().out


def test_what_was_not_downloaded_is_refused_at_once(folder):
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"acme/sums \(main, train\): no such path .*scripts/download.sh"):
        load_rows("acme/sums", KINDS["gsm8k"], "train", name="main")
    assert time.perf_counter() - start < 0.5


# Sample, dev, real rows


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_sample_has_the_columns_of_every_kind(kind):
    held_apart = "validation" if kind in ("text", "hellaswag") else "test"
    for split in ("train", held_apart):
        found = read("sample", kind, split, limit=50)
        assert len(found) == 50 and all(set(KINDS[kind].columns) <= set(row) for row in found)
    with pytest.raises(UserError, match=f"sample: {kind} rows have no split 'dev'.* and {held_apart}"):
        load_rows("sample", KINDS[kind], "dev")


def test_worked_answers_of_sample_are_rows_and_conversations():
    rows, texts = (
        read("sample", "gsm8k", limit=20, name="worked"),
        load_rows("sample", KINDS["text"], "train", name="worked"),
    )
    for row, document in zip(rows, texts):
        assert document["text"] == f"User: {row['question']}\nAssistant: {row['answer']}"
    assert " times " in next(load_rows("sample", KINDS["text"], "train", name="worked_10"))["text"]
    for kind, name in (("tulu", "worked"), ("gsm8k", "other"), ("gsm8k", "worked_0"), ("text", "worked_100")):
        with pytest.raises(UserError, match=f"sample: {kind} rows: there are none named '{name}'"):
            load_rows("sample", KINDS[kind], "train", name=name)
    with pytest.raises(UserError, match="those named 'worked' have no split 'validation'"):
        next(load_rows("sample", KINDS["text"], "validation", name="worked"))


def test_a_file_that_is_no_text_is_refused_by_line(folder):
    for content in (b'{"question": "caf\xe9"}\n', b"\x89PNG\r\n", b"[" * 100_000):
        (folder / "rows.jsonl").write_bytes(content)
        with pytest.raises(UserError, match="rows.jsonl, line 1: not JSON"):
            read("rows.jsonl")


def test_gsm8k_and_tinygsm_are_different_problems_of_sample():
    kinds = [read("sample", kind, limit=2000) for kind in ("gsm8k", "tinygsm")]
    one, other = ({row["question"] for row in rows} for rows in kinds)
    assert len(one & other) < 200


def test_dev_is_the_smallest_hashes_with_all_repeats_in_any_order():
    found = [{**SUM, "question": f"What is {i % 900}?", "answer": str(i)} for i in range(1000)]
    train, dev = split_dev(found, 100)
    assert len({row["question"] for row in dev}) == 100 and len(train) + len(dev) == 1000
    assert not {row["question"] for row in train} & {row["question"] for row in dev}
    largest = max(hashlib.sha256(row["question"].encode()).digest() for row in dev)
    assert all(hashlib.sha256(row["question"].encode()).digest() > largest for row in train)
    again = split_dev(reversed(found), 100)[1]
    assert {row["answer"] for row in again} == {row["answer"] for row in dev}


@pytest.mark.parametrize("name", [None, "worked"])
def test_every_seed_has_rows_of_its_own_and_all_seeds_keep_the_same_dev_and_test_rows_apart(name):
    form, skipped = FORMATS["gsm8k"], Counter()
    dev = {row["question"] for row in split_dev(load_rows("sample", form, "train", name=name))[1]}
    test = {row["question"] for row in load_rows("sample", form, "test", name=name, limit=500)}
    rows = []
    for spec in (Sft(**SFT), Sft(**SFT, corpus="seed")):
        for seed in (0, 1):
            corpus = corpus_of(spec, seed)
            read = training_rows("sample", form, name=name, corpus=corpus, skipped=skipped)
            rows.append({row["question"] for row in read})
            assert len(read) > 9000 and not rows[-1] & (dev | test)
    shared, again, first, second = rows
    assert shared == again and not skipped
    assert max(len(shared & first), len(shared & second), len(first & second)) < len(first) / 3


def test_too_few_rows_for_a_dev_split_are_refused():
    with pytest.raises(UserError, match="5 different questions: too few"):
        split_dev(ROWS)


SFT = {
    "run": "sft",
    "from": "base",
    "task": "gsm8k",
    "data": "sample",
    "examples": 1,
    "batch_size": 1,
    "micro_batch": 1,
    "max_length": 9,
    "lr": 1.0,
    "schedule": "cosine",
    "warmup": 0,
    "weight_decay": 0.0,
    "precision": "fp32",
}
REAL = {
    "openstax/train.parquet": ("text", 2494),
    "fineweb_edu/sample.parquet": ("text", 450),
    "gsm8k/train.parquet": ("gsm8k", 7473),
    "gsm8k/test.parquet": ("gsm8k", 1319),
    "hellaswag/validation.parquet": ("hellaswag", 10042),
    "svamp/test.parquet": ("svamp", 1000),
    "tinygsm_family/train.parquet": ("tinygsm", 4000),
    "messages/train.parquet": ("tulu", 2659),
}


@pytest.mark.parametrize("file", REAL)
def test_real_files_are_read_to_their_last_row(shared_data, monkeypatch, file):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    kind, count = REAL[file]
    assert sum(1 for _ in load_rows(file, KINDS[kind], "train")) == count


def test_a_real_folder_keeps_its_test_split_apart(shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    assert len(read("gsm8k", split="test")) == 1319
    assert len(split_dev(read("gsm8k"))[1]) == 500


def test_importing_costs_no_heavy_library():
    heavy = {"pyarrow", "datasets", "huggingface_hub", "torch"}
    code = f"import sys, pipeline.rows; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
