"""The strata of a committed study: README's table, and the difference of two studies' differences."""

import pytest

from pipeline.errors import UserError
from pipeline.files import ROOT
from scripts import strata

OUTCOMES = str(ROOT / "experiments/results/miniature_compute/outcomes.parquet")


def test_the_readme_shows_what_the_committed_outcomes_say(capsys):
    strata.main([OUTCOMES])
    printed = capsys.readouterr().out
    for row in (
        "| the solution holds a sum | 737 | 52.6% | 70.2% | -17.6 [-21.8, -13.3] |",
        "| three digits by one, 2 sums of a carry | 259 | 65.2% | 85.2% | -20.0 [-26.1, -13.9] |",
    ):
        assert row in printed
    readme = (ROOT / "README.md").read_text()
    assert "| the solution contains a sum | 737 | −17.6 [−21.8, −13.3] |" in readme


def test_a_study_less_itself_changes_nothing(capsys):
    strata.main([OUTCOMES, "--less", OUTCOMES])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows and all(row.endswith("| +0.0 [+0.0, +0.0] |") for row in rows)


def test_two_studies_without_common_seeds_are_refused():
    other = str(ROOT / "experiments/results/miniature/outcomes.parquet")
    with pytest.raises(UserError, match="share no two pairs of mul_tokens and baseline"):
        strata.main([OUTCOMES, "--less", other])
