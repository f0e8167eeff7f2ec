"""lm-evaluation-harness scores the same 200 rows of each task; it lives in an environment of its own."""

import json
import subprocess

import pytest

from pipeline.errors import UserError
from pipeline.files import ROOT
from scripts import referee
from tokenizer.conditions import MODES, Condition
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


FAKE = """#!/usr/bin/env bash
echo "$(basename "$(dirname "$(dirname "$0")")") $*" >> log
if [[ $* == *version* ]]; then [[ $* == *transformers* ]] && cat transformers || echo 1.0+cpu; fi
if [[ $* == *venv* ]]; then mkdir -p .venv-referee/bin; cp "$0" .venv-referee/bin/python; fi
"""


def test_the_harness_has_our_transformers_and_is_installed_again_when_they_change(tmp_path):
    """scripts/referee.sh with a Python that only writes down what it is asked."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("referee.sh", "common.sh"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    (tmp_path / ".venv/installed").touch()
    (tmp_path / ".venv/bin/activate").write_text(f"PATH={tmp_path}/.venv/bin:$PATH")
    (tmp_path / ".venv/bin/python").write_text(FAKE)
    (tmp_path / ".venv/bin/python").chmod(0o755)

    def asked(version):
        (tmp_path / "transformers").write_text(version)
        (tmp_path / "log").unlink(missing_ok=True)
        subprocess.run(
            ["bash", "scripts/referee.sh", "a model"], cwd=tmp_path, check=True, capture_output=True
        )
        log = (tmp_path / "log").read_text()
        assert "-m scripts.referee a model" in log
        return [line for line in log.splitlines() if ".venv-referee" in line and "pip install" in line]

    assert asked("5.9.9")[-1].endswith("lm_eval[hf]==0.4.13 transformers==5.9.9 torch==1.0+cpu")
    assert asked("5.9.9") == []
    assert "transformers==5.9.10" in asked("5.9.10")[-1]


def test_the_harness_is_not_installed(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(referee, "PYTHON", tmp_path / "bin/python")
    with pytest.raises(UserError, match="not installed; run: bash scripts/referee.sh"):
        referee.main([str(model_dir)])


def test_names_of_facts_become_what_they_say():
    for mode in MODES:
        encoder = Encoder(Condition("c", mode, "multiplication", 1024, share=0.5))
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
