"""The benchmarks run and print what they promise; how fast they are is not a matter for tests."""

import json
import re

import pytest

from pipeline.errors import UserError
from pipeline.sample.documents import hellaswag
from scripts.bench import gpu_visit, nanogpt
from scripts.bench import pretrain as bench
from tests.pretrain import torture


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    rows = map(json.dumps, hellaswag("validation", 20, 0))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    looks = "hellaswag_every: 5, hellaswag: rows.jsonl, save_every: 1"
    (tmp_path / "small.yaml").write_text(torture.EXPERIMENT.replace("save_every: 1", looks))
    return str(tmp_path / "small.yaml")


def test_rates_ratios_and_the_cost_of_a_look_are_printed(experiment, monkeypatch, capsys):
    monkeypatch.setattr(bench, "TURNS", 1)
    monkeypatch.setattr(bench, "SECONDS", 0.02)
    monkeypatch.setattr(bench, "MICRO_BATCHES", (8,))
    monkeypatch.setattr(bench, "LEFT_OUT", {"attention in halves": None})  # the processes read their own
    bench.main([experiment, "--gains"])
    table = capsys.readouterr().out
    for name in ("ours", "reference", "ours without attention in halves"):
        rate = re.search(rf"^{name} +eager +\d+ +([\d,]+) ", table, re.M)[1]
        assert int(rate.replace(",", "")) > 100
    assert len(re.findall(r"^ours is [\d.]+ \(turns: .*\) times as fast as", table, re.M)) == 2
    assert re.search(
        r"a look at all of HellaSwag costs what [\d,]+ tokens do: [\d.]+% of the training", table
    )


def test_an_experiment_without_pretraining_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no pretrain stage to measure"):
        bench.main(["experiments/gpt2_public.yaml"])


TRAIN = """
import pathlib, pickle, sys
import numpy as np
settings = dict(word.removeprefix("--").split("=") for word in sys.argv[1:])
data = pathlib.Path(settings["dataset"])
size = pickle.loads((data / "meta.pkl").read_bytes())["vocab_size"]
assert np.fromfile(data / "train.bin", np.uint16).max() < size
for i in range(int(settings["max_iters"]) + 1):
    print(f"iter {i}: loss 5.0, time {90 if i < 3 else 40}.00ms, mfu -100.00%")
"""


def test_a_checkout_of_nanogpt_is_run_in_turns_and_told_our_shape(experiment, monkeypatch, tmp_path, capsys):
    for name, value in (("TURNS", 1), ("SECONDS", 0.2), ("THREADS", (1,))):
        monkeypatch.setattr(nanogpt, name, value)
    monkeypatch.setattr(bench, "SECONDS", 0.02)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "train.py").write_text(TRAIN)
    nanogpt.main([str(tmp_path), experiment])
    row = re.search(r"^ +1 +eager +([\d.]+) +40\.0 +([\d.]+) \(", capsys.readouterr().out, re.M)
    assert float(row[2]) == pytest.approx(40 / float(row[1]), rel=0.1)
    (tmp_path / "train.py").write_text("raise SystemExit('no such option')")
    with pytest.raises(UserError, match="train.py: failed: no such option"):
        nanogpt.main([str(tmp_path), experiment])


def test_a_visit_to_a_gpu_runs_dry_on_a_cpu(tmp_path, capsys):
    gpu_visit.main(["--dry", "--out", str(tmp_path / "visit.json")])
    rows = dict(json.loads((tmp_path / "visit.json").read_text()))
    assert not [row for row in rows.items() if "FAILED" in row[1] or "CHANGED" in row[1]]
    assert rows["attention by cuDNN"] == "off, as it should be"
    assert rows["saved, loaded, 5 steps"] == "the same bits"
    assert rows["greedy replies in fp32, beside the CPU's"] == "8 of 8 equal"
    for stage in ("sft_packed", "sft_plain", "grpo"):
        assert re.match(r"\d+ steps in [\d.]+ s", rows[stage])
    printed = capsys.readouterr().out
    assert all(f"{name:<44} {result}" in printed for name, result in rows.items())


def test_a_visit_goes_on_behind_a_check_that_fails(tmp_path, monkeypatch):
    def breaks(visit):
        yield "first", "fine"
        raise RuntimeError("no kernel image is available\nfor execution")

    monkeypatch.setitem(gpu_visit.CHECKS, "attention", breaks)
    gpu_visit.main(["--dry", "--only", "attention", "versions", "--out", str(tmp_path / "visit.json")])
    names = dict(json.loads((tmp_path / "visit.json").read_text()))
    assert names["first"] == "fine" and "device" in names
    assert names["attention"] == "FAILED: RuntimeError: no kernel image is available"
