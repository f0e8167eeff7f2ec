import ast
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.identity import asked, section
from pipeline.kinds import KINDS, SAMPLED, Architecture
from pipeline.plan import cost
from pipeline.sections import ConditionSection
from pipeline.yaml_file import read
from tests import forks

QUICKSTART = ROOT / "experiments/quickstart.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_of_the_project_is_valid(path):
    assert load(path).arms()


WRONG = [
    ("stages.pretrain.step=3", "stages.pretrain.step: unknown key, did you mean 'steps'?"),
    ("stages.pretrain.steps=many", "stages.pretrain.steps: input should be a valid integer"),
    ("stages.pretrain.steps=0", "stages.pretrain.steps: input should be greater than or equal to 1"),
    ("stages.pretrain.steps=1.5", "stages.pretrain.steps"),
    ("stages.pretrain.lr=nan", "stages.pretrain.lr"),
    ("stages.pretrain.compile=1", "stages.pretrain.compile: input should be a valid boolean"),
    ("stages.pretrain.n_head=3", "stages.pretrain.n_embd: 64 is not a multiple of n_head 3"),
    (
        "stages.export.step=7",
        "stages.export.step: 7 is no milestone of 'pretrain', which has none; add it there",
    ),
    ("stages.pretrain.milestones=[9000]", "stages.pretrain.milestones: 9000 is more than the 2100 steps"),
    ("stages.prepare.tokens=-1", "stages.prepare.tokens"),
    ("seeds=[0,0]", "seeds: a seed is named twice"),
    ("stages.sft_tulu.from=grpo", "stages.sft_tulu.from: 'grpo' comes later in the file"),
    ("stages.sft_tulu.from=nowhere", "stages.sft_tulu.from: no stage 'nowhere'"),
    ("stages.sft_tulu.from=prepare", "a sft stage cannot follow 'prepare', a prepare stage"),
    ("stages.sft_tulu.examples=3", "stages.sft_tulu.examples: give exactly one of"),
    ("stages.sft_curriculum.phases=[{task: drills, data: sample}]", "phases.0.examples: is missing"),
    (
        "stages.grpo.group_size=5",
        "stages.grpo.batch_size: 32 completions are not whole groups of group_size 5",
    ),
    ("stages.x={run: foo}", "stages.x.run: must be one of"),
    ("vocabulary=cubes", "no tokenizer/vocabularies/cubes.py"),
    ("conditions.baseline={mode: foo}", "conditions.baseline.mode"),
    ("conditions.baseline={mode: plain, lr: 1}", "conditions.baseline.lr: unknown key"),
    ("conditions.baseline={mode: plain, seeds: 2}", "conditions.baseline.seeds: 2 of 1 seeds"),
    ("conditions.baseline={mode: mixed}", "conditions.baseline.share: mode mixed needs it; set it"),
    ("conditions.baseline={mode: mixed, share: 1}", "conditions.baseline.share: input should be less than 1"),
    ("conditions.baseline={mode: plain, share: 0.5}", "conditions.baseline.share: mode plain takes none"),
    ("compare.contrast=[a,b]", "compare: no condition 'a'"),
    ("compare.stage=pretrain", "compare.stage: 'pretrain' is not a stage with a model"),
    ("compare.metric=bogus", "compare.metric: no 'bogus'; there are word_problems, hellaswag, probes.table"),
    ("compare.metric=probes.tabel", "compare.metric: no 'probes.tabel'; there are word_problems"),
    ("compare.contrast=[baseline, baseline]", "compare: contrasts 'baseline' with itself"),
    ("compare.margin=2", "compare.margin: input should be less than 1"),
    (
        "stages.sft_tulu.max_length=500",
        "stages.sft_tulu.max_length: 500 is more than pretrain's block_size of 160",
    ),
    ("stages.sft_tulu.eval_every=5", "stages.sft_tulu.eval_every: looks at dev rows of GSM8K's columns"),
    (
        "stages.sft_gsm8k.dev_name=main",
        "stages.sft_gsm8k.dev_name: is a configuration of dev, which is missing",
    ),
    ("stages.sft_curriculum.warmup=9000", "stages.sft_curriculum.warmup: 9000 is not less than the"),
    ("stages.grpo.warmup=9000", "stages.grpo.warmup: 9000 is not less than the"),
    ("stages.grpo.max_new_tokens=160", "stages.grpo.max_new_tokens: 160 leave no room for a question"),
    ("eval.max_new_tokens=160", "eval.max_new_tokens: 160 leave no room for a question"),
    (
        "stages.prepare={run: prepare, data: a.jsonl, tokens: 9, val_tokens: 9, corpus: seed}",
        "prepare.corpus: only",
    ),
    ("stages.prepare.name=sums", "stages.prepare.name: there are none named 'sums'; there are worked, "),
    ("stages.prepare.drills_name=worked", "stages.prepare.drills_name: there are no drills; set drills"),
    (
        "stages.prepare={run: prepare, data: sample, tokens: 9, val_tokens: 9, drills: 0.2, drills_name: sums}",
        "stages.prepare.drills_name: there are none named 'sums'; there are worked, ",
    ),
    ("eval.sets.hellaswag.task=arc", "eval.sets.hellaswag.task: no task 'arc'; there are "),
    ("eval.samples=-1", "eval.samples: input should be greater than or equal to 0"),
    ("eval.temperature=1.0", "eval.temperature: is of samples, and none are drawn; set eval.samples"),
    ("eval.verifier=grpo", "eval.verifier: is of samples, and none are drawn; set eval.samples"),
    ("eval.sampled=[grpo]", "eval.sampled: is of samples, and none are drawn; set eval.samples"),
    ("eval.sets={a.mean: {task: gsm8k, data: sample, split: test}}", "eval.sets.a.mean: is how a metric is"),
    ("eval.sets={a.gold_bits: {task: gsm8k, data: sample, split: test}}", "eval.sets.a.gold_bits: is how a"),
    (
        "eval.sets.g={task: arithmetic, data: sample, split: test, name: arithmetic_ad}",
        "eval.sets.g: sample: arith",
    ),
    (
        "eval.sets.g={task: arithmetic, data: sample, split: validation}",
        "eval.sets.g: sample: arithmetic rows have",
    ),
    (
        "eval.sets.g={task: hellaswag, data: sample, split: validation, name: a}",
        "eval.sets.g: sample: hellaswag r",
    ),
    ("stages.sft_gsm8k.name=bogus", "stages.sft_gsm8k.name: there are none named 'bogus'"),
    (
        "stages.sft_gsm8k.name=arithmetic_7-8",
        "stages.sft_gsm8k.name: training has operands of up to 6 digits",
    ),
    (
        "stages.sft_tinygsm.name=worked",
        "stages.sft_tinygsm.name: there are none named 'worked'; remove the name",
    ),
    ("stages.grpo.name=bogus", "stages.grpo.name: there are none named 'bogus'"),
    (
        "stages.sft_curriculum.phases=[{task: gsm8k, data: sample, name: bogus, examples: 900}]",
        "stages.sft_curriculum.phases.0.name: there are none named 'bogus'",
    ),
    ("compare.metric=word_problems.maj@16", "'word_problems.maj@16' is of samples, and none are drawn"),
    (
        "compare.metric=word_problems.best@16",
        "compare.metric: no 'word_problems.best@16'; there are word_pro",
    ),
    ("name=other", "name: unknown key"),
    ("path=other", "path: unknown key"),
    ("nonsense=3", "nonsense: unknown key"),
    ("stages=3", "stages"),
]


@pytest.mark.parametrize("change, message", WRONG)
def test_a_wrong_key_type_or_value_is_one_line_that_names_file_and_key(change, message, runs):
    with pytest.raises(UserError) as raised:
        load(QUICKSTART, [change], "wrong")
    said = str(raised.value)
    assert message in said and said.startswith(str(QUICKSTART)) and "\n" not in said
    assert not (runs / "wrong").exists()


SAMPLES = [
    (["compare.metric=word_problems.maj@32"], "compare.metric: 'word_problems.maj@32' takes more than the 16 of"),
    (["compare.metric=word_problems.maj@3"], "'word_problems.maj@3': k is one of 1, 2, 4, 8, 16, where eval.samples"),
    (["compare.metric=word_problems.verifier@4"], "'word_problems.verifier@4' needs a verifier's scores; set eval.ve"),
    (["compare.metric=hellaswag.mean"], "compare.metric: 'hellaswag' is not answered in words, so it has no samples"),
    (["compare.metric=probes.table.mean"], "compare.metric: no 'probes.table.mean'; there are word_problems"),
    (["compare.metric=word_problems.mean", "eval.sampled=[export]"], "needs samples after 'grpo'; add it to eval.sa"),
    (["eval.sampled=[pretrain]"], "eval.sampled: 'pretrain' is not a stage with a model"),
    (["eval.sampled=[nowhere]"], "eval.sampled: 'nowhere' is not a stage with a model"),
    (["eval.verifier=nowhere"], "eval.verifier: 'nowhere' is no verifier stage; there are: none"),
    (["eval.verifier=grpo"], "eval.verifier: 'grpo' is no verifier stage; there are: none"),
    (["eval.temperature=0"], "eval.temperature: input should be greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize("changes, message", SAMPLES)
def test_samples_that_cannot_be_had_are_refused(changes, message, runs):
    with pytest.raises(UserError) as raised:
        load(QUICKSTART, ["eval.samples=16", *changes], "wrong")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_samples_may_be_drawn_after_some_stages_only_and_be_compared(runs):
    changes = ["eval.samples=16", "eval.sampled=[sft_tinygsm, grpo]", "compare.metric=word_problems.pass@8"]
    experiment, plain = load(QUICKSTART, changes, "some"), load(QUICKSTART)
    for name in ("export", "sft_gsm8k"):  # as if none were drawn anywhere
        assert asked(experiment.stage(f"eval_{name}")) == asked(plain.stage(f"eval_{name}"))
    assert asked(experiment.stage("eval_grpo")) == asked(plain.eval) | {"samples": 16}
    everywhere = load(QUICKSTART, ["eval.samples=16"], "all")
    assert asked(everywhere.stage("eval_grpo")) == asked(experiment.stage("eval_grpo"))
    assert cost(plain)[0] < cost(experiment)[0] < cost(everywhere)[0]


@pytest.mark.parametrize("change", ["grpo.data=a.jsonl", "sft_tulu.data=a.jsonl",
    "sft_curriculum.phases=[{task: drills, data: sample, examples: 9000}, {task: gsm8k, data: a.jsonl, examples: 9000}]"])  # fmt: skip
def test_rows_for_every_seed_are_those_of_sample_alone(change, runs):
    stage = change.partition(".")[0]
    load(QUICKSTART, [f"stages.{stage}.corpus=seed"], "right")
    with pytest.raises(UserError, match=f"stages.{stage}.corpus: only `sample` writes"):
        load(QUICKSTART, [f"stages.{stage}.corpus=seed", f"stages.{change}"], "wrong")


def test_a_condition_has_no_place_for_a_hyperparameter():
    assert set(ConditionSection.__dataclass_fields__) == {"mode", "share", "numbers", "seeds"}


def test_numbers_are_read_as_people_write_them(tmp_path):
    content = QUICKSTART.read_text().replace("tokens: 1.2e6", "tokens: 10e9").replace("lr: 1e-2", "lr: 6e-4")
    (tmp_path / "a.yaml").write_text(content)
    stages = load(tmp_path / "a.yaml").stages
    assert stages["prepare"].tokens == 10_000_000_000 and isinstance(stages["prepare"].tokens, int)
    assert stages["pretrain"].lr == 6e-4


def test_an_anchor_may_merge_another_and_be_merged(tmp_path):
    """The loader once took the keys that an anchor had merged for keys written twice."""
    path = tmp_path / "a.yaml"
    anchors = "x: &a {run: import, base: b}\ny: {z: &c {<<: *a, base: d}}\nw: {<<: *c}\n"
    path.write_text(anchors)
    assert read(path)["w"] == {"run": "import", "base": "d"}


def test_a_changed_experiment_goes_by_its_saved_file(runs, capsys):
    """What `plan` prints runs the changed experiment, not the one that it was made of."""
    main(["plan", str(QUICKSTART), "--set", "stages.pretrain.lr=1e-3", "--name", "hot"])
    saved = runs / "hot/hot.yaml"
    assert capsys.readouterr().out.startswith(f"bash scripts/arm.sh {saved} baseline 0  #")
    assert load(saved).stages["pretrain"].lr == 1e-3 and load(saved).name == "hot"


def test_ranks_that_start_at_once_agree_on_the_saved_file(runs, tmp_path):
    def rank(_):
        for _ in range(40):
            load(QUICKSTART, ["seeds=[3]"], "many")

    ranks = [forks.start(rank, [], tmp_path / "log") for _ in range(4)]
    assert forks.finish(ranks) == [0] * 4, (tmp_path / "log").read_text()


def test_a_key_written_twice_and_bad_yaml_are_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(QUICKSTART.read_text() + "\nseeds: [1]\n")
    with pytest.raises(UserError, match="key 'seeds' is written twice"):
        load(path)
    path.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        load(path)
    with pytest.raises(UserError, match=r"no such experiment file; experiments/ has .*quickstart.yaml"):
        load(tmp_path / "b.yaml")


def test_extends_merges_and_null_removes(tmp_path):
    (tmp_path / "base.yaml").write_text(QUICKSTART.read_text())
    child = {
        "extends": "base.yaml",
        "seeds": [1, 2],
        "stages": {"pretrain": {"lr": 3e-3}, "grpo": None},
        "compare": None,
    }
    (tmp_path / "child.yaml").write_text(yaml.safe_dump(child))
    loaded = load(tmp_path / "child.yaml")
    assert (
        loaded.stages["pretrain"].lr == 3e-3
        and loaded.stages["pretrain"].steps == load(QUICKSTART).stages["pretrain"].steps
    )
    assert "grpo" not in loaded.stages and loaded.seeds == [1, 2] and loaded.name == "child"
    (tmp_path / "base.yaml").write_text("extends: child.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        load(tmp_path / "child.yaml")


def test_set_needs_a_name_and_saves_the_resolved_file(runs):
    with pytest.raises(UserError, match="needs a name of its own: add --name NEW"):
        load(QUICKSTART, ["stages.pretrain.lr=1e-3"])
    changed = load(QUICKSTART, ["stages.pretrain.lr=1e-3"], "hot")
    saved = load(runs / "hot/hot.yaml")
    assert saved.stages == changed.stages and saved.stages["pretrain"].lr == 1e-3 and saved.name == "hot"
    load(QUICKSTART, ["stages.pretrain.lr=1e-3"], "hot")
    load(QUICKSTART, ["stages.pretrain.lr=2e-3"], "hot")  # nothing of the first try is finished
    (runs / "hot/baseline-s0/tokenizer").mkdir(parents=True)
    (runs / "hot/baseline-s0/tokenizer/stage.json").touch()
    with pytest.raises(UserError, match="holds another experiment of that name"):
        load(QUICKSTART, ["stages.pretrain.lr=5e-3"], "hot")


def test_arms_are_paired_and_conditions_may_have_fewer_seeds(runs):
    sets = ["seeds=[3,4,5]", "conditions.baseline.seeds=2"]
    assert load(QUICKSTART, sets, "many").arms() == [
        ("baseline", 3), ("mul_tokens", 3), ("baseline", 4), ("mul_tokens", 4), ("mul_tokens", 5),
    ]  # fmt: skip


def test_every_model_is_evaluated_behind_its_stage():
    names = load(QUICKSTART).stage_names()
    for name in ("export", "sft_tulu", "sft_gsm8k", "sft_tinygsm", "sft_curriculum", "grpo"):
        assert names[names.index(name) + 1] == f"eval_{name}"


HEAVY = ("torch", "transformers", "datasets", "trl", "scipy", "matplotlib", "pyarrow", "huggingface_hub")


@pytest.mark.parametrize("command", [["check"], ["plan"], ["status"], ["todo", "mul_tokens", "0"]])
def test_a_command_imports_nothing_that_takes_a_second(command, runs):
    code = "import sys; from pipeline.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    words = [sys.executable, "-c", code, command[0], str(QUICKSTART), *command[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(HEAVY) & set(done.stdout.splitlines()[-1].split())


def test_a_users_error_is_one_line_on_stderr_and_exit_code_2(tmp_path):
    words = [sys.executable, "-m", "pipeline", "check", str(tmp_path / "none.yaml")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


def test_plan_gives_one_independent_line_per_arm(capsys):
    main(["plan", str(QUICKSTART)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  #")[0] for line in lines] == [
        f"bash scripts/arm.sh {QUICKSTART} {condition} 0" for condition in ("baseline", "mul_tokens")
    ]
    assert all(re.search(r"  # \d+ min, [\d.]+ MB$", line) for line in lines)


def test_a_plan_is_as_large_as_what_was_measured(capsys):
    """Arms that were timed (pipeline/plan.py says where): within a fifth, small stages and all."""
    for name, minutes in (("quickstart", 4.3), ("miniature", 2.0)):
        seconds, held = cost(load(ROOT / f"experiments/{name}.yaml"))
        assert abs(seconds / 60 / minutes - 1) < 0.2 and held > 1e6


def test_samples_and_their_scores_cost_what_they_take():
    """16 samples took 4.3 to 8 greedy passes (scripts/bench/decode.py, and evaluations of studies)."""
    model, eval_kind = Architecture(4196, 4, 128, 160), KINDS["eval"]
    greedy = load(QUICKSTART).eval
    one, many, scored = (
        eval_kind.cost(replace(greedy, **changes), model)
        for changes in ({}, {"samples": 16}, {"samples": 16, "verifier": "verifier"})
    )
    assert 4.3 < many.decoding / one.decoding - 1 < 8 and one.flops == many.flops == 0
    assert scored.decoding == many.decoding and scored.flops == pytest.approx(16 * one.decoding)
    spec = load(ROOT / "experiments/miniature_programs.yaml").stages["verifier"]
    before = KINDS["verifier"].cost(spec, model)
    written = spec.problems * spec.samples * spec.max_new_tokens
    assert before.decoding == pytest.approx(2 * model.parameters * written * SAMPLED)


def test_a_stage_costs_by_the_model_that_it_has_and_not_by_the_first_of_the_file(tmp_path):
    small = load(QUICKSTART)
    wide = {"run": "pretrain", "from": "prepare", **section(small.stages["pretrain"]), "n_embd": 512}
    wide = {key: value for key, value in wide.items() if value is not None and key not in ("parent", "betas")}
    path = tmp_path / "two.yaml"
    stages = {"wide": wide, "out": {"run": "export", "from": "wide"}}
    path.write_text(yaml.safe_dump({"extends": str(QUICKSTART), "stages": stages}, sort_keys=False))
    both = load(path)
    assert both.architecture("export").width == 64 and both.architecture("eval_out").width == 512
    assert cost(both)[0] > 5 * cost(small)[0]


def test_no_code_outside_tokenizer_tells_conditions_apart():
    """Symmetry: a mode's or a condition's name as a string constant is an `if` waiting to happen."""
    names = {"token", "echo", "placebo", "plain", "mul_tokens", "mul_echo", "product_only", "baseline"}
    found = []
    for path in [
        *ROOT.glob("*.py"),
        *(p for d in ("pretrain", "sft", "rl", "eval") for p in (ROOT / d).glob("*.py")),
    ]:
        tree = ast.parse(path.read_text())
        schema = {
            id(n) for a in ast.walk(tree) if isinstance(a, ast.AnnAssign) for n in ast.walk(a.annotation)
        }
        for node in ast.walk(tree):
            compared = isinstance(node, (ast.Compare, ast.Dict, ast.Set, ast.match_case))
            for inner in ast.walk(node) if compared else ():
                if isinstance(inner, ast.Constant) and inner.value in names and id(inner) not in schema:
                    found.append(f"{path.relative_to(ROOT)}:{inner.lineno} {inner.value!r}")
            if (
                isinstance(node, ast.Attribute)
                and node.attr == "mode"
                and not isinstance(node.ctx, ast.Store)
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} .mode")
    assert not found, found


def test_no_code_outside_the_vocabularies_knows_a_fact():
    for path in [
        *ROOT.glob("*.py"),
        *(p for d in ("tokenizer", "pretrain", "sft", "rl", "eval") for p in (ROOT / d).glob("*.py")),
    ]:
        code = ast.unparse(_without_docstrings(ast.parse(path.read_text())))
        assert "<MUL_" not in code and "<SQ_" not in code, path


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value = ast.Constant("")
    return tree
