"""YAML that would hang, fill the memory or end in a traceback is one line, and --set says what was meant."""

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.yaml_file import read

QUICKSTART = ROOT / "experiments/quickstart.yaml"
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {k: x}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)

BAD = {
    "nested anchors": (LAUGHS, "more than 20,000 values"),
    "nested merges": (MERGES, "more than 20,000 values"),
    "an alias in its own anchor": ("a: &a [*a]\n", "an alias within its own anchor"),
    "a mapping in itself": ("a: &a {b: *a}\n", "an alias within its own anchor"),
    "deep": ("a: " + "[" * 60 + "]" * 60, "levels deep"),
    "very deep": ("a: " + "[" * 5000, "levels deep"),
    "a long integer": ("a: " + "9" * 5000, "not valid YAML"),
    "no such day": ("a: 2001-02-31", "not valid YAML"),
    "a tag": ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    "a list as a key": ("{[a, b]: c}", "not valid YAML"),
    "a list": ("[1, 2]", "is a mapping with"),
    "nothing": ("", "is a mapping with"),
    "large": ("#" * 1_100_000, "no experiment file"),
}


@pytest.mark.parametrize("content, message", BAD.values(), ids=BAD)
def test_hostile_yaml_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        read(path)
    assert (
        message in str(raised.value)
        and str(raised.value).startswith(f"{path}: ")
        and "\n" not in str(raised.value)
    )


def test_what_one_reader_changes_the_next_does_not_see():
    read(QUICKSTART)["stages"]["pretrain"]["lr"] = "changed"
    assert read(QUICKSTART)["stages"]["pretrain"]["lr"] != "changed"


def test_undecodable_bytes_and_a_folder_are_one_line(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "a.yaml", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read(path)


VALUES = {
    "seeds=[5000000000]": "seeds.0: input should be less than 4294967296",
    "stages.sft_tulu.from=../../../etc": "stages.sft_tulu.from: string should match",
    "stages.sft_tulu.from=a/../b": "stages.sft_tulu.from: string should match",
    f"stages.{'x' * 300}={{run: tokenizer}}": "string should have at most 64 characters",
    "stages.pretrain={2001-01-01: 3}": "a key is a date or a list",
    "stages.pretrain.run=[1]": "stages.pretrain.run: must be one of",
    "eval.sets.word_problems.limt=3": "eval.sets.word_problems.limt: unknown key, did you mean 'limit'?",
}


@pytest.mark.parametrize("change", VALUES)
def test_a_value_that_would_fail_hours_later_is_refused_by_check(change, runs):
    with pytest.raises(UserError) as raised:
        load(QUICKSTART, [change], "wrong")
    assert VALUES[change] in str(raised.value) and len(str(raised.value)) < 600 and not runs.exists()


MEANT = {
    "pretrain.lr=1e-3": "did you mean stages.pretrain.lr?",
    "stages.pretrian.lr=1e-3": "did you mean stages.pretrain.lr?",
    "pretrian.lr=1e-3": "did you mean stages.pretrain.lr?",
    "condition.baseline.mode=plain": "did you mean conditions.baseline.mode?",
    "stages.nothing_like_it.lr=1e-3": "there is no stage 'nothing_like_it'; there are tokenizer, prepare",
    "stages.pretrain.lr.x=1": "'lr' is a value and holds no keys",
    "seeds": "write it as KEY=VALUE",
    "seeds=[1": "not valid YAML",
}


@pytest.mark.parametrize("change", MEANT)
def test_a_misspelt_set_says_what_was_meant(change, runs):
    with pytest.raises(UserError) as raised:
        load(QUICKSTART, [change], "wrong")
    assert MEANT[change] in str(raised.value) and str(raised.value).startswith(f"--set {change}: ")


@pytest.mark.parametrize("name", ["data", "../up", "a/b", "x" * 70, ""])
def test_a_name_that_would_write_elsewhere_is_refused(name, runs):
    with pytest.raises(UserError):
        load(QUICKSTART, ["stages.pretrain.lr=1e-3"], name)
    assert not runs.exists()


def test_what_extends_something_else_than_a_file_is_refused(tmp_path):
    for base in (["a.yaml"], 3, {"a": 1}):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump({"extends": base}))
        with pytest.raises(UserError, match="extends: must be the path"):
            load(tmp_path / "a.yaml")
