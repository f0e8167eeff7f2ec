"""Every stage, end to end: two conditions, then another vocabulary, each through the scripts' own mains in one process."""

import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.verdict import compare
from pipeline.files import ROOT, read_json
from pipeline.identity import stage_dir
from pipeline.kinds import MODEL_KINDS
from pipeline.status import state

TINY = ROOT / "tests/tiny.yaml"
pytestmark = pytest.mark.timeout(1200)  # the first of these tests waits for both arms


@pytest.fixture
def finished(tiny_run, monkeypatch):
    """(experiment, RUNS) of both conditions, whole."""
    monkeypatch.setenv("RUNS", str(tiny_run[1]))
    return tiny_run


def record(experiment, condition, name):
    return read_json(stage_dir(experiment, condition, 0, name) / "stage.json")


def test_every_stage_of_both_conditions_is_done(finished):
    experiment, _ = finished
    for condition in experiment.conditions:
        states = {name: state(experiment, condition, 0, name)[0] for name in experiment.stage_names()}
        assert set(states.values()) == {"done"}, states


def test_every_model_loads_in_transformers_with_the_same_vocabulary(finished):
    experiment, _ = finished
    for condition in experiment.conditions:
        for name, spec in experiment.stages.items():
            if spec.run in MODEL_KINDS:
                directory = stage_dir(experiment, condition, 0, name) / "model"
                model, tokenizer = (
                    AutoModelForCausalLM.from_pretrained(directory),
                    AutoTokenizer.from_pretrained(directory),
                )
                assert model.config.vocab_size == len(tokenizer) == 4189
                assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (4096, 4097)


def test_the_arms_differ_in_tokens_and_in_nothing_else(finished):
    """Same documents, rows and problems in the same order, same budgets."""
    experiment, _ = finished
    for name in experiment.stage_names():
        one, other = (record(experiment, condition, name) for condition in experiment.conditions)
        assert one["identity"]["section"] == other["identity"]["section"]
        assert one["identity"]["data"] == other["identity"]["data"]
        assert one["record"].get("examples") == other["record"].get("examples"), name
        if experiment.kind(name) == "sft":
            assert one["record"]["parts"] == other["record"]["parts"]
    totals = []
    for condition in experiment.conditions:
        index = read_json(stage_dir(experiment, condition, 0, "prepare") / "index.json")
        totals.append(
            [
                [index[split][key] for key in ("documents", "source_bytes", "plain_tokens")]
                for split in ("train", "val")
            ]
        )
    assert totals[0] == totals[1]
    problems = []
    for condition in experiment.conditions:
        path = stage_dir(experiment, condition, 0, "eval_grpo") / "outcomes.parquet"
        problems.append(parquet.read_table(path).select(["set", "id", "question", "gold"]).to_pylist())
    assert problems[0] == problems[1]


def test_only_the_arm_with_tokens_ever_sees_or_says_one(finished):
    experiment, _ = finished
    for condition, facts in (("baseline", False), ("mul_tokens", True)):
        prepared = stage_dir(experiment, condition, 0, "prepare")
        ids = np.concatenate(
            [
                np.load(p, allow_pickle=False)
                for p in prepared.rglob("*.npy")
                if p.name in ("train.npy", "val.npy")
            ]
        )
        assert bool((ids >= 4144).any()) is facts
        assert not ((ids > 4096) & (ids < 4144)).any()
        for name in experiment.stage_names():
            if name.startswith("eval_"):
                table = parquet.read_table(stage_dir(experiment, condition, 0, name) / "outcomes.parquet")
                said = {token for tokens in table["tokens"].to_pylist() for token in tokens or ()}
                assert not any(4097 <= token < 4144 for token in said)
                assert facts or max(said, default=0) <= 4096


def test_running_again_skips_everything(finished, run_arm, capsys):
    experiment, runs = finished
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("stage.json")}
    run_arm(TINY, "mul_tokens")
    assert capsys.readouterr().err.count("done already, skipped") == len(experiment.stage_names())
    assert before == {p: p.stat().st_mtime_ns for p in runs.rglob("stage.json")}


def test_the_comparison_reports_every_stage_and_says_underpowered(finished, capsys):
    experiment, runs = finished
    compare.main([str(TINY)])
    said = capsys.readouterr().out
    assert "underpowered: mul_tokens − baseline on word_problems after grpo" in said
    report = json.loads((runs / "tiny/report/report.json").read_text())
    assert set(report["scores"]) == {
        name for name, spec in experiment.stages.items() if spec.run in MODEL_KINDS
    }
    for cells in report["scores"].values():
        for cell in cells.values():
            assert cell["sets"]["word_problems"]["n"] == 12 and cell["sets"]["probes.table"]["n"] == 81
            assert cell["bits_per_byte"]["all"] > 0
    assert (runs / "tiny/report/report.html").stat().st_size > 0


def test_a_share_of_the_facts_as_tokens_is_one_line(tmp_path, runs, run_arm):
    """`mixed` from documents to outcomes: the corpus has its share, and answers are read as any others."""
    path = tmp_path / "mixed.yaml"
    dropped = "".join(f"  {name}: null\n" for name in ("sft_gsm8k", "sft_tinygsm", "sft_curriculum", "grpo"))
    conditions = "{baseline: {mode: plain}, mul_tokens: {mode: mixed, share: 0.25}}"
    path.write_text(f"extends: {TINY}\nconditions: {conditions}\ncompare: null\nstages:\n{dropped}")
    stages = ("prepare", "pretrain", "export", "sft_tulu", "eval_sft_tulu")
    experiment = run_arm(path, "mul_tokens", only=stages)
    prepared = stage_dir(experiment, "mul_tokens", 0, "prepare")
    ids = np.concatenate([np.load(p, allow_pickle=False) for p in prepared.rglob("train.npy")])
    facts = read_json(prepared / "index.json")["train"]["facts"]
    assert (ids >= 4144).sum() / facts == pytest.approx(0.25, abs=3 * (0.25 * 0.75 / facts) ** 0.5)
    outcomes = stage_dir(experiment, "mul_tokens", 0, "eval_sft_tulu") / "outcomes.parquet"
    rows = parquet.read_table(outcomes).to_pylist()
    assert all(row["gold_bits"] > 0 for row in rows if row["set"] == "word_problems")


def test_another_vocabulary_is_one_file_and_one_line(tmp_path, runs, run_arm, capsys):
    """`squares` where facts are read: text, rows, traces, rewards, probes; and a verdict on an earlier stage."""
    path = tmp_path / "squares.yaml"
    conditions = "{baseline: {mode: plain}, mul_tokens: {mode: echo}}"
    stages = "{sft_tulu: null, sft_gsm8k: null, sft_tinygsm: null, sft_curriculum: {from: export}, grpo: {from: sft_curriculum}}"
    changes = f"vocabulary: squares\nconditions: {conditions}\nstages: {stages}\ncompare: {{stage: export}}\n"
    path.write_text(f"extends: {TINY}\n{changes}")
    pretrained = ("tokenizer", "prepare", "pretrain", "export", "eval_export")
    run_arm(path, "baseline", only=pretrained)
    experiment = run_arm(path, "mul_tokens", only=(*pretrained, "sft_curriculum", "grpo", "eval_grpo"))
    prepared = stage_dir(experiment, "mul_tokens", 0, "prepare")
    ids = np.concatenate(
        [
            np.load(p, allow_pickle=False)
            for p in prepared.rglob("*.npy")
            if p.name in ("train.npy", "val.npy")
        ]
    )
    assert (ids >= 4144).any() and ids.max() < 4144 + 19
    compare.main([str(path)])
    assert "neighbours" in capsys.readouterr().out
