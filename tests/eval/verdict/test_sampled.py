"""What samples are worth, read from a study on disk, compared and reported."""

import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eval.report import answers, sample_figures
from eval.verdict import at_k, compare
from eval.verdict.collect import collect
from eval.verdict.results import Arm, Result
from eval.verdict.sampled import SCHEMA
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import read_json, sha256, write_json
from tests.eval import synthetic
from tests.eval.verdict.test_compare import EFFECT, built, change, results
from tokenizer import encode
from tokenizer.conditions import Condition


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A study of three seeds whose evaluation after grpo draws eight samples a problem."""
    folder = tmp_path_factory.mktemp("sampled")
    path = synthetic.write_file(folder / "study.yaml", seeds=3, probes=False)
    path.write_text(path.read_text().replace("eval: {", "eval: {samples: 8, sampled: [grpo], "))
    with pytest.MonkeyPatch.context() as patch, synthetic.quick():
        patch.setenv("RUNS", str(folder / "runs"))
        for seed in range(3):
            for condition in ("baseline", "mul_tokens"):
                synthetic.run(path, condition, seed, EFFECT if condition == "mul_tokens" else 0.0)
    return folder


@pytest.fixture
def drawn(sampled, tmp_path, monkeypatch):
    shutil.copytree(sampled, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return tmp_path / "study.yaml"


@pytest.mark.parametrize("metric", ["mean", "pass@2", "maj@4", "maj@8"])
def test_what_samples_are_worth_is_compared_as_answers_are(drawn, metric):
    content = built(change(drawn, metric=f"word_problems.{metric}"))
    primary = content["primary"]
    means = {}
    for condition in ("mul_tokens", "baseline"):
        rights, votes = [], []
        for seed in range(3):
            directory = results(drawn) / f"{condition}-s{seed}/eval_grpo"
            table = parquet.read_table(directory / "samples.parquet")
            rights.append(table["correct"].to_numpy(zero_copy_only=False).reshape(40, 8))
            votes.append(table["vote"].to_numpy().reshape(40, 8))
        by_hand = {
            "mean": np.mean(rights),
            "pass@2": np.mean([1 - math.comb(8 - r, 2) / 28 for r in np.sum(rights, 2).ravel()]),
            "maj@8": np.mean([at_k.maj_at(at_k.Draws(r, v, None), 8) for r, v in zip(rights, votes)]),
            "maj@4": np.mean([at_k.maj_at(at_k.Draws(r, v, None), 4) for r, v in zip(rights, votes)]),
        }
        means[condition] = by_hand[metric]
        score = content["scores"]["grpo"][condition]["samples"][f"word_problems.{metric}"]
        assert score["accuracy"] == pytest.approx(by_hand[metric])
        assert score["low"] < score["accuracy"] < score["high"] and len(score["by_seed"]) == 3
        assert content["scores"]["sft_tinygsm"][condition]["samples"] == {}
    assert primary["mean"] == pytest.approx(means) and primary["label"] == "supports"
    assert primary["problems"] == 40 and [each["stage"] for each in content["by_stage"]] == ["grpo"]


def test_the_gain_of_choosing_is_that_over_the_mean_of_samples_and_its_difference_is_paired_by_seed(drawn):
    content = built(drawn)
    (maj,) = {row["choice"] for row in content["gains"]}
    assert maj == "maj@8" and {row["stage"] for row in content["gains"]} == {"grpo"}
    gains = {row["of"]: row for row in content["gains"]}
    assert list(gains) == ["baseline", "mul_tokens", "mul_tokens − baseline"]
    for condition in ("baseline", "mul_tokens"):
        scores = content["scores"]["grpo"][condition]["samples"]
        votes, mean = (scores[f"word_problems.{key}"]["by_seed"] for key in ("maj@8", "mean"))
        assert gains[condition]["by_seed"] == pytest.approx({s: votes[s] - mean[s] for s in mean})
    for row in gains.values():
        low, high = row["interval"]
        assert low < row["equivalence"][0] < row["gain"] < row["equivalence"][1] < high
        assert row["gain"] == pytest.approx(np.mean(list(row["by_seed"].values())))
    difference = gains["mul_tokens"]["gain"] - gains["baseline"]["gain"]
    assert gains["mul_tokens − baseline"]["gain"] == pytest.approx(difference)


def test_samples_of_one_condition_alone_gain_nothing_to_show_yet(drawn, capsys):
    for directory in results(drawn).glob("mul_tokens-s*/eval_grpo"):
        shutil.rmtree(directory)
    compare.main([str(drawn)])
    assert "maj@8" in (printed := capsys.readouterr().out) and "choice" not in printed
    assert read_json(results(drawn) / "report/report.json")["gains"] == []


@pytest.mark.parametrize(("metric", "band"), [("word_problems", 0.02), ("word_problems.gold_bits", None)])
def test_a_margin_in_bits_is_no_margin_of_what_samples_gain(drawn, metric, band):
    content = built(change(drawn, metric=metric))
    assert content["question"]["margin"] == 0.02
    assert content["figures"]["gains"]["encoding"]["margin"] == band


def test_the_report_shows_accuracy_against_k_and_a_table(drawn, capsys):
    compare.main([str(drawn)])
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith("set "))
    shown = ["set", "stage", "condition", "mean", "pass@8", "maj@8", "floor", "floor of pass@8"]
    assert re.split(r"  +", header) == shown
    gains = next(line for line in printed.splitlines() if line.split()[2:3] == ["maj@8"])
    assert gains.count("[") == 3, "of both conditions and of their difference"
    assert "| word_problems | grpo | maj@8 |" in (results(drawn) / "report/report.md").read_text()
    content = read_json(results(drawn) / "report/report.json")
    assert len(content["figures"]["gains"]["rows"]) == 3 * (1 + 3)  # means and seeds
    for cell in content["scores"]["grpo"].values():  # eight constants against one
        one, eight = (cell["samples"][f"word_problems.{key}"]["floor"] for key in ("maj@8", "pass@8"))
        assert one < eight and f"{one:.1%} {eight:.1%}" in re.sub(r" +", " ", printed)
    figure = content["figures"]["samples"]
    curves = {}
    for curve, condition, seed, k, accuracy, low, high, floor in figure["rows"]:
        curves.setdefault((curve, condition, seed), []).append((k, accuracy))
        assert seed is not None or low <= accuracy <= high and floor
    assert len(curves) == 3 * 2 * 4  # curves, conditions, the mean and three seeds
    for (curve, condition, seed), points in curves.items():
        scores = content["scores"]["grpo"][condition]["samples"]
        kind = curve.split(": ")[1].split()[0].removesuffix(",").removesuffix("@k")
        assert [k for k, _ in points] == ([1, 8] if kind == "mean" else [1, 2, 4, 8])
        for k, accuracy in points if seed is None else ():
            key = f"word_problems.{kind}" + ("" if kind == "mean" else f"@{k}")
            assert accuracy == scores[key]["accuracy"]
    page = (results(drawn) / "report/report.html").read_text()
    assert "Accuracy against the number of samples" in page and "maj@k, most votes" in page
    assert "What samples are worth" in (results(drawn) / "report/report.md").read_text()


def test_the_note_on_samples_says_what_their_verifier_took():
    def result(flops, **section):
        return Result("done", identity={"section": section}, record={"flops": flops})

    above = {"sft": result(3e12, run="sft", parent="export"), "export": result(0.0, run="import")}
    arms = [
        Arm("baseline", seed, above | {"judge": result(flops, run="verifier", parent="sft")})
        for seed, flops in enumerate((1e12, 2e12))
    ]
    asked = SimpleNamespace(verifier="judge")
    study = SimpleNamespace(experiment=SimpleNamespace(eval=asked), arms=arms)
    message = sample_figures.verifier_cost(study)
    assert "took 1.5e+12 FLOPs an arm" in message and message.endswith(": 50% of its generator's training.")
    asked.verifier = None
    assert sample_figures.verifier_cost(study) == ""


def test_the_page_shows_samples_with_their_scores_and_how_often_they_occur(drawn, monkeypatch):
    study = collect(load(drawn))
    blocks = {(b["stage"], b["condition"], b["seed"]): b for b in answers.replies(study)["blocks"]}
    assert all(len(answer) == 5 for answer in blocks["sft_tinygsm", "baseline", 0]["answers"])
    block = blocks["grpo", "mul_tokens", 0]
    rows = parquet.read_table(results(drawn) / "mul_tokens-s0/eval_grpo/samples.parquet").to_pylist()
    for i, (*_, shown) in enumerate(block["answers"]):
        own = rows[8 * i : 8 * i + 8]
        assert sum(each[5] for each in shown) == 8 and len(shown) == len({tuple(r["tokens"]) for r in own})
        assert {each[3] for each in shown} == {None}
    monkeypatch.setattr(answers, "SAMPLES", 1)
    few = answers.replies(study)
    assert few["message"].endswith(
        "1 of them show the samples of their first problems; all are in samples.parquet."
    )


def test_samples_are_shown_by_their_score():
    encoder = encode.Encoder(Condition("arm", "token", "multiplication", 1024))
    rows = [
        {"tokens": ids, "answer": "6", "correct": True, "score": score, "ended": True}
        for ids, score in (([1], 0.5), ([2], 1.234), ([1], 0.5), ([3], -2.0))
    ]
    shown = answers._samples(encoder, rows)
    assert [(each[3], each[5]) for each in shown] == [(1.23, 1), (0.5, 2), (-2.0, 1)]
    shown = answers._samples(encoder, [row | {"score": None} for row in rows])
    assert [each[5] for each in shown] == [2, 1, 1]


def test_the_order_of_problems_in_samples_does_not_count(drawn):
    change(drawn, metric="word_problems.maj@8")
    before = built(drawn)["primary"]
    spoil_samples(drawn, lambda rows: [row for i in range(39, -1, -1) for row in rows[8 * i : 8 * i + 8]])
    assert built(drawn)["primary"] == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:-1],
        lambda rows: rows[8:],
        lambda rows: rows[1:] + rows[:1],
        lambda rows: rows + [row | {"id": "other"} for row in rows[:8]],
    ],
)
def test_samples_that_are_not_those_of_the_problems_are_refused(drawn, spoil):
    spoil_samples(drawn, spoil)
    with pytest.raises(
        UserError, match="samples.parquet: does not hold 8 samples of each problem of word_problems"
    ):
        built(drawn)


def test_samples_that_are_damaged_or_lack_a_column_are_refused(drawn):
    spoil_samples(drawn, lambda rows: [{k: v for k, v in row.items() if k != "vote"} for row in rows])
    with pytest.raises(UserError, match="samples.parquet: cannot be read"):
        built(drawn)
    path = results(drawn) / "baseline-s0/eval_grpo/samples.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="samples.parquet: damaged since it was written"):
        built(drawn)


def spoil_samples(path, spoil):
    """Change an evaluation's samples, hashes and all, as if they had been drawn so."""
    directory = results(path) / "baseline-s0/eval_grpo"
    rows = spoil(parquet.read_table(directory / "samples.parquet").to_pylist())
    schema = pa.schema([field for field in SCHEMA if field.name in rows[0]])
    parquet.write_table(pa.Table.from_pylist(rows, schema), directory / "samples.parquet")
    done = read_json(directory / "stage.json")
    done["identity"]["outputs"]["samples.parquet"] = sha256(directory / "samples.parquet")
    write_json(directory / "stage.json", done)
