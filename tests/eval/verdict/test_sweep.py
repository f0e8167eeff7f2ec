"""Each condition's learning rate is the best of its own, by one rule and from the outcomes alone."""

import pytest

from eval.verdict import compare
from eval.verdict.collect import collect
from eval.verdict.sweep import main
from pipeline import sweep
from pipeline.errors import UserError
from pipeline.experiment import load, sweep_of
from pipeline.files import read_json
from tests.eval import synthetic

SWEEP = "{stage: pretrain, lr: [1e-3, 2e-3, 5e-3], seeds: [101, 102], after: export, metric: word_problems}"
EFFECTS = {("baseline", 2e-3): 0.4, ("mul_tokens", 5e-3): 0.5, ("mul_tokens", 1e-3): 0.2}


@pytest.fixture
def file(tmp_path, runs):
    path = synthetic.write_file(tmp_path / "study.yaml", probes=False, seeds=2)
    path.write_text(f"{path.read_text()}sweep: {SWEEP}\n")
    return path


def sweep_all(file, leave_out=()):
    with synthetic.quick():
        for variant in sweep_of(load(file)):
            lr = variant.stages["pretrain"].lr
            for condition, seed in variant.arms():
                if (condition, lr, seed) not in leave_out:
                    synthetic.run(variant.path, condition, seed, EFFECTS.get((condition, lr), 0.0))


def test_each_condition_gets_its_best_and_all_numbers_are_kept(file, capsys):
    sweep_all(file)
    main([str(file)])
    said = capsys.readouterr()
    content = read_json(sweep.path("study"))
    assert content["chosen"] == {"baseline": 2e-3, "mul_tokens": 5e-3} and content["at_an_end"] == [
        "mul_tokens"
    ]
    assert "baseline: lr 0.002" in said.out and "at an end of the values: mul_tokens" in said.err
    variants = {variant.stages["pretrain"].lr: collect(variant) for variant in sweep_of(load(file))}
    for condition, scores in content["scores"].items():
        assert [score["lr"] for score in scores] == [1e-3, 2e-3, 5e-3]
        for score in scores:
            arms = variants[score["lr"]].arms_of(condition, "export")
            own = {str(arm.seed): arm.items["export"]["word_problems"].correct.mean() for arm in arms}
            assert score["by_seed"] == pytest.approx(own) and list(own) == ["101", "102"]
            assert score["mean"] == pytest.approx(sum(own.values()) / 2) and set(score["evaluations"]) == set(
                own
            )
    with synthetic.quick():
        for seed in (0, 1):
            for condition in ("baseline", "mul_tokens"):
                synthetic.run(file, condition, seed)
    study = collect(load(file))
    for arm in study.arms:
        assert arm.results["pretrain"].identity["section"]["lr"] == content["chosen"][arm.condition]
    report = compare.build(study)
    assert any(
        "the best of its sweep by word_problems on seeds 101, 102" in line for line in report["warnings"]
    )
    assert len(report["figures"]["sweep"]["rows"]) == 2 * 3 * 3


def test_bits_are_best_where_they_are_lowest(file):
    file.write_text(file.read_text().replace("metric: word_problems}", "metric: word_problems.gold_bits}"))
    sweep_all(file)
    main([str(file)])
    content = read_json(sweep.path("study"))
    assert content["chosen"] == {"baseline": 2e-3, "mul_tokens": 5e-3}
    assert all(
        min(each, key=lambda s: s["mean"])["lr"] == content["chosen"][c]
        for c, each in content["scores"].items()
    )


def test_nothing_is_chosen_before_every_arm_is_done(file):
    sweep_all(file, leave_out=[("mul_tokens", 2e-3, 102)])
    with pytest.raises(UserError, match="sweep: mul_tokens with lr 0.002 has no seed 102; run what is left"):
        main([str(file)])
    assert not sweep.path("study").exists()
