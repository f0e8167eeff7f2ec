"""A sweep: its arms come first, its choice is recorded and not written by hand, and holds for the file that it was made by."""

import pytest

from pipeline import sweep
from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.experiment import load, sweep_of
from pipeline.files import ROOT, write_json
from pipeline.identity import own_identity
from pipeline.yaml_file import resolve

KEYS = {
    "stage": "pretrain",
    "lr": "[1e-3, 5e-3]",
    "seeds": "[101, 102]",
    "after": "export",
    "metric": "word_problems",
}


@pytest.fixture
def file(tmp_path, runs):
    path = tmp_path / "study.yaml"
    write(path, KEYS)
    return path


def write(path, keys):
    section = ", ".join(f"{key}: {value}" for key, value in keys.items())
    path.write_text(f"extends: {ROOT / 'experiments/quickstart.yaml'}\nsweep: {{{section}}}\n")


def choose(file, **chosen):
    """As eval.verdict.sweep writes it."""
    sweep.path("study").parent.mkdir(parents=True, exist_ok=True)
    content = {"chosen": chosen, "fingerprint": sweep.fingerprint(resolve(file), "study")}
    write_json(sweep.path("study"), content)


def test_the_sweeps_arms_are_planned_first_and_the_others_when_it_has_chosen(file, capsys):
    main(["plan", str(file)])
    said = capsys.readouterr()
    arms = [line.split("  #")[0].split() for line in said.out.splitlines()]
    assert [(condition, seed) for *_, condition, seed in arms] == 2 * [
        (condition, seed) for seed in ("101", "102") for condition in ("baseline", "mul_tokens")
    ]
    names = ["study-pretrain-lr-0.001", "study-pretrain-lr-0.005"]
    assert list(dict.fromkeys(path.rpartition("/")[2] for _, _, path, *_ in arms)) == [
        f"{n}.yaml" for n in names
    ]
    assert f"then python -m eval.verdict.sweep {file}" in said.err
    for (_, _, path, *_), lr in zip(arms[::4], (1e-3, 5e-3)):
        variant = load(path)
        assert (
            list(variant.stages) == ["prepare", "pretrain", "export"] and variant.stages["pretrain"].lr == lr
        )
        assert variant.seeds == [101, 102] and variant.compare is None and variant.sweep is None
    choose(file, baseline=1e-3, mul_tokens=5e-3)
    main(["plan", str(file)])
    said = capsys.readouterr()
    assert [line.split("  #")[0] for line in said.out.splitlines()] == [
        f"bash scripts/arm.sh {file} {condition} 0" for condition in ("baseline", "mul_tokens")
    ]
    assert "these are the sweep's" not in said.err


def test_the_judged_arms_train_with_what_was_chosen_and_with_nothing_before(file):
    experiment = load(file)
    with pytest.raises(
        UserError, match="study.yaml: sweep: nothing is chosen yet; run what this prints"
    ) as refused:
        own_identity(experiment, "baseline", 0, "pretrain")
    assert "\n" not in str(refused.value)
    own_identity(experiment, "baseline", 0, "prepare")
    choose(file, baseline=1e-3, mul_tokens=5e-3)
    for condition, lr in (("baseline", 1e-3), ("mul_tokens", 5e-3)):
        assert own_identity(experiment, condition, 0, "pretrain")["section"]["lr"] == lr
    spread = {
        name: [own_identity(experiment, c, 0, name)["section"] for c in experiment.conditions]
        for name in experiment.stage_names()
    }
    assert [name for name, (one, other) in spread.items() if one != other] == ["pretrain"]


def test_a_choice_is_for_the_file_that_it_was_made_by(file):
    choose(file, baseline=1e-3, mul_tokens=5e-3)
    text = file.read_text()
    for same in ("stages: {pretrain: {micro_batch: 2}}", "compare: {margin: 0.1}", "seeds: [0, 1, 2]",
                 "stages: {pretrain: {lr: 3e-3}}", "plan: {flops: 1e9}"):  # fmt: skip
        file.write_text(f"{text}{same}\n")
        load(file)
    for other in (
        "stages: {pretrain: {batch_size: 4}}",
        "stages: {prepare: {tokens: 2e6}}",
        "tokenizer: {base: 2048}",
    ):
        file.write_text(f"{text}{other}\n")
        with pytest.raises(UserError, match="sweep.json: was chosen by another sweep; undo the change"):
            load(file)


WRONG = {
    "stage: prepare": "sweep.stage: 'prepare' is not a stage with a learning rate",
    "after: pretrain": "sweep.after: 'pretrain' is not a stage with a model",
    "stage: grpo": "sweep.after: 'export' does not come from 'grpo'",
    "lr: [1e-3, 1.0000001e-3]": "sweep: a value (to six digits) or a seed is named twice",
    "lr: [1e-3]": "sweep.lr",
    "lr: [1e-9, 1e-3]": "sweep.lr: 1e-09 is below pretrain's min_lr",
    "seeds: [0, 101]": "sweep.seeds: 0 is also judged; choose on other seeds",
    "metric: roots": "sweep.metric: no 'roots'; there are word_problems",
    "colour: red": "sweep.colour: unknown key",
}


@pytest.mark.parametrize("change", WRONG)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(file, change):
    key, _, value = change.partition(": ")
    write(file, KEYS | {key: value})
    with pytest.raises(UserError, match="study.yaml: ") as refused:
        load(file)
    assert WRONG[change] in str(refused.value) and "\n" not in str(refused.value)


def test_the_sweeps_files_stay_while_the_file_is_what_it_was(file):
    paths = [variant.path for variant in sweep_of(load(file))]
    assert paths == [variant.path for variant in sweep_of(load(file))]
