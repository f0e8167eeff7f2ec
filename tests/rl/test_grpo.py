import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

import finetuning
from eval import dev
from eval.tasks import gsm8k
from eval.tasks.task import read
from model import GPT
from pipeline import stage, world
from pipeline.errors import UserError, cli
from pipeline.experiment import load
from pipeline.rows import load_rows, split_dev
from pipeline.sections import Grpo
from rl import grpo, prompts, rewards, rollouts, trl_trainer
from tests import forks
from tokenizer import encode

SPEC = {
    "run": "grpo",
    "from": "base",
    "data": "sample",
    "rewards": "binary",
    "steps": 2,
    "batch_size": 4,
    "group_size": 2,
    "micro_batch": 4,
    "prompts": 5,
    "pass_at": 0,
    "max_new_tokens": 6,
    "temperature": 1.0,
    "lr": 1e-3,
    "schedule": "constant",
    "warmup": 0,
    "beta": 0.0,
    "loss": "dr_grpo",
    "precision": "fp32",
}


@pytest.fixture
def write(tmp_path):
    """write(stage=its changes to SPEC, …) → the experiment's file."""

    def file(mode="token", **stages):
        path = tmp_path / "small.yaml"
        (tmp_path / "model.safetensors").touch()  # the public weights; make_parent is what is made of them
        sections = {"base": {"run": "import", "base": str(tmp_path), "rows": "random"}}
        sections |= {name: SPEC | changes for name, changes in stages.items()}
        content = {"vocabulary": "multiplication", "tokenizer": {"base": 512}, "seeds": [0]}
        content |= {"conditions": {"arm": {"mode": mode}}, "stages": sections}
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return file


@pytest.fixture
def run(runs, write, monkeypatch):
    """run(**stages) → the directory of the last of them, trained from a random parent, or the parent's own.

    A completion's reward is how often it says `e`, so that groups differ.
    """
    monkeypatch.setitem(rewards.SETS, "binary", {"correct": lambda c: float(c.text.count("e"))})

    def train(**stages):
        path = write(**stages)
        with stage.begin("import", [path, "arm", "0"], None) as base:
            if base is not None:
                make_parent(base)
        for name in stages:
            grpo.main([path, "arm", "0", name])
        return runs / "small" / "arm-s0" / [*stages, "base"][max(0, len(stages) - 1)]

    return train


def make_parent(base):
    """A random model with dropout in its configuration, as public GPT-2 has it, that likes the pad best."""
    encoder = encode.for_run(base.experiment, base.condition)
    torch.manual_seed(0)
    shape = dict(vocab_size=encoder.size, n_layer=2, n_head=2, n_embd=32, n_positions=256)
    dropout = dict(resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
    model = GPT2LMHeadModel(GPT2Config(**shape, **dropout, eos_token_id=encoder.eos))
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[encoder.pad])
    model.save_pretrained(base.dir / "model")
    files = encode.save(encoder, base.dir / "model")
    base.finish([f"model/{name}" for name in ("model.safetensors", "config.json", *files)])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(directory):
    return json.loads((directory / "stage.json").read_text())["record"]


# --- the stage ----------------------------------------------------------------------------------------------


def test_every_completion_that_repeats_itself_is_counted_whatever_it_earns():
    looping, fine = ["we buy "] * 6, ["we ", "buy ", "pens"]
    groups = [([1], [looping, fine]), ([2], [fine, fine])]
    made = SimpleNamespace(encoder=SimpleNamespace(render="".join), groups=groups)
    assert rollouts.Rollouts.repeated(made) == 0.25


def test_training_raises_the_reward(run):
    directory = run(learn={"steps": 12, "batch_size": 32, "group_size": 8, "micro_batch": 16, "lr": 1e-2})
    metrics = lines(directory / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, 13))
    rewarded = [line["reward"] for line in metrics]
    assert sum(rewarded[-3:]) > 2 * sum(rewarded[:3])
    assert rewarded == [line["reward_correct"] for line in metrics]
    for key in (
        "loss",
        "lr",
        "grad_norm",
        "zero_variance",
        "repeated",
        "resampled",
        "clipped",
        "entropy",
        "length",
    ):
        assert all(line[key] is not None for line in metrics), key

    model = GPT.from_directory(directory / "model")
    encoder = encode.from_dir(directory / "model")
    assert model.config.vocab_size == encoder.size
    parent = GPT.from_directory(directory.parent / "base" / "model")
    assert not torch.equal(model.wte.weight, parent.wte.weight)
    samples = lines(directory / "samples.jsonl")
    assert len(samples) == 12 and len(samples[0]["completions"]) == 8
    assert samples[0]["prompt"].startswith("User: ") and samples[0]["prompt"].endswith("Assistant:")
    assert all(c["reward"] == c["text"].count("e") for s in samples for c in s["completions"])
    said = record(directory)
    assert said["examples"] == 12 * 32 and said["tokens"] > 12 * 32 * 6 and said["flops"] > 0
    assert not (directory / "checkpoints").exists()

    before = (directory / "stage.json").stat().st_mtime_ns
    grpo.main([str(directory.parents[2] / "../small.yaml"), "arm", "0", "learn"])
    assert (directory / "stage.json").stat().st_mtime_ns == before  # done already: skipped


def test_a_killed_run_goes_on_to_the_same_weights(run, monkeypatch, write):
    """Over more than one shuffle of the prompts, and with completions that serve two steps."""
    changes = {"steps": 6, "save_every": 2, "trainer": {"num_iterations": 2}}
    straight = run(straight=changes)
    show = grpo.GroupReport.show

    def die(self, step):
        show(self, step)
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(grpo.GroupReport, "show", die)
    with pytest.raises(KeyboardInterrupt):
        run(killed=changes)
    monkeypatch.setattr(grpo.GroupReport, "show", show)
    generated = []
    sample = rollouts.Rollouts.sample
    monkeypatch.setattr(rollouts.Rollouts, "sample", lambda *a: generated.append(a[3]) or sample(*a))
    killed = run(killed=changes)
    assert generated[0] == "step 4"  # and not from the start
    assert [line["step"] for line in lines(killed / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines(killed / "samples.jsonl")] == [1, 3, 5]
    tensors, others = (load_file(d / "model" / "model.safetensors") for d in (straight, killed))
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    for key in ("tokens", "sampled", "flops"):
        assert record(straight)[key] == record(killed)[key] > 0, key
    parent = load_file(straight.parent / "base" / "model" / "model.safetensors")
    assert not all(torch.equal(tensors[name], parent[name]) for name in tensors)


def test_looks_change_nothing_and_repeat_exactly_after_a_kill(run, monkeypatch):
    monkeypatch.setattr(dev, "PROBLEMS", 16)
    changes = {"steps": 6, "save_every": 2}
    straight = run(straight=changes)
    watched = run(watched=changes | {"eval_every": 2})
    tensors, others = (load_file(d / "model" / "model.safetensors") for d in (straight, watched))
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert lines(straight / "samples.jsonl") == lines(watched / "samples.jsonl")
    assert record(straight)["sampled"] == record(watched)["sampled"]
    look = dev.DevLooks.__call__

    def die(self, step):
        if metrics := look(self, step):
            self.run.log(step=step, **metrics)
        if step == 4:
            raise KeyboardInterrupt
        return {}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dev.DevLooks, "__call__", die)
        run(killed=changes | {"eval_every": 2})
    killed = run(killed=changes | {"eval_every": 2})
    logs = [[line for line in lines(d / "metrics.jsonl") if "dev_loss" in line] for d in (watched, killed)]
    for line in (*logs[0], *logs[1]):
        line.pop("seconds")
    assert logs[0] == logs[1] and [line["step"] for line in logs[0]] == [2, 4, 6]
    assert len({line["dev_loss"] for line in logs[0]}) == 3


def test_how_a_run_is_done_may_change_in_the_middle_of_it(run, monkeypatch):
    """Other micro-batches, checkpoints and dashboards: the same completions, and the weights but for rounding."""
    changes = {"steps": 4, "micro_batch": 4, "save_every": 2}
    straight = run(straight=changes)
    show = grpo.GroupReport.show

    def die(self, step):
        show(self, step)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grpo.GroupReport, "show", die)
        with pytest.raises(KeyboardInterrupt):
            run(changed=changes)
    told, saved = [], []
    monkeypatch.setattr(
        finetuning.training, "dashboards", lambda run, names, step: lambda line: told.append((names, line))
    )
    save = trl_trainer.GroupTrainer._save_checkpoint
    monkeypatch.setattr(
        trl_trainer.GroupTrainer,
        "_save_checkpoint",
        lambda self, *a: saved.append(self.state.global_step) or save(self, *a),
    )
    monkeypatch.setattr(dev, "PROBLEMS", 16)
    changed = {"micro_batch": 2, "save_every": 1, "report_to": "tensorboard", "eval_every": 3}
    directory = run(changed=changes | changed)
    assert saved == [3, 4] and [(names, line["step"]) for names, line in told] == [
        ("tensorboard", step) for step in (3, 3, 4, 4)
    ]
    assert ["dev_loss" in line for _, line in told] == [False, True, False, True]
    assert [line["step"] for line in lines(directory / "metrics.jsonl")] == [1, 2, 3, 3, 4, 4]
    completions = [
        [sample["completions"] for sample in lines(d / "samples.jsonl")] for d in (straight, directory)
    ]
    assert completions[0] == completions[1]
    rewards = [
        [line["reward"] for line in lines(d / "metrics.jsonl") if "reward" in line]
        for d in (straight, directory)
    ]
    assert rewards[0] == rewards[1]


def test_a_run_killed_behind_its_last_step_only_has_its_model_left_to_write(run, monkeypatch):
    changes = {"steps": 2, "save_every": 1}
    straight = run(straight=changes)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grpo.encode, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            run(killed=changes)
    monkeypatch.setattr(rollouts.Rollouts, "sample", None)  # nothing is sampled any more
    directory = run(killed=changes)
    tensors, others = (load_file(d / "model" / "model.safetensors") for d in (straight, directory))
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert record(straight)["flops"] == record(directory)["flops"]


def test_the_policy_that_is_trained_is_the_one_that_is_sampled(run, monkeypatch):
    """No dropout, no suppressed id, and the same probabilities for both."""
    trainers = []
    train = trl_trainer.GroupTrainer.train
    monkeypatch.setattr(
        trl_trainer.GroupTrainer,
        "train",
        lambda self, **kwargs: trainers.append(self) or train(self, **kwargs),
    )
    directory = run(grpo={"steps": 1, "batch_size": 16, "group_size": 8, "micro_batch": 16})
    trainer = trainers[0]
    encoder = encode.from_dir(directory / "model")

    prompt, group = trainer.rollouts.groups[0]
    assert not {i for ids in group for i in ids} & {encoder.pad, *encoder.suppressed}
    assert lines(directory / "metrics.jsonl")[0]["clipped"] > 0.5  # a pad at the end would count as an end
    trainer.model.train()
    ids = torch.tensor([prompt + group[0]])
    once, again = (
        trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), len(group[0]))[0]
        for _ in range(2)
    )
    assert torch.equal(once, again)


def test_equal_groups_are_sampled_once_more(run, monkeypatch):
    asked = []

    def scripted(self, prompts, samples, key, progress=None):
        asked.append((key, len(prompts)))
        text = ["e", "ee"] if key == "step 1 again" else ["e", "e"]
        return [[self.encoder.encode(t) for t in text] for _ in prompts]

    monkeypatch.setattr(rollouts.Rollouts, "sample", scripted)
    directory = run(grpo={})
    assert asked == [("step 0", 2), ("step 0 again", 2), ("step 1", 2), ("step 1 again", 2)]
    shares = [(line["resampled"], line["zero_variance"]) for line in lines(directory / "metrics.jsonl")]
    assert shares == [(1, 1), (1, 0)]


def test_terms_are_logged_each_under_its_name(run, monkeypatch):
    monkeypatch.setitem(rewards.SETS, "binary", {"correct": lambda c: 1.0, "partial": lambda c: 0.25})
    line = lines(run(grpo={"steps": 1}) / "metrics.jsonl")[0]
    assert (line["reward_correct"], line["reward_partial"], line["reward"]) == (1.0, 0.25, 1.25)


def test_rewards_see_rendered_ids_and_not_trls_text():
    encoder = encode.Encoder(encode.Condition("arm", "token", "multiplication", 512))
    seen = []
    terms = {"correct": lambda c: seen.append(c) or 1.0, "format": lambda c: 0.5}
    functions = grpo.reward_functions(encoder, terms)
    ids = [[encoder.fact_ids[38], encoder.eos], encoder.encode(" 7")]
    kwargs = dict(prompts=None, completions=["<MUL_6_9_54>", "7"], gold=["54", "7"])
    assert functions[0](completion_ids=ids, **kwargs) == [1.0, 1.0]
    assert seen == [("6 * 9 = 54", True, "54", 1), (" 7", False, "7", 0)]
    assert [f.__name__ for f in functions] == ["correct", "format"]


# --- prompts ------------------------------------------------------------------------------------------------


def test_prompts_are_those_that_the_parent_solves_sometimes(run, monkeypatch):
    """Nine candidates, of which three are solved never, three in half of the samples, three always."""
    used = []

    def scripted(self, prompts, samples, key, progress=None):
        if key != "pass_at":
            used.extend(map(tuple, prompts))
            return [[self.encoder.encode("e"), self.encoder.encode("no")] for _ in prompts]
        return [
            [self.encoder.encode("e" if n < i % 3 * samples // 2 else "no") for n in range(samples)]
            for i in range(len(prompts))
        ]

    monkeypatch.setattr(rollouts.Rollouts, "sample", scripted)
    directory = run(grpo={"prompts": 9, "pass_at": 4, "steps": 3})
    solved = json.loads((directory / "prompts.json").read_text())
    assert sorted(solved.values()) == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    counts = record(directory)["prompts"]
    assert (counts["drawn"], counts["kept"], counts["never solved"], counts["always solved"]) == (9, 3, 3, 3)

    encoder = encode.from_dir(directory / "model")
    train, dev = (read(gsm8k.TASK, part)[0] for part in split_dev(load_rows("sample", gsm8k.FORMAT, "train")))
    asked = {tuple(p.prompt(encoder)): p.id for p in train}
    assert {asked[prompt] for prompt in used} == {id for id, n in solved.items() if n == 2}
    assert not set(solved) & {p.id for p in dev}
    assert max(map(used.count, used)) == 2  # six places for three prompts


def test_rows_that_cannot_be_used_are_counted_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    rows = [{"question": f"What is 6 * {i}?", "answer": f"#### {6 * i}"} for i in range(600)]
    rows += [
        {"question": 5, "answer": "#### 5"},
        {"question": "A?", "answer": None},
        {"question": "B?", "answer": "b"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = Grpo(**SPEC)
    spec.data = "a.jsonl"
    asked = SimpleNamespace(spec=spec, seed=0, name="grpo", experiment=_experiment("bpe"))
    encoder = encode.Encoder(encode.Condition("arm", "token", "multiplication", 512))
    used, counts = prompts.choose(asked, encoder, 256, None)
    assert len(used) == counts["drawn"] == 5
    reasons = ("'question' is a number, not text", "'answer' is null, not text")
    assert all(counts[f"rows whose {reason}"] == 1 for reason in reasons)
    assert "1 rows whose 'answer' is null, not text" in capsys.readouterr().err


def _experiment(*splits):
    conditions = {split: SimpleNamespace(numbers=split) for split in splits}
    return SimpleNamespace(path="x.yaml", conditions=conditions)


def test_every_condition_draws_the_same_prompts(tmp_path, monkeypatch):
    """Of numbers that GPT-2 writes in fewer tokens than there are digits."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    rows = [{"question": f"{i}?" + " 1000" * (i % 40), "answer": f"#### {i}"} for i in range(600)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = Grpo(**SPEC | {"data": "a.jsonl", "prompts": 100})
    run = SimpleNamespace(spec=spec, seed=0, name="grpo", experiment=_experiment("bpe", "digits"))
    used = {}
    for split in run.experiment.conditions:
        encoder = encode.Encoder(encode.Condition("arm", "plain", "multiplication", 1024, numbers=split))
        problems, counts = prompts.choose(run, encoder, 128, None)
        used[split] = [problem["gold"] for problem in problems], counts
    assert used["bpe"] == used["digits"] and used["bpe"][1]["too long"] > 0


def test_every_seed_draws_prompts_of_its_own_corpus():
    encoder = encode.Encoder(encode.Condition("arm", "plain", "multiplication", 1024))
    golds, dev = {}, split_dev(load_rows("sample", gsm8k.FORMAT, "train"))[1]
    watched = {tuple(p.prompt(encoder)) for p in read(gsm8k.TASK, dev)[0]}
    for corpus, seed in (("shared", 0), ("seed", 0), ("seed", 1)):
        spec = Grpo(**SPEC | {"corpus": corpus, "prompts": 10_000})
        run = SimpleNamespace(spec=spec, seed=seed, name="grpo", experiment=_experiment("bpe"))
        golds[corpus, seed] = {tuple(p["prompt"]) for p in prompts.choose(run, encoder, 256, None)[0]}
        assert len(golds[corpus, seed]) > 5000 and not golds[corpus, seed] & watched
    shared, *own = golds.values()
    assert len(own[0] & own[1]) < len(shared) / 3 and len(shared & own[0]) < len(shared) / 3


def test_too_few_useful_prompts_are_made_up_for_and_said(run, monkeypatch, capsys):
    monkeypatch.setitem(rewards.SETS, "binary", {"correct": lambda c: 0.0})
    directory = run(grpo={"pass_at": 2, "steps": 1})
    counts = record(directory)["prompts"]
    assert (counts["kept"], counts["never solved"], counts["used all the same"]) == (0, 5, 2)
    assert "2 used all the same" in capsys.readouterr().err


def test_prompts_that_do_not_fit_are_left_out_and_counted(run):
    directory = run(grpo={"steps": 1, "prompts": 40, "max_new_tokens": 170})
    counts = record(directory)["prompts"]
    assert 0 < counts["too long"] == counts["drawn"] - counts["kept"] < 40
    with pytest.raises(UserError, match="stages.long.prompts: a step takes 2, and of 5 drawn 0 fit"):
        run(long={"max_new_tokens": 250})


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 5}, "batch_size: 5 completions are not whole groups"),
        ({"pass_at": 1}, "pass_at: one sample"),
        ({"save_every": 3, "trainer": {"num_iterations": 2}}, "save_every: 3 is not a multiple"),
    ],
)
def test_the_file_is_refused(write, changes, message):
    with pytest.raises(UserError, match=f"small.yaml: stages.grpo.{message}"):
        load(write(grpo=changes))


SFT = {
    "run": "sft", "from": "base", "task": "tinygsm", "data": "sample", "answer_format": "program", "examples": 8,
    "batch_size": 8, "micro_batch": 8, "max_length": 64, "lr": 1e-3, "schedule": "constant", "warmup": 0,
    "weight_decay": 0.0, "precision": "fp32",
}  # fmt: skip
PHASES = [{"task": task, "data": "sample", "examples": 8} for task in ("gsm8k", "tinygsm")]
CURRICULUM = SFT | {"task": "curriculum", "data": None, "examples": None}


@pytest.mark.parametrize(
    "sft, refused",
    [
        (SFT, True),
        (SFT | {"answer_format": "trace"}, False),
        (CURRICULUM | {"phases": PHASES}, True),
        (CURRICULUM | {"phases": PHASES[::-1]}, False),
    ],
)
def test_a_stage_that_answers_in_programs_is_refused_however_far_above(write, sft, refused):
    """Nothing runs a rollout, so none could earn a reward."""
    chat = SFT | {"task": "tulu", "from": "sft", "answer_format": "trace"}
    for between in ({}, {"chat": chat}, {"first": SPEC | {"from": "sft"}}):
        path = Path(write())
        content = yaml.safe_load(path.read_text())
        content["stages"] |= {"sft": sft, **between}
        content["stages"]["grpo"] = SPEC | {"from": list(content["stages"])[-1]}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        message = r"stages.(first|grpo).from: '\w+' answers in programs"
        with pytest.raises(UserError, match=message) if refused else contextlib.nullcontext():
            load(path)


@pytest.mark.parametrize("mode", ["placebo", "value"])
def test_a_fact_bonus_is_refused_where_facts_cannot_be_read_back(write, mode):
    with pytest.raises(UserError, match="stages.grpo.fact_bonus: condition 'arm'"):
        load(write(mode, grpo={"fact_bonus": 0.1}))
    load(write(mode, grpo={"fact_bonus": 0.0}))


@pytest.mark.parametrize("mode", ["plain", "token", "echo"])
def test_a_fact_bonus_is_allowed_elsewhere(write, mode):
    load(write(mode, grpo={"fact_bonus": 0.1}))


@pytest.mark.parametrize(
    "trainer, message",
    [
        ({"top_k": 5}, "trainer.top_k: is set by the stage"),
        ({"disable_dropout": False}, "trainer.disable_dropout: is set by the stage"),
        ({"epsilonn": 0.1}, "trainer: TRL refuses: .*'epsilonn'"),
    ],
)
def test_a_field_of_trls_is_refused_before_anything_is_sampled(run, monkeypatch, trainer, message):
    monkeypatch.setattr(rollouts.Rollouts, "sample", None)
    with pytest.raises(UserError, match=f"small.yaml: stages.grpo.{message}"):
        run(grpo={"trainer": trainer, "pass_at": 2})


def test_every_setting_of_the_objective_is_written_out(run):
    """What TRL would decide by itself: change a default of it, and nothing that is trained may change."""
    import dataclasses

    import transformers
    from trl import GRPOConfig

    spec = SimpleNamespace(**SPEC, save_every=0)
    written = {*trl_trainer.settings(spec, 0, "x"), *trl_trainer.free(spec)}
    silent = {field.name for field in dataclasses.fields(GRPOConfig)} - written
    silent -= {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    other = (
        "vllm sapo vespo entropy_coef_ entropy_target log_ num_completions ref_model_ num_generations_eval"
    )
    other += " tool_calling cache_implementation chat_template generation_ model_init trust_remote router_aux"
    other += " ds3_ pad_to_multiple transformers_"  # where and how, or terms that are switched off
    assert {name for name in silent if not any(word in name for word in other.split())} == set()
    assert "max_grad_norm" in written


@pytest.mark.parametrize(
    "processes, used, micro_batch, passes", [(1, 1, 8, 4), (2, 2, 8, 2), (4, 2, 8, 2), (8, 2, 8, 2)]
)
def test_groups_are_shared_out_whole(monkeypatch, processes, used, micro_batch, passes):
    spec = SimpleNamespace(batch_size=32, group_size=16, micro_batch=15)
    assert grpo.usable(spec, processes) == used
    monkeypatch.setattr(world, "WORLD", used)
    assert finetuning.split(spec.batch_size, spec.micro_batch) == (micro_batch, passes)


def test_processes_without_a_group_of_their_own_end_at_once(run, write, tmp_path):
    """Three are started for a step of two groups."""
    directory = run().parent / "shared"
    path = write(shared={"steps": 2, "pass_at": 2, "eval_every": 2})
    ranks = forks.launch(grpo.main, 3, [path, "arm", "0", "shared"], tmp_path / "logs")
    codes, log = forks.finish(ranks), (tmp_path / "logs/rank0.log").read_text()
    assert codes == [0, 0, 0], log
    assert "stages.shared.batch_size: feeds 2 of 3 processes evenly; the others end" in log
    assert record(directory)["world_size"] == 2
    *steps, look = lines(directory / "metrics.jsonl")
    assert [line["step"] for line in (*steps, look)] == [1, 2, 2]
    assert (
        look["dev_problems"] == 200
        and {"dev_loss", "dev_accuracy", "dev_pass@1", "dev_pass@2"} <= look.keys()
    )


def test_out_of_memory_is_one_line_that_names_what_fits(run, monkeypatch):
    score = trl_trainer.GroupTrainer._get_per_token_logps_and_entropies

    def full(self, model, ids, *args, **kwargs):
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return score(self, model, ids, *args, **kwargs)

    monkeypatch.setattr(trl_trainer.GroupTrainer, "_get_per_token_logps_and_entropies", full)
    with pytest.raises(
        UserError, match="stages.grpo.micro_batch: 8 completions .* 2 would fit; set micro_batch: 2 "
    ):
        run(grpo={"batch_size": 8, "group_size": 4, "micro_batch": 8})


def test_one_decoder_samples_every_step(run, monkeypatch):
    decoders = []
    generate = rollouts.Decoder.generate
    monkeypatch.setattr(
        rollouts.Decoder, "generate", lambda self, *a, **k: decoders.append(self) or generate(self, *a, **k)
    )
    run(grpo={"steps": 3, "pass_at": 2, "lr": 1e-2})
    first, *steps = decoders  # the one that chose the prompts took as much memory as there was
    assert len(steps) >= 3 and len(set(map(id, steps))) == 1 and steps[0] is not first


def test_a_diverged_run_stops_with_a_remedy(run):
    with pytest.raises(UserError, match="stages.grpo.lr: .* lower it|its weights are broken"):
        run(grpo={"lr": 1e30, "steps": 8})


def test_an_unfinished_parent_is_one_line(write, runs, capsys):
    with pytest.raises(SystemExit) as ended:
        cli(lambda: grpo.main([write(grpo={}), "arm", "0", "grpo"]))
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.count("\n") == 1 and "'base' is not finished" in message
