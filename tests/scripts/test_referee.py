"""lm-evaluation-harness scores the same 200 rows of each task; it lives in an environment of its own."""

import json

import pytest

from pipeline.errors import UserError
from scripts import referee
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

INSTALLED = (referee.PYTHON.parents[1] / "installed").exists()


@pytest.mark.skipif(
    not INSTALLED, reason="lm-evaluation-harness is not installed; bash scripts/referee.sh MODEL_DIR does it"
)
def test_every_row_agrees(wide_model_dir, shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    sources = {"gsm8k": ("gsm8k/test.parquet", None), "hellaswag": ("hellaswag/validation.parquet", None)}
    result = referee.compare(wide_model_dir, sources, limit=200, max_new_tokens=16)
    assert all(part["rows"] == 200 for part in result.values())
    assert result["gsm8k"]["completions"] == result["gsm8k"]["rows"]
    assert referee.agrees(result), result


def test_the_harness_is_not_installed(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(referee, "PYTHON", tmp_path / "bin/python")
    with pytest.raises(UserError, match="not installed; run: bash scripts/referee.sh"):
        referee.main([str(model_dir)])


def test_names_of_facts_become_what_they_say():
    for mode in ("plain", "token", "echo", "placebo"):
        encoder = Encoder(Condition("c", mode, "multiplication", 1024))
        ids = encoder.encode_facts("So 6 * 9 = 54 eggs.\n#### 54")
        assert referee.spoken(encoder, encoder.hf.decode(ids)) == encoder.render(ids)


@pytest.mark.parametrize(
    "change",
    [
        ("gsm8k", "answers", 9),
        ("gsm8k", "extractors", 9),
        ("hellaswag", "choices", 9),
        ("hellaswag", "largest_gap", 2e-3),
    ],
)
def test_one_row_that_differs_is_a_disagreement(change):
    result = {
        "gsm8k": {"rows": 10, "left_out": 0, "completions": 9, "answers": 10, "extractors": 10},
        "hellaswag": {"rows": 10, "left_out": 0, "choices": 10, "largest_gap": 9e-4},
    }
    assert referee.agrees(result)
    task, key, value = change
    result[task][key] = value
    assert not referee.agrees(json.loads(json.dumps(result)))
