"""The ratio of compute: found where it is known, with intervals that hold it, and not made up where it is not there."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from eval.report import ladder_figures, plots, words
from eval.verdict import ladder
from eval.verdict.compare import contrast
from eval.verdict.results import Arm, Items, Result, Study
from pipeline import yaml_file
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from tests.eval import synthetic

STAGES = ["small", "middle", "large", "huge"]


def study(ratio, rng, seeds=8, problems=2_000, level=0.4):
    """Accuracy is logistic in log FLOPs; `treated` needs `ratio` times the compute for the same, seeds vary alike."""
    asked = SimpleNamespace(accuracy=level, stages=STAGES)
    compare = SimpleNamespace(
        contrast=("treated", "control"), metric="items", ladder=asked, margin=0.02, relative_margin=None
    )
    names = range(seeds)
    experiment = SimpleNamespace(compare=compare, seeds=list(names), seeds_of=lambda condition: names)
    ids, nothing, arms = np.arange(problems).astype(str), np.full(problems, np.nan, np.float32), []
    for seed in names:
        of_seed = 0.3 * rng.standard_normal()
        for condition, needs in (("treated", ratio), ("control", 1.0)):
            arm, own = Arm(condition, seed), 0.1 * rng.standard_normal()
            for i, name in enumerate(STAGES):
                flops = 1e12 * 4**i
                arm.results[name] = Result(
                    "done", identity={"section": {"run": "pretrain"}}, record={"flops": flops}
                )
                right = 1 / (1 + math.exp(-(math.log(flops / needs / 8e12) + of_seed + own)))
                arm.items[name] = {"items": Items(ids, ids, rng.random(problems) < right, nothing, nothing)}
            arms.append(arm)
    return Study(experiment, arms, [])


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.3])
def test_a_known_ratio_lies_in_its_interval(ratio):
    rng, covered, found = np.random.default_rng(0), 0, []
    for _ in range(60):
        result = ladder.ratio(study(ratio, rng))
        found.append(math.log(result["ratio"]))
        covered += result["interval"][0] <= ratio <= result["interval"][1]
    assert np.mean(found) == pytest.approx(math.log(ratio), abs=0.04)
    assert covered >= 51  # of 60; 57 are expected, 51 or fewer once in a hundred


def test_a_curve_is_crossed_where_it_first_reaches_the_level_and_never_beyond_its_ends():
    assert ladder.crossing([0, 1, 2], [0.1, 0.3, 0.5], 0.4) == pytest.approx(1.5)
    assert ladder.crossing([0, 1, 2, 3], [0.1, 0.5, 0.2, 0.6], 0.3) == pytest.approx(0.5)
    assert ladder.crossing([0, 1], [0.1, 0.3], 0.4) is None
    assert ladder.crossing([0, 1], [0.5, 0.6], 0.4) is None


def test_a_run_that_does_not_reach_the_accuracy_is_named_and_not_left_out():
    made = study(1.0, np.random.default_rng(0), seeds=3)
    made.arms[2].items["huge"]["items"] = made.arms[2].items["large"]["items"] = made.arms[2].items["small"][
        "items"
    ]
    made.arms[2].items["middle"] = made.arms[2].items["small"]
    result = ladder.ratio(made)
    assert result["ratio"] is None and result["unreached"] == ["treated-s1"] and len(result["by_seed"]) == 2
    assert "no ratio (treated-s1 does not cross it" in words.ladder({"ladder": result})


def test_the_top_is_the_stage_that_trains_longest_in_whatever_order():
    made = study(1.2, np.random.default_rng(1))
    assert {ladder.top(made, stages) for stages in (STAGES, STAGES[::-1], ["huge", "small"])} == {"huge"}


def test_the_ladder_in_words():
    made = study(1.2, np.random.default_rng(1))
    made.experiment.compare.contrast = ("treated", "control")
    top = contrast(made, "treated", "control", "huge")
    line = words.ladder({"ladder": ladder.ratio(made) | {"top": top}})
    assert (
        line.startswith("Compute for 40.0% of items right: treated needs 1.")
        and ", 8 seeds; after huge" in line
    )
    del made.arms[0].items["huge"]
    assert ladder.ratio(made)["missing"] == [0]
    assert words.ladder({"ladder": None}) == ""


@pytest.mark.parametrize("stages, message", [
    ("[export, export]", "compare.ladder.stages: a stage is named twice"),
    ("[export, nowhere]", "compare.ladder.stages: 'nowhere' is not a stage with a model"),
    ("[export, sft_tinygsm]", "'export' and 'sft_tinygsm' differ in more than their budgets: sft."),
])  # fmt: skip
def test_a_ladder_of_other_than_budgets_is_refused(tmp_path, stages, message):
    path = synthetic.write_file(tmp_path / "study.yaml")
    text = path.read_text().replace("compare: {", f"compare: {{ladder: {{stages: {stages}, accuracy: 0.3}}, ")
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load(path)


def test_how_a_rung_is_run_is_no_difference_and_a_milestone_is_no_rung(tmp_path):
    """A step of one schedule is not what a schedule of its own would have made of the same budget."""
    content = yaml_file.resolve(ROOT / "experiments/quickstart.yaml")
    stages, path = content["stages"], tmp_path / "rungs.yaml"
    stages["short"] = stages["pretrain"] | {"steps": 600, "micro_batch": 3, "milestones": [500]}
    stages["export_short"] = {"run": "export", "from": "short"}
    stages["export_500"] = {"run": "export", "from": "short", "step": 500}
    for rung in ("export_short", "export_500"):
        content["compare"]["ladder"] = {"stages": ["export", rung], "accuracy": 0.3}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        if rung == "export_short":
            assert load(path).compare.ladder
        else:
            with pytest.raises(UserError, match="differ in more than their budgets: export.step"):
                load(path)


def test_a_ladder_that_a_sweep_splits_is_refused(tmp_path):
    """Its rungs would differ in their learning rate too."""
    content = yaml_file.resolve(ROOT / "experiments/quickstart.yaml")
    stages, path = content["stages"], tmp_path / "rungs.yaml"
    stages["short"] = stages["pretrain"] | {"steps": 600}
    stages["export_short"] = {"run": "export", "from": "short"}
    stages["sft_short"] = stages["sft_gsm8k"] | {"tokens": 9000}
    sweep = {"lr": [1e-3, 5e-3], "seeds": [101], "metric": "word_problems"}
    content["sweep"] = sweep | {"stage": "pretrain", "after": "export"}
    content["compare"]["ladder"] = {"stages": ["export", "export_short"], "accuracy": 0.3}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match="compare.ladder.stages: the sweep of pretrain gives some"):
        load(path)
    content["compare"]["ladder"]["stages"] = ["sft_gsm8k", "sft_short"]  # both come from what is swept
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert load(path).compare.ladder


def test_the_ladder_is_drawn_with_its_target_and_its_ratio():
    made = study(1.2, np.random.default_rng(1), seeds=4)
    top = contrast(made, "treated", "control", "huge")
    content = {
        "ladder": ladder.ratio(made) | {"top": top},
        "conditions": {"control": "plain", "treated": "token"},
    }
    climb, ratio = (make(made, content) for make in (ladder_figures.climb, ladder_figures.ratio))
    rows = [dict(zip(climb.columns, row)) for row in climb.rows]
    for condition in ("treated", "control"):
        means = [row for row in rows if (row["condition"], row["seed"]) == (condition, None)]
        assert [row["stage"] for row in means] == STAGES
        assert [row["flops"] for row in means] == pytest.approx([1e12 * 4**i for i in range(4)])
        for row in means:
            own = [
                arm.items[row["stage"]]["items"].correct.mean()
                for arm in made.arms
                if arm.condition == condition
            ]
            assert (
                row["accuracy"] == pytest.approx(np.mean(own)) and row["low"] < row["accuracy"] < row["high"]
            )
    assert len(rows) == 2 * 4 * 5 and "Compute for 40.0% of items right: treated needs" in climb.note
    (panel,) = plots.panels(vars(climb), list(content["conditions"]))
    assert [shape.tip for shape in panel.shapes if getattr(shape, "dashed", False)] == ["target: 40.0%"]
    whole, *seeds = ratio.rows
    assert 2 ** whole[2] == pytest.approx(content["ladder"]["ratio"]) and len(seeds) == 4
    assert [2**end for end in whole[3:]] == pytest.approx(content["ladder"]["interval"])
    plots.panels(vars(ratio), list(content["conditions"]))
    assert not any(
        make(made, content | {"ladder": None}).rows for make in (ladder_figures.climb, ladder_figures.ratio)
    )
