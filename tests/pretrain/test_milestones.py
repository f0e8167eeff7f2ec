"""Weights from the middle of pretraining: kept for ever, changing nothing, exported and evaluated like any stage."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from eval.verdict.results import Arm, Result
from model import GPT
from pipeline import identity
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.results import read_result
from pretrain import checkpoint, export_hf, prepare, train
from tests.pretrain import torture
from tests.pretrain.test_train import signal_at, without_times

pytestmark = pytest.mark.usefixtures("no_gpu")  # bits are promised of CPUs
EXPERIMENT = torture.EXPERIMENT.replace("block_size: 32", "block_size: 160")  # a problem and its answer fit
STEPS = {"export": None, "export_7": 7, "export_20": 20}
EXPORTS = "".join(
    f"  {name}: {{run: export, from: pretrain{f', step: {step}' if step else ''}}}\n"
    for name, step in STEPS.items()
)
PROBES = """eval:
  sets: {problems: {task: gsm8k, data: sample, split: test, limit: 4}}
  max_new_tokens: 8
  batch_size: 4
  precision: fp32
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("milestones")
    (folder / "study.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS", str(folder))
        prepare.main([str(folder / "study.yaml"), "mul_tokens", "0"])
    return folder


@pytest.fixture
def write(prepared, tmp_path, monkeypatch):
    """Writes the experiment with such milestones and an export of some of them; the words of its arm."""
    (tmp_path / "data").symlink_to(prepared / "data")
    monkeypatch.setenv("RUNS", str(tmp_path))

    def write(name: str, milestones: list[int] | None, exports: str = EXPORTS) -> list[str]:
        keys = f"save_every: 1, keep: 1{f', milestones: {milestones}' if milestones else ''}"
        path = tmp_path / f"{name}.yaml"
        path.write_text(EXPERIMENT.replace("save_every: 1", keys) + exports + PROBES)
        return [str(path), "mul_tokens", "0"]

    return write


def arm(runs: Path, name: str) -> Path:
    return runs / name / "mul_tokens-s0"


def lines(folder: Path) -> list[dict]:
    return without_times([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()])


def test_they_survive_pruning_and_a_resume_and_are_no_part_of_what_is_trained(write, tmp_path, monkeypatch):
    train.main(write("without", None, ""))
    words = write("kept", [7, 20, 40])
    signal_at(12, monkeypatch)
    train.main(words)
    stopped = checkpoint.milestone(arm(tmp_path, "kept") / "pretrain", 7).read_bytes()
    train.main(words)
    plain, kept = (read_result(arm(tmp_path, name) / "pretrain") for name in ("without", "kept"))
    assert kept.identity == plain.identity
    assert lines(arm(tmp_path, "kept") / "pretrain") == lines(arm(tmp_path, "without") / "pretrain")
    folder = arm(tmp_path, "kept") / "pretrain"
    assert checkpoint.milestone(folder, 7).read_bytes() == stopped
    assert sorted(kept.record["milestones"]) == ["20", "40", "7"]
    last = load_file(checkpoint.milestone(folder, 40))
    assert all(tensor.equal(last[key]) for key, tensor in load_file(folder / "model.safetensors").items())
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["00000040.safetensors"]


def test_a_milestone_is_exported_and_evaluated_like_any_stage(write, tmp_path, run_arm):
    path, *_ = write("study", [7, 20])
    experiment = load(path)
    assert [name for name in experiment.stage_names() if name.endswith("_20")] == [
        "export_20",
        "eval_export_20",
    ]
    prepare.main([path, "mul_tokens", "0"])
    run_arm(Path(path), "mul_tokens")
    results = {
        name: Result("done", identity=result.identity, record=result.record)
        for name in experiment.stage_names()
        if (result := read_result(identity.stage_dir(experiment, "mul_tokens", 0, name)))
    }
    assert results.keys() >= {"eval_export_7", "eval_export_20", "eval_export"}
    flops = {name: Arm("mul_tokens", 0, results).training_flops(name) for name in STEPS}
    assert flops["export_20"] == flops["export"] / 2 and flops["export_7"] == flops["export"] * 7 / 40
    folder, record = arm(tmp_path, "study"), results["export_20"].record
    assert (record["steps"], record["tokens"]) == (20, 20 * 8 * 160)
    at_20, kept = (
        GPT.from_directory(folder / "export_20/model"),
        checkpoint.milestone(folder / "pretrain", 20),
    )
    weights = load_file(kept)
    assert all(tensor.equal(weights[key]) for key, tensor in at_20.state_dict().items())
    last = load_file(folder / "pretrain/model.safetensors")
    assert not weights["wte.weight"].equal(last["wte.weight"])
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(UserError, match=r"00000020\.safetensors: damaged since"):
        export_hf.main([path, "mul_tokens", "0", "export_20", "--overwrite"])


def test_a_finished_pretraining_without_it_is_refused_with_a_remedy(write, tmp_path, monkeypatch, capsys):
    words = write("late", [20], "")
    steps = signal_at(25, monkeypatch)
    train.main(words)
    words = write("late", [20, 7, 30])
    train.main(words)
    assert "the weights of step 7 are gone" in capsys.readouterr().err and len(steps) == 40
    export_hf.main([*words, "export_20"])
    with pytest.raises(UserError) as raised:
        export_hf.main([*words, "export_7"])
    message = str(raised.value)
    assert "stages.export_7.step" in message and "has the weights of 20, 30" in message
    assert "list 7 in its milestones and pretrain again with --overwrite" in message and "\n" not in message


@pytest.mark.parametrize(
    "milestones, message",
    [
        ([7], "stages.export_20.step: 20 is no milestone of 'pretrain', which has 7; add it there"),
        (None, "stages.export_7.step: 7 is no milestone of 'pretrain', which has none; add it there"),
        ([7, 20, 41], "stages.pretrain.milestones: 41 is more than the 40 steps"),
    ],
)
def test_check_refuses_a_step_that_will_not_be_there(write, milestones, message):
    path, *_ = write("wrong", milestones)
    with pytest.raises(UserError, match=message):
        load(path)


def test_a_milestone_behind_the_end_of_a_budget_in_documents_is_refused(write, tmp_path):
    path, *words = write("short", [39], "")
    text = Path(path).read_text().replace("steps: 40", "examples: 60")
    Path(path).write_text(text)
    with pytest.raises(UserError, match="pretrain.milestones: 39 is more than the .* steps of 60 examples"):
        train.main([path, *words])
