"""What reinforcement learning did to its parents: changes, and the registered collapse."""

import json

import pytest

from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from scripts import reinforced

FILE = str(ROOT / "experiments/miniature_posttraining.yaml")
SEEDS = range(1, 11)
CALM = {"zero variance": [0.1] * 60, "entropy": [0.3] * 60, "repeated": [0.0] * 60}


def report(greedy: dict[str, float], curves: dict[str, dict[str, list[float]]]) -> dict:
    """Of both conditions and ten seeds: greedy accuracy by stage, 0.2 if not given, and curves, else calm ones."""
    scores, rows = {}, []
    for stage, spec in load(FILE).stages.items():
        by_seed = {str(seed): greedy.get(stage, 0.2) + 0.001 * seed for seed in SEEDS}
        samples = {f"word_problems.{metric}": {"by_seed": by_seed} for metric in ("mean", "pass@16")}
        answered = {"by_seed": by_seed, "fact_tokens_per_response": 1.5}
        score = {"sets": {"word_problems": answered}, "samples": samples}
        scores[stage] = dict.fromkeys(("baseline", "mul_tokens"), score)
        for measure, values in (CALM | curves.get(stage, {})).items() if spec.run == "grpo" else ():
            for condition in ("baseline", "mul_tokens"):
                for seed in (*SEEDS, None):
                    label = f"{stage}: {measure}"
                    rows += [[label, condition, seed, n, value] for n, value in enumerate(values, 1)]
    differences = [
        {
            "stage": stage,
            "control": "baseline",
            "treated": "mul_tokens",
            "difference": 0.01,
            "interval": [-0.02, 0.04],
        }
        | {"mean": {"baseline": 0.2, "mul_tokens": 0.21}}
        for stage in scores
    ]
    return {
        "seeds": list(SEEDS),
        "question": {"set": "word_problems"},
        "primary": {"control": "baseline", "treated": "mul_tokens"},
        "by_stage": differences,
        "conditions": {"baseline": "plain", "mul_tokens": "token"},
        "scores": scores,
        "figures": {"rewards": {"rows": rows}},
    }


def test_a_run_collapses_where_accuracy_and_one_sign_say_so():
    late = [0.3] * 50
    for sign in (
        {"zero variance": late + [0.95] * 10},
        {"repeated": late + [0.5] * 10},
        {"entropy": late + [0.15] * 10},
    ):
        assert reinforced.collapsed(0.2, 0.09, CALM | sign)
        assert not reinforced.collapsed(0.2, 0.1, CALM | sign), "half of the parent's is not below half"
    assert not reinforced.collapsed(0.2, 0.0, CALM)
    early = {"repeated": [1.0] * 50 + [0.0] * 10}
    assert not reinforced.collapsed(0.2, 0.0, CALM | early), "only the end counts"


def test_the_tables_say_changes_collapses_and_their_test(tmp_path, capsys):
    content = report(
        {"curriculum_binary": 0.02, "tinygsm_fair": 0.25},
        {"curriculum_binary": {"repeated": [0.9] * 60}},
    )
    file = tmp_path / "report.json"
    file.write_text(json.dumps(content))
    reinforced.main([FILE, str(file)])
    printed = capsys.readouterr().out.splitlines()
    ours = "20.0% | 21.0% | +1.0 [-2.0, +4.0] | 1.50"
    assert f"| curriculum_fair | {ours} | – | – | – | – |" in printed
    published = "2.4% | 3.8% | +1.4 [-0.8, +3.7] | –"  # 12 and 19 of 500: tests/eval/verdict/test_stats.py
    assert f"| sft_curriculum | {ours} | {published} |" in printed
    row = "| {} | {} | mul_tokens | {} | {} | {} | 10% | {} | 0.30 → 0.30 | {} of 10 |"
    lost, gained = "-18.0 [-18.0, -18.0]", "+5.0 [+5.0, +5.0]"
    assert row.format("curriculum_binary", "sft_curriculum", lost, lost, lost, "90%", 10) in printed
    assert row.format("tinygsm_fair", "sft_tinygsm", gained, gained, gained, "0%", 0) in printed
    same = "+0.0 [+0.0, +0.0]"
    between = "| tinygsm_fair | sft_tinygsm | mul_tokens − baseline | "
    assert between + " | ".join([same] * 3 + ["–"] * 4) + " |" in printed
    assert "| curriculum_binary against curriculum_published | 20 | 20 | 0 | 1.91e-06 |" in printed
    assert "| tinygsm_binary against tinygsm_fair | 20 | 0 | 0 | 1 |" in printed
    assert not any("curriculum_binary against tinygsm" in line for line in printed)


NAMES = {  # of the results' tables
    "export": "pretraining",
    "sft_tulu": "chat",
    "sft_gsm8k": "GSM8K",
    "sft_tinygsm": "traces (TinyGSM)",
    "sft_curriculum": "curriculum",
    "curriculum_fair": "curriculum, GRPO `fair`",
    "curriculum_published": "curriculum, GRPO `published` (registered)",
    "curriculum_binary": "curriculum, GRPO `binary`",
    "tinygsm_fair": "traces, GRPO `fair`",
    "tinygsm_published": "traces, GRPO `published`",
    "tinygsm_binary": "traces, GRPO `binary`",
}


def test_the_results_show_what_the_committed_report_says(capsys):
    folder = ROOT / "experiments/results"
    reinforced.main([FILE, str(folder / "miniature_posttraining/report.json")])
    printed = capsys.readouterr().out.splitlines()
    shown = (folder / "README.md").read_text().replace("−", "-").splitlines()
    replication = (ROOT / "REPLICATION.md").read_text().replace("−", "-")
    for stage, name in NAMES.items():
        (row,) = [line for line in printed if line.startswith(f"| {stage} | ") and line.count("|") == 10]
        assert row.replace(f"| {stage} ", f"| {name} ") in shown
        if stage in reinforced.PUBLISHED:
            *ours, here, control, treated, published, there = row.strip("| ").split(" | ")[1:]
            assert f"| {published} | {' | '.join(ours)} | {there} | {here} |" in replication
    changes = [line.split(" | ") for line in printed if line.count("|") == 11][2:]
    assert len(changes) == 18
    for of_control, of_treated, _ in zip(*[iter(changes)] * 3):
        assert any(" | ".join(of_control[3:6] + of_treated[3:6]) in line for line in shown)
    collapsed = [line.split(" | ")[-1].removesuffix(" |") for line in printed if line.count("|") == 11]
    assert [each for each in collapsed if each == "1 of 10"] == ["1 of 10"] * 2


def extend(folder, changes):
    path = folder / "other.yaml"
    path.write_text(f"extends: {FILE}\n{changes}\n")
    return str(path)


WRONG = {
    "eval: {samples: 0, verifier: null, sampled: null}": "eval.samples is 0",
    "eval: {sampled: [sft_curriculum, sft_tinygsm]}": "eval.sampled: lacks 'curriculum_fair'",
    "stages: {tinygsm_fair: {steps: 61}}": "stages.tinygsm_fair.steps: reports keep means",
    "seeds: [1]": "seeds: has one",
    "compare: {metric: word_problems.maj@16}": "compare.metric: must be one of eval.sets",
}


@pytest.mark.parametrize("changes, message", WRONG.items())
def test_an_experiment_that_cannot_answer_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        reinforced.main([extend(tmp_path, changes), str(tmp_path / "report.json")])


def test_a_missing_report_and_one_of_an_unfinished_study_are_refused(tmp_path):
    file = tmp_path / "report.json"
    with pytest.raises(UserError, match="report.json: no such file; `bash scripts/compare.sh"):
        reinforced.main([FILE, str(file)])
    content = report({}, {})
    del content["scores"]["tinygsm_fair"]["baseline"]["sets"]["word_problems"]["by_seed"]["7"]
    content["scores"]["tinygsm_fair"]["mul_tokens"] = content["scores"]["tinygsm_published"]["mul_tokens"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="of 20 arms are not evaluated, baseline 7 among them"):
        reinforced.main([FILE, str(file)])
