"""Comparisons of finished experiments: the verdict, that nothing is left out, that nothing is mixed."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eval import outcomes
from eval.report import write as report
from eval.verdict import compare, evaluations, stats
from eval.verdict.collect import collect
from eval.verdict.contrasts import contrast, planning
from eval.verdict.results import matrix
from pipeline import stage
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT, read_json, sha256, write_json
from tests.eval import synthetic

EFFECT = 0.3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a study of two conditions × six seeds, mul_tokens better at word problems."""
    folder = tmp_path_factory.mktemp("study")
    path = synthetic.write_file(folder / "study.yaml", probes=False)
    with pytest.MonkeyPatch.context() as patch, synthetic.quick():
        patch.setenv("RUNS", str(folder / "runs"))
        for seed in range(6):
            for condition in ("baseline", "mul_tokens"):
                synthetic.run(path, condition, seed, EFFECT if condition == "mul_tokens" else 0.0)
    return folder


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """A copy of it to spoil: the path of its file."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return tmp_path / "study.yaml"


def built(path):
    return compare.build(collect(load(path)))


def change(path, **keys):
    """Change keys of the file's compare section, which no result depends on."""
    path.write_text(
        path.read_text().replace("compare: {", "compare: {" + "".join(f"{k}: {v}, " for k, v in keys.items()))
    )
    return path


def results(path):
    return path.parent / "runs" / path.stem


def respoil(directory, spoil, more=None):
    """Change an evaluation's rows, hashes and all, as if it had been made so, with `more` columns of some types."""
    rows = parquet.read_table(directory / "outcomes.parquet").to_pylist()
    schema = pa.schema([*outcomes.SCHEMA, *(pa.field(*each) for each in (more or {}).items())])
    parquet.write_table(pa.Table.from_pylist(spoil(rows), schema), directory / "outcomes.parquet")
    done = read_json(directory / "stage.json")
    done["identity"]["outputs"]["outcomes.parquet"] = sha256(directory / "outcomes.parquet")
    write_json(directory / "stage.json", done)


# --- the verdict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label, keys",
    [
        ("supports", {}),
        ("refutes", {"contrast": "[baseline, mul_tokens]"}),
        ("equivalent", {"metric": "hellaswag", "margin": 0.9}),
        ("underpowered", {"metric": "hellaswag", "margin": 0.0001}),
        ("supports, exploratory", {"exploratory": "true"}),
        ("supports", {"metric": "word_problems.gold_bits"}),
        ("refutes", {"metric": "word_problems.gold_bits", "contrast": "[baseline, mul_tokens]"}),
    ],
)
def test_the_verdict_is_printed_and_written(study, capsys, label, keys):
    text = study.read_text().replace(", margin: 0.02", "") if "margin" in keys else study.read_text()
    study.write_text(text)
    compare.main([str(change(study, **keys))])
    said = capsys.readouterr().out
    content = json.loads((results(study) / "report/report.json").read_text())
    primary = content["primary"]
    assert primary["label"] == label
    assert (
        f"{label}: {primary['treated']} − {primary['control']} on {primary['metric']} after grpo = " in said
    )
    assert f"report: {results(study) / 'report/report.html'}" in said
    assert (
        content["words"]["headline"]
        and content["words"]["explanation"] in (results(study) / "report/report.md").read_text()
    )
    assert "Not finished" not in content["words"]["headline"]
    assert ("a lead, and not a verdict" in content["words"]["explanation"]) == ("exploratory" in keys)


def test_every_figure_of_a_contrast_is_that_of_the_outcomes(study):
    collected = collect(load(study))
    found = contrast(collected, "mul_tokens", "baseline", "grpo")
    a, b = (matrix(collected.arms_of(c, "grpo"), "grpo", "word_problems") for c in ("baseline", "mul_tokens"))
    rows = [synthetic_rows(study, "mul_tokens", seed) for seed in range(6)]
    np.testing.assert_array_equal(b, [[row["correct"] for row in each] for each in rows])
    effect = stats.effect(a, b)
    assert found["difference"] == pytest.approx(b.mean() - a.mean())
    assert found["difference"] == pytest.approx(np.mean(list(found["by_seed"].values())))
    assert found["interval"] == pytest.approx(effect.interval(0.95)) and found["p"] == effect.p_value()
    assert found["equivalence_p"] == effect.equivalence_p(0.02)
    assert found["sign_flip_p"] == stats.sign_flip(a, b) == 2 / 2**6
    assert found["paired_t"]["p"] == stats.paired_t(a, b)[0]
    assert found["crossed_bootstrap"] == list(stats.crossed_bootstrap(a, b))
    assert found["mean"] == {"mul_tokens": b.mean(), "baseline": a.mean()}
    back = contrast(collected, "baseline", "mul_tokens", "grpo")
    assert back["difference"] == -found["difference"] and back["p"] == pytest.approx(found["p"])


def test_bits_of_the_reference_answers_are_compared_problem_by_problem(study, capsys):
    """Lower is better; the means are those of summary.json, bits over bytes of all answers together."""
    content = built(change(study, metric="word_problems.gold_bits"))
    primary = content["primary"]
    bits = {}
    for condition, mean in primary["mean"].items():
        summaries = [
            read_json(results(study) / f"{condition}-s{seed}/eval_grpo/summary.json") for seed in range(6)
        ]
        bits[condition] = [each["sets"]["word_problems"]["gold_bits_per_byte"] for each in summaries]
        assert mean == pytest.approx(np.mean(bits[condition]), rel=1e-6)
    by_seed = [b - a for a, b in zip(bits["baseline"], bits["mul_tokens"])]
    assert list(primary["by_seed"].values()) == pytest.approx(by_seed, rel=1e-5)
    assert primary["interval"][1] < 0 and primary["unit"] == "bits per byte" and primary["planning"] is None
    assert "lower is better" in content["sentence"] and "bits per byte" in content["sentence"]
    assert "points" not in content["words"]["explanation"] + content["words"]["headline"]
    compare._print(content)
    assert (
        "\nword_problems by stratum\n" in capsys.readouterr().out
    )  # shares of right answers, in whatever metric
    assert content["figures"]["differences"]["encoding"]["format"] == "bits per byte"
    rows = parquet.read_table(results(study) / "mul_tokens-s0/eval_grpo/outcomes.parquet").to_pylist()
    kept = list(report.outcomes([collect(load(study))]))[1].to_pylist()  # the second arm's
    assert [
        row["gold_bits"] for row in kept if (row["stage"], row["set"]) == ("grpo", "word_problems")
    ] == pytest.approx([row["gold_bits"] for row in rows if row["set"] == "word_problems"], rel=1e-6)


def test_a_single_pair_is_compared_in_bits_too(study):
    for seed in range(1, 6):
        shutil.rmtree(results(study) / f"mul_tokens-s{seed}")
    content = built(change(study, metric="word_problems.gold_bits"))
    assert content["primary"]["test"].startswith("paired t") and content["primary"]["p"] < 0.05
    assert "Over problems, paired t has p" in content["words"]["explanation"]


def test_bits_are_refused_where_a_condition_cannot_write_the_reference_answer(tmp_path):
    path = synthetic.write_file(
        tmp_path / "three.yaml", ("baseline", "mul_tokens", "placebo"), 2, 12, [("mul_tokens", "placebo")]
    )
    load(change(path, metric="word_problems"))
    path.write_text(path.read_text().replace("metric: word_problems", "metric: word_problems.gold_bits"))
    with pytest.raises(
        UserError, match="compare.metric: 'placebo' cannot write the reference answers exactly"
    ):
        load(path)
    path.write_text(
        re.sub("secondary: .*?]]", "ladder: {stages: [sft_tulu, grpo], accuracy: 0.3}", path.read_text())
    )
    with pytest.raises(UserError, match="compare.ladder: climbs to an accuracy, and word_problems.gold_bits"):
        load(path)


def test_evaluations_without_bits_are_compared_by_accuracy_alone(study):
    """Those of before the reference answers were scored."""
    for path in results(study).glob("*/eval_grpo/outcomes.parquet"):
        respoil(path.parent, lambda rows: [row | {"gold_bits": None, "gold_bytes": None} for row in rows])
    assert built(study)["primary"]["label"] == "supports"
    with pytest.raises(UserError, match="has no outcomes of 'word_problems.gold_bits'; evaluate it again"):
        built(change(study, metric="word_problems.gold_bits"))


def test_a_grid_of_arithmetic_is_drawn_by_cell(study):
    """From the columns of one arm, whose problems all share; in whatever order an arm was asked."""
    for path in sorted(results(study).glob("*/eval_*/outcomes.parquet")):

        def spoil(rows, backwards="-s3" in str(path)):
            for i, row in enumerate(row for row in rows if row["set"] == "word_problems"):
                row |= {"op": "add", "digits_a": 1 + i % 3, "digits_b": 2, "carries": i % 2, "seen": True}
            return rows[::-1] if backwards else rows

        respoil(
            path.parent,
            spoil,
            {"op": pa.string(), **dict.fromkeys(("digits_a", "digits_b", "carries"), pa.int64())},
        )
    figure = built(study)["figures"]["grid_digits_seen"]
    rows = [dict(zip(figure["columns"], row)) for row in figure["rows"]]
    assert [(row["panel"], row["row"]) for row in rows[:3]] == [("add · baseline", n) for n in (1, 2, 3)]
    kept = [
        [row["correct"] for row in synthetic_rows(study, "baseline", seed) if row["digits_a"] == 1]
        for seed in range(6)
    ]
    assert rows[0]["value"] == pytest.approx(100 * np.mean(kept), abs=1e-3) and rows[0]["problems"] == len(
        kept[0]
    )


def synthetic_rows(path, condition, seed):
    table = parquet.read_table(results(path) / f"{condition}-s{seed}/eval_grpo/outcomes.parquet")
    return [row for row in table.to_pylist() if row["set"] == "word_problems"]


@pytest.mark.parametrize("share, label", [(0.02, "underpowered"), (0.99, "equivalent")])
def test_a_relative_margin_is_a_share_of_the_controls_accuracy(study, share, label):
    study.write_text(study.read_text().replace("margin: 0.02", f"margin: null, relative_margin: {share}"))
    content = built(change(study, metric="hellaswag"))
    primary = content["primary"]
    assert primary["margin"] == pytest.approx(share * primary["mean"]["baseline"])
    assert (
        primary["label"] == label
        and f"({100 * share:g}% of baseline's accuracy)" in content["words"]["explanation"]
    )
    swapped = built(change(study, contrast="[baseline, mul_tokens]"))["primary"]
    assert swapped["margin"] == pytest.approx(share * primary["mean"]["mul_tokens"])


def test_an_absolute_margin_that_is_much_of_a_low_accuracy_is_said(study):
    assert "relative_margin" not in built(study)["words"]["explanation"]
    study.write_text(study.read_text().replace("margin: 0.02", "margin: 0.3"))
    assert "of baseline's accuracy" in built(change(study, metric="hellaswag"))["words"]["explanation"]


def test_conditions_that_write_another_text_are_compared_without_its_bits(tmp_path, monkeypatch):
    conditions = ("baseline", "mul_tokens", "placebo", "product_only")
    path = synthetic.write_file(tmp_path / "four.yaml", conditions, 2, 12, [("product_only", "placebo")])
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    with synthetic.quick():
        for seed in range(2):
            for condition in conditions:
                synthetic.run(path, condition, seed)
    content = built(path)
    assert content["primary"]["label"] and content["secondary"][0]["label"]
    bits = content["figures"]["compute_bits"]
    scored = bits["columns"].index("scored")
    assert {(row[2], row[scored]) for row in bits["rows"]} == {("baseline", 12), ("mul_tokens", 12)}


def test_rows_in_another_order_are_brought_into_one(study):
    before = built(study)["primary"]
    respoil(results(study) / "mul_tokens-s3/eval_grpo", lambda rows: rows[::-1])
    after = built(study)["primary"]
    assert {k: after[k] for k in ("difference", "interval", "p")} == {
        k: before[k] for k in ("difference", "interval", "p")
    }


def test_secondary_contrasts_are_adjusted_by_holm(study):
    study.write_text(
        study.read_text().replace(
            "secondary: []", "secondary: [[mul_tokens, baseline], [baseline, mul_tokens]]"
        )
    )
    secondary = built(study)["secondary"]
    assert [each["p_holm"] for each in secondary] == stats.holm([each["p"] for each in secondary])
    assert secondary[0]["p_holm"] > secondary[0]["p"]


def test_a_secondary_verdict_that_holm_takes_back_says_so(study, monkeypatch):
    study.write_text(study.read_text().replace("secondary: []", "secondary: [[mul_tokens, baseline]]"))
    assert built(study)["secondary"][0]["label"] == "supports"
    monkeypatch.setattr(stats, "holm", lambda p_values: [0.06])
    assert built(study)["secondary"][0]["label"] == "supports, not after Holm"


@pytest.mark.parametrize("correlation", [None, 1.0, 1 - 1e-15])
def test_nothing_is_planned_from_arms_that_answer_alike(correlation):
    found = {"seeds": [0, 1], "pairing": {"correlation": correlation, "spread": 0.0}, "problems": 40}
    found |= {"mean": {"a": 0.5}, "control": "a", "margin": 0.02, "unit": "points", "metric": "word_problems"}
    assert planning(found) is None


def test_problems_that_were_not_asked_are_said_once_for_a_set_and_reason(study):
    collected = collect(load(study))
    for arm in collected.arms:
        for summary in arm.summaries.values():
            summary["sets"]["word_problems"]["skipped"] = {"repeated": 2}
    (line,) = [line for line in compare.caveats.warnings(collected) if "not asked" in line]
    assert line == "Problems of word_problems not asked: 2 repeated, in 36 evaluations."


def test_strata_say_how_many_problems_they_hold(study):
    content = built(study)
    header, *rows = compare.tables.strata_rows(content)
    score = content["scores"]["grpo"]["baseline"]["sets"]["word_problems"]
    assert f"seen ({score['strata']['seen']['n']:.0f})" in header and len(rows) == 6
    assert all(len(row) == len(header) for row in rows)


def test_one_seed_says_nothing_about_seeds(study, capsys):
    one = study.with_name("one.yaml")
    one.write_text(study.read_text().replace("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0]"))
    shutil.copytree(results(study), results(one))
    compare.main([str(one)])
    content = json.loads((results(one) / "report/report.json").read_text())
    primary = content["primary"]
    a, b = ([row["correct"] for row in synthetic_rows(one, c, 0)] for c in ("baseline", "mul_tokens"))
    assert primary["label"] == "underpowered" and primary["p"] == stats.mcnemar(np.array(a), np.array(b))
    assert primary["only_treated_right"] == sum(y and not x for x, y in zip(a, b))
    assert "this pair of models" in capsys.readouterr().out
    assert "says nothing about other seeds" in content["words"]["explanation"]


def test_models_at_the_floor_are_called_so(study):
    def wrong(rows):
        return [row | {"correct": row["correct"] and row["set"] != "word_problems"} for row in rows]

    for condition in ("baseline", "mul_tokens"):
        for seed in range(6):
            respoil(results(study) / f"{condition}-s{seed}/eval_grpo", wrong)
    assert "above the floor" in built(study)["words"]["explanation"]


# --- at what cost -------------------------------------------------------------------------------------------

OPENED: list[str] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "open" else None)


def test_every_file_of_a_study_is_read_once(study):
    OPENED.clear()
    compare.main([str(study)])
    read = Counter(path for path in OPENED if path.startswith(str(results(study))) and "/.report" not in path)
    assert {path.rpartition("/")[2] for path in read} >= {"stage.json", "outcomes.parquet", "summary.json"}
    assert {path: count for path, count in read.items() if count > 1} == {}


def test_a_further_arm_adds_its_outcomes_and_nothing_of_the_problems(study, monkeypatch):
    monkeypatch.setattr(evaluations, "KEPT", 1)
    first, *others = collect(load(study)).arms
    for arm in others:
        assert arm.items.keys() == first.items.keys()
        for name, sets in arm.items.items():
            for key, items in sets.items():
                assert items.ids is first.items[name][key].ids and items.golds is first.items[name][key].golds
                assert items.correct.dtype == bool
    assert {arm.name for arm in (first, *others) if arm.texts} == {first.name}


def test_a_comparison_loads_no_library_that_takes_seconds():
    heavy = {"torch", "transformers", "trl", "matplotlib", "pandas", "statsmodels", "scipy.stats", "datasets"}
    code = f"import sys, eval.verdict.compare; sys.exit(str({heavy} & sys.modules.keys() or '') or 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- nothing is left out ------------------------------------------------------------------------------------


def test_missing_seeds_make_it_incomplete_and_are_named(study, capsys):
    for seed in (1, 3, 5):
        shutil.rmtree(results(study) / f"baseline-s{seed}/eval_grpo")
    compare.main([str(study)])
    assert (
        "incomplete (3 of 6 seeds): mul_tokens − baseline on word_problems after grpo = "
        in capsys.readouterr().out
    )
    content = json.loads((results(study) / "report/report.json").read_text())
    assert content["primary"]["seeds"] == [0, 2, 4] and len(content["primary"]["by_seed"]) == 3
    assert content["scores"]["grpo"]["baseline"]["seeds"] == [0, 2, 4]
    assert content["scores"]["grpo"]["mul_tokens"]["seeds"] == [0, 1, 2, 3, 4, 5]
    assert "Not evaluated after grpo yet: baseline-s1, baseline-s3, baseline-s5." in content["warnings"]
    assert len(content["runs"]) == 12
    assert content["runs"][2]["stages"]["eval_grpo"]["state"] == "waiting"


@pytest.mark.parametrize("margin", ["margin: 0.02", "margin: null, relative_margin: 0.2"])
def test_an_experiment_without_any_run_says_so(tmp_path, monkeypatch, capsys, margin):
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    path = synthetic.write_file(tmp_path / "empty.yaml", seeds=2)
    path.write_text(path.read_text().replace("margin: 0.02", margin))
    compare.main([str(path)])
    assert "incomplete (0 of 2 seeds): mul_tokens − baseline" in capsys.readouterr().out
    assert (tmp_path / "runs/empty/report/report.html").exists()


def test_failed_stopped_and_differing_sources_are_shown(study):
    experiment = load(study)
    for seed in (0, 1):
        shutil.rmtree(results(study) / f"mul_tokens-s{seed}/eval_grpo")
    with pytest.raises(RuntimeError), stage.begin("eval", [str(study), "mul_tokens", "0", "grpo"], ""):
        raise RuntimeError("out of memory")
    with pytest.raises(KeyboardInterrupt), stage.begin("eval", [str(study), "mul_tokens", "1", "grpo"], ""):
        raise KeyboardInterrupt
    with synthetic.quick("two"):
        synthetic.finish(experiment, study, "baseline", 2, "eval_export", 0.0, "--overwrite")
    content = built(study)
    assert "mul_tokens-s0 eval_grpo failed: RuntimeError: out of memory" in content["warnings"]
    assert any(line.startswith("mul_tokens-s1 eval_grpo stopped") for line in content["warnings"])
    (line,) = [line for line in content["warnings"] if "source code" in line]
    assert "eval_export" in line and "baseline-s2" in line
    assert any("earlier result" in line for line in content["unplanned"])


def test_what_the_file_no_longer_plans_is_listed(study):
    (results(study) / "baseline-s9").mkdir()
    shutil.copytree(results(study) / "baseline-s0/eval_grpo", results(study) / "baseline-s9/eval_grpo")
    shutil.copytree(results(study) / "baseline-s0/grpo", results(study) / "baseline-s0/grpo_binary")
    content = built(study)
    assert content["unplanned"] == ["baseline-s0 grpo_binary: is not in the file",
                                    "baseline-s9: is not in the file, and has 1 finished stages"]  # fmt: skip
    assert any("2 results" in line for line in content["warnings"])


def test_a_report_needs_no_shards(study):
    before = built(study)["scores"]
    shutil.rmtree(study.parent / "runs/data")
    content = built(study)
    assert content["scores"] == before and content["primary"]["label"] == "supports"
    assert any(line.startswith("pretrain: 'prepare' is gone") for line in content["warnings"])


def test_two_experiments_are_described_without_a_verdict(study, capsys):
    other = study.with_name("other.yaml")
    shutil.copy(study, other)
    shutil.copytree(results(study), results(other))
    compare.main([str(study), str(other)])
    said = capsys.readouterr().out
    assert not re.search("supports|refutes|equivalent|underpowered", said)
    content = json.loads((study.parent / "runs/study+other/report/report.json").read_text())
    assert content["primary"] is None and "differences" not in content["figures"]
    assert list(content["scores"]["grpo"]) == [
        f"{e}: {c}" for e in ("study", "other") for c in ("baseline", "mul_tokens")
    ]
    figure = content["figures"]["accuracy"]
    assert len(figure["rows"]) == 2 * len(built(study)["figures"]["accuracy"]["rows"])
    with pytest.raises(UserError, match="named twice"):
        compare.main([str(study), str(study)])


def test_a_figure_of_another_question_stands_by_itself(study):
    shutil.copy(study, study.with_name("other.yaml"))
    other = change(study.with_name("other.yaml"), stage="export")
    shutil.copytree(results(study), results(other))
    contents = [built(study), built(other)]
    merged, _ = compare.beside.beside(contents, [{"sets": {}, "blocks": [], "message": ""}] * 2)
    titles = [figure["title"] for figure in merged["figures"].values() if "Fact by fact" in figure["title"]]
    assert titles == ["Fact by fact, after grpo", "other: Fact by fact, after export"]
    assert all(figure["id"] == key for key, figure in merged["figures"].items())


# --- nothing is mixed ---------------------------------------------------------------------------------------


def twice(study):
    respoil(results(study) / "baseline-s1/eval_grpo", lambda rows: [*rows, rows[0]])


def fewer(study):
    respoil(results(study) / "baseline-s1/eval_grpo", lambda rows: rows[1:])


def without_a_set(study):
    respoil(
        results(study) / "baseline-s1/eval_grpo",
        lambda rows: [row for row in rows if row["set"] != "hellaswag"],
    )


def other_golds(study):
    respoil(results(study) / "baseline-s1/eval_grpo", lambda rows: [rows[0] | {"gold": "-1"}, *rows[1:]])


def no_outcomes(study):
    (results(study) / "baseline-s1/eval_grpo/outcomes.parquet").unlink()


def damaged(study):
    with open(results(study) / "baseline-s1/eval_grpo/outcomes.parquet", "ab") as file:
        file.write(b"x")


def unreadable(study):
    (results(study) / "baseline-s1/eval_grpo/stage.json").write_text("{")


def other_budget(study):
    study.write_text(study.read_text().replace("{from: export}", "{from: export, lr: 0.5}"))


def other_data(study):
    path = results(study) / "baseline-s1/eval_grpo/stage.json"
    done = read_json(path)
    done["identity"]["data"] = {"sample:test": "sample-0"}
    write_json(path, done)


def other_tokenizer(study):
    path = results(study) / "mul_tokens-s1/eval_grpo/stage.json"
    done = read_json(path)
    done["identity"]["tokenizer"] = "another"
    write_json(path, done)


def parent_made_anew(study):
    path = results(study) / "mul_tokens-s1/grpo/stage.json"
    done = read_json(path)
    done["identity"]["outputs"] = {"model/model.safetensors": "another"}
    write_json(path, done)


def copied_arm(study):
    shutil.rmtree(results(study) / "mul_tokens-s1")
    shutil.copytree(results(study) / "mul_tokens-s0", results(study) / "mul_tokens-s1")


def no_record(study):
    path = results(study) / "baseline-s1/eval_grpo/stage.json"
    write_json(path, {"identity": read_json(path)["identity"]})


def no_identity_of_data(study):
    path = results(study) / "baseline-s1/eval_grpo/stage.json"
    done = read_json(path)
    del done["identity"]["data"]
    write_json(path, done)


def without_a_column(study):
    spoil_table(study, lambda table: table.drop(["correct"]))


def column_of_another_type(study):
    numbers = lambda table: pa.array([2 * row for row in table["correct"].to_pylist()])  # noqa: E731
    spoil_table(study, lambda t: t.set_column(t.schema.names.index("correct"), "correct", numbers(t)))


def spoil_table(study, spoil):
    directory = results(study) / "baseline-s1/eval_grpo"
    table = spoil(parquet.read_table(directory / "outcomes.parquet"))
    parquet.write_table(table, directory / "outcomes.parquet")
    rehash(directory, "outcomes.parquet")


def rehash(directory, name):
    done = read_json(directory / "stage.json")
    done["identity"]["outputs"][name] = sha256(directory / name)
    write_json(directory / "stage.json", done)


def without_a_verdict_on_a_row(study):
    spoil = lambda rows: [rows[0] | {"correct": None}, *rows[1:]]  # noqa: E731
    respoil(results(study) / "baseline-s1/eval_grpo", spoil)


def spoil_summary(study, spoil):
    directory = results(study) / "baseline-s1/eval_grpo"
    summary = read_json(directory / "summary.json")
    spoil(summary["sets"])
    write_json(directory / "summary.json", summary)
    rehash(directory, "summary.json")


def summary_without_a_set(study):
    spoil_summary(study, lambda sets: sets.pop("word_problems"))


def summary_without_a_figure(study):
    spoil_summary(study, lambda sets: sets["word_problems"].pop("errors"))


def set_gone_everywhere(study):
    for condition in ("baseline", "mul_tokens"):
        for seed in range(6):
            directory = results(study) / f"{condition}-s{seed}/eval_grpo"
            respoil(directory, lambda rows: [row for row in rows if row["set"] == "hellaswag"])
            summary = read_json(directory / "summary.json")
            del summary["sets"]["word_problems"]
            write_json(directory / "summary.json", summary)
            rehash(directory, "summary.json")


def metrics_cut(study):
    path = results(study) / "baseline-s1/grpo/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-10])


def unknown_metric(study):
    change(study, metric="probes.roots")


def with_itself(study):
    change(study, contrast="[baseline, baseline]")


def two_margins(study):
    change(study, relative_margin=0.1)


def no_margin(study):
    study.write_text(study.read_text().replace("margin: 0.02", "margin: null"))


def margin_of_two(study):
    study.write_text(study.read_text().replace("margin: 0.02", "margin: 2"))


@pytest.mark.parametrize(
    "spoil, said",
    [
        (twice, r"eval_grpo: 'word_problems' of baseline-s1 holds problem \w+ 2 times"),
        (fewer, r"eval_grpo: 'word_problems' of baseline-s0 and baseline-s1 differ in 1 problems"),
        (without_a_set, r"eval_grpo: baseline-s0 and baseline-s1 were asked other sets \(hellaswag\)"),
        (other_golds, r"'word_problems' of baseline-s0 and baseline-s1 differ in the right answers"),
        (no_outcomes, r"baseline-s1/eval_grpo/outcomes.parquet: damaged"),
        (damaged, r"baseline-s1/eval_grpo/outcomes.parquet: damaged"),
        (unreadable, r"baseline-s1/eval_grpo/stage.json: cannot be read"),
        (
            other_budget,
            r"sft_tinygsm: made otherwise than .*study.yaml says \(section.lr: [\d.]+ → 0.5\).*--overwrite",
        ),
        (other_data, r"eval_grpo: baseline-s0 and baseline-s1 disagree in data"),
        (other_tokenizer, r"mul_tokens-s1/eval_grpo: made otherwise .*tokenizer: "),
        (parent_made_anew, r"mul_tokens-s1/eval_grpo: made otherwise .*'grpo' was made anew since"),
        (copied_arm, r"mul_tokens-s1/tokenizer: made otherwise .*seed: 0 → 1"),
        (no_record, r"baseline-s1/eval_grpo/stage.json: holds no record"),
        (no_identity_of_data, r"baseline-s1/eval_grpo/stage.json: holds no data"),
        (without_a_column, r"baseline-s1/eval_grpo/outcomes.parquet: .*no column 'correct'"),
        (column_of_another_type, r"baseline-s1/eval_grpo/outcomes.parquet: .*no column 'correct' of bool"),
        (without_a_verdict_on_a_row, r"eval_grpo/outcomes.parquet: has rows without correct"),
        (summary_without_a_set, r"baseline-s1/eval_grpo/summary.json: is not of its outcomes"),
        (summary_without_a_figure, r"baseline-s1 has no figure word_problems.errors; evaluate it again"),
        (set_gone_everywhere, r"baseline-s0/eval_grpo: has no outcomes of 'word_problems'"),
        (metrics_cut, r"baseline-s1/grpo/metrics.jsonl:24: is not what a step has logged"),
        (with_itself, r"study.yaml: compare: contrasts 'baseline' with itself"),
        (two_margins, r"study.yaml: compare: give margin or relative_margin, one of the two"),
        (no_margin, r"study.yaml: compare: give margin or relative_margin, one of the two"),
        (margin_of_two, r"study.yaml: compare.margin: input should be less than 1"),
        (
            unknown_metric,
            r"study.yaml: compare.metric: no 'probes.roots'; there are word_problems, hellaswag",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_line(study, spoil, said):
    spoil(study)
    (results(study) / "report").mkdir()
    (results(study) / "report/report.html").write_text("an earlier report")
    with pytest.raises(UserError, match=said) as refused:
        compare.main([str(study)])
    assert "\n" not in str(refused.value)
    assert [path.read_text() for path in results(study).glob("*report*/*")] == ["an earlier report"]


@pytest.mark.parametrize("place", ["report", "report/figures", "report/report.html/mine"])
def test_what_is_in_the_way_of_a_report_is_named_and_kept(tmp_path, place):
    kept = tmp_path / place
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("kept")
    with pytest.raises(UserError, match=f"{place.removesuffix('/mine')}: is in the way"):
        compare.report.write({}, {}, None, tmp_path / "report")
    assert kept.read_text() == "kept" and not list(tmp_path.glob(".report*"))


def test_what_a_killed_comparison_left_is_removed(study):
    for left in (".report.4711/figures", ".report.new/figures"):
        (results(study) / left).mkdir(parents=True)
    compare.main([str(study)])
    assert [path.name for path in results(study).glob("*report*")] == ["report"]


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/report: the report cannot be written: File exists"):
        compare.report.write({}, {}, None, tmp_path / "file/report")


def test_parents_in_another_experiment_have_to_agree_too(study):
    text = study.read_text().replace(
        "sft_tinygsm: {from: export}",
        "sft_tinygsm: null, prepare: null, pretrain: null, export: null, tokenizer: null",
    )
    path = study.with_name("further.yaml")
    path.write_text(
        re.sub(r"stages: \{", "stages: {grpo: {from: study/sft_tinygsm}, ", text).replace(
            "[0, 1, 2, 3, 4, 5]", "[0, 1]"
        )
    )
    with synthetic.quick():
        for seed in (0, 1):
            for condition in ("baseline", "mul_tokens"):
                synthetic.run(path, condition, seed)
    assert built(path)["primary"]["seeds"] == [0, 1]
    above = results(study) / "baseline-s1/export/stage.json"
    done = read_json(above)
    done["identity"]["data"] = {"other": ["1"]}
    write_json(above, done)
    with pytest.raises(UserError, match="study/export: baseline-s0 and baseline-s1 disagree in data"):
        built(path)


@pytest.mark.parametrize("key", ["eval", "compare"])
def test_a_file_without_a_question_is_refused(tmp_path, key):
    path = synthetic.write_file(tmp_path / "study.yaml")
    text = path.read_text().replace(f"\n{key}: {{", f"\n{key}: null\nplan: {{flops: 1.0}} # {{")
    path.write_text(text if key == "compare" else re.sub(r"\ncompare: .*", "\ncompare: null", text))
    with pytest.raises(UserError, match=r"study.yaml: (eval|compare): is missing"):
        compare.main([str(path)])
