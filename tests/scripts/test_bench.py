"""The benchmarks run and print what they promise; how fast they are is not a matter for tests."""

import json
import re

import pytest

from pipeline.errors import UserError
from pipeline.sample.documents import hellaswag
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
    said = capsys.readouterr().out
    for name in ("ours", "reference", "ours without attention in halves"):
        rate = re.search(rf"^{name} +\d+ +([\d,]+) ", said, re.M)[1]
        assert int(rate.replace(",", "")) > 100
    assert len(re.findall(r"^ours is [\d.]+ \(turns: .*\) times as fast as", said, re.M)) == 2
    assert re.search(r"a look at all of HellaSwag costs what [\d,]+ tokens do: [\d.]+% of the training", said)


def test_an_experiment_without_pretraining_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no pretrain stage to measure"):
        bench.main(["experiments/gpt2_public.yaml"])
