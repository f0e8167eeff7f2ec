"""What is part of an identity and what is not, at every depth."""

import copy

import pytest
from pydantic import Field

from pipeline import identity
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.hooks import hook
from pipeline.identity import asked, expected_identity, operational
from pipeline.kinds import KINDS
from pipeline.sections import OPERATIONAL, Grpo, Import, Phase, ProblemSet, fields_of, sources, strict

QUICKSTART = ROOT / "experiments/quickstart.yaml"


def changed_by(spec, **values):
    spec = copy.copy(spec)
    for key, value in values.items():
        setattr(spec, key, value)
    return spec


CHANGES = {
    "pretrain": {
        "micro_batch": 3,
        "compile": True,
        "report_to": ["tensorboard"],
        "keep": 9,
        "save_every": 7,
        "milestones": [9],
    },
    "sft_tulu": {
        "micro_batch": 4,
        "save_every": 5,
        "report_to": "wandb",
        "eval_every": 9,
        "dev": "x",
        "dev_name": "y",
    },
    "grpo": {"micro_batch": 8, "save_every": 2, "report_to": "trackio", "eval_every": 9},
    "eval_export": {"batch_size": 3},
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_operational_key_is_shown_and_decides_nothing(name):
    spec = load(QUICKSTART).stage(name)
    changed = changed_by(spec, **CHANGES[name])
    assert asked(changed) == asked(spec) and not CHANGES[name].keys() & asked(spec).keys()
    assert operational(changed).items() >= CHANGES[name].items()
    assert set(operational(spec)) == set(CHANGES[name])


def test_no_key_of_a_batch_or_a_model_is_operational():
    for kind in KINDS.values():
        marked = {key for key, field in fields_of(kind.section).items() if OPERATIONAL in field.metadata}
        assert not marked & {
            "lr",
            "steps",
            "examples",
            "tokens",
            "n_layer",
            "precision",
            "data",
            "run",
            "parent",
        }


def test_a_new_key_with_a_default_invalidates_nothing_at_any_depth():
    """As if a later version had added a field to a phase and to a problem set."""
    spec = load(QUICKSTART).stages["sft_curriculum"]

    @strict
    class LaterPhase(Phase):
        mixed: bool = False

    @strict
    class LaterSet(ProblemSet):
        shots: int = 0
        notes: list[str] = Field(default_factory=list)

    later = [LaterPhase(**vars(phase)) for phase in spec.phases]
    assert asked(changed_by(spec, phases=later)) == asked(spec)
    evaluation = load(QUICKSTART).eval
    sets = {name: LaterSet(**vars(each)) for name, each in evaluation.sets.items()}
    assert asked(changed_by(evaluation, sets=sets)) == asked(evaluation)
    sets["word_problems"].shots = 8
    assert asked(changed_by(evaluation, sets=sets))["sets"]["word_problems"]["shots"] == 8


def test_what_a_name_stands_for_has_a_version_in_the_identity(monkeypatch, runs):
    experiment = load(QUICKSTART)
    monkeypatch.setattr(identity, "_parent_hash", lambda *words: "parent")
    for name, module in (
        ("grpo", "rl.rewards"),
        ("sft_tulu", "pipeline.conversation"),
        ("eval_grpo", "eval.tasks"),
    ):
        before = expected_identity(experiment, "baseline", 0, name)
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.VERSION", 99)
            after = expected_identity(experiment, "baseline", 0, name)
        assert identity.differences(before, after) == [
            f"versions.{module}: {before['versions'][module]} → 99"
        ]


def test_every_module_that_a_kind_names_is_there():
    for name, kind in KINDS.items():
        assert (ROOT / f"scripts/{name}.sh").is_file() and f"stage {kind.module} " in (
            ROOT / f"scripts/{name}.sh"
        ).read_text()
        assert all(isinstance(hook(f"{module}:VERSION"), int) for module in kind.versions)
        assert kind.check_above is None or callable(hook(kind.check_above))


def test_the_weights_that_an_import_starts_from_are_part_of_its_identity(tmp_path, runs, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "gpt2").mkdir()
    weights = tmp_path / "gpt2/model.safetensors"
    experiment = load(ROOT / "experiments/gpt2_public.yaml")
    name = next(name for name, spec in experiment.stages.items() if isinstance(spec, Import))
    experiment.stages[name].base = "gpt2"
    condition, seed = experiment.arms()[0]
    with pytest.raises(UserError, match="model.safetensors: cannot be read"):
        expected_identity(experiment, condition, seed, name)
    digests = []
    for content in ("one", "other weights"):
        weights.write_text(content)
        digests.append(expected_identity(experiment, condition, seed, name)["data"]["base"])
    assert len(set(digests)) == 2


def test_a_problem_set_may_be_named_data_and_trainer_keys_name_no_rows():
    evaluation = load(QUICKSTART).eval
    sets = {"data": evaluation.sets["word_problems"]}
    assert list(sources(changed_by(evaluation, sets=sets))) == [("sample", None, "test")]
    grpo: Grpo = load(QUICKSTART).stages["grpo"]
    assert list(sources(changed_by(grpo, trainer={"data": "elsewhere"}))) == [("sample", None, "train")]
