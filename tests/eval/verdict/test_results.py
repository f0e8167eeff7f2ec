"""What the report reads beside stage.json is what its stage has written."""

import json

import pytest

from eval.verdict.results import POINTS, Result
from pipeline.errors import UserError
from pipeline.files import sha256


def result(directory):
    return Result("done", "", directory, {"outputs": {"audit.json": sha256(directory / "audit.json")}}, {})


def test_an_output_of_another_shape_is_damage(tmp_path):
    """Well-formed JSON with the right keys and a list where a number was once ended in a traceback."""
    path = tmp_path / "audit.json"
    path.write_text('{"facts": {}, "plain_tokens": 7}')
    found = result(tmp_path)
    assert found.json("audit.json", "plain_tokens")["plain_tokens"] == 7
    path.write_text('{"facts": {}, "plain_tokens": []}')
    with pytest.raises(UserError, match=r"audit\.json: damaged since it was written; rerun its stage"):
        found.json("audit.json", "plain_tokens")


@pytest.mark.parametrize("value", [[], {}, None, "x"])
def test_a_metric_that_is_no_number_is_one_line(tmp_path, value):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": value}) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: is not what a step has logged"):
        Result("done", "", tmp_path, {"outputs": {}}).curves  # noqa: B018


def test_a_log_is_kept_as_curves_of_means_however_long_it_is(tmp_path):
    lines = [
        {"step": step, "loss": float(step)} | ({"dev_loss": 1.5} if step == 250 else {})
        for step in range(1, 501)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = Result("done", "", tmp_path, {"outputs": {}}).curves
    assert curves.keys() == {"loss", "dev_loss"} and curves["dev_loss"] == [(250, 1.5)]
    assert len(curves["loss"]) <= POINTS
    assert curves["loss"][0] == (9, 5.0) and curves["loss"][-1] == (500, 498.0)
