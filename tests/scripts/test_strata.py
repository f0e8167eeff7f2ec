"""The strata of a committed study: the documents' tables, and the difference of two studies' differences."""

import pytest

from pipeline.errors import UserError
from pipeline.files import ROOT
from scripts import strata

OUTCOMES = str(ROOT / "experiments/results/miniature_compute/outcomes.parquet")


def test_the_results_show_what_the_committed_outcomes_say(capsys):
    strata.main([OUTCOMES])
    printed = capsys.readouterr().out
    for row in (
        "| the solution holds a sum | 737 | 52.6% | 70.2% | -17.6 [-21.8, -13.3] |",
        "| three digits by one, 2 sums of a carry | 259 | 65.2% | 85.2% | -20.0 [-26.1, -13.9] |",
    ):
        assert row in printed
    results = (ROOT / "experiments/results/README.md").read_text()
    assert "| the solution contains a sum | 737 | −17.6 [−21.8, −13.3] |" in results


def test_a_study_less_itself_changes_nothing(capsys):
    strata.main([OUTCOMES, "--less", OUTCOMES])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows and all(row.endswith("| +0.0 [+0.0, +0.0] |") for row in rows)


def test_two_studies_without_common_seeds_are_refused():
    other = str(ROOT / "experiments/results/miniature/outcomes.parquet")
    with pytest.raises(UserError, match="share no two pairs of mul_tokens and baseline"):
        strata.main([OUTCOMES, "--less", other])


CURVE = str(ROOT / "experiments/results/miniature_curve/outcomes.parquet")


def test_the_readme_shows_what_the_curve_says(capsys):
    readme = (ROOT / "README.md").read_text().replace("−", "-")
    shown = {
        "export_967": ["| all | 1200 | 1.7% | 11.6% |", "+0.110 [+0.071, +0.148]"],
        "export_1934": ["| all | 1200 | 41.9% | 42.9% |", "-0.005 [-0.025, +0.015]", "+24.9 [+8.8, +40.9]"],
        "export_3868": ["| all | 1200 | 62.7% | 66.0% |", "+0.003 [-0.007, +0.013]"],
        "export_7736": [
            "| all | 1200 | 74.2% | 74.5% |",
            "-0.005 [-0.014, +0.004]",
            "+5.3 [+1.1, +9.5]",
            "-1.6 [-2.4, -0.9]",
        ],
    }
    for stage, figures in shown.items():
        strata.main([CURVE, "--stage", stage])
        printed = capsys.readouterr().out
        for figure in figures:
            assert figure in printed
            assert figure.removeprefix("| all | 1200 ") in readme


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "has several stages; give --stage, one of export_967, export_1934"),
        (["--stage", "export"], "--stage export: it has export_967"),
    ],
)
def test_the_stage_is_to_be_one_of_those_that_there_are(options, message):
    with pytest.raises(UserError, match=message):
        strata.main([CURVE, *options])


def test_another_studys_problems_and_a_missing_file_are_refused(tmp_path):
    other = str(ROOT / "experiments/results/control_numbers/outcomes.parquet")
    with pytest.raises(UserError, match="1200 items are not those of the generated test split"):
        strata.main([other, "--treated", "right", "--control", "left"])
    with pytest.raises(UserError, match="no such file"):
        strata.main([str(tmp_path / "outcomes.parquet")])
