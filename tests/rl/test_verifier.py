"""A verifier learns from its own arm's labelled solutions, from nothing held apart, and ranks by what it learnt."""

import json
import random
import re
import time
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2ForTokenClassification, GPT2LMHeadModel, TrainingArguments

from eval.rerank import Reranker
from eval.tasks import arithmetic, gsm8k
from eval.tasks.task import load as load_items
from pipeline import stage
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.rows import load_rows
from pipeline.sections import Verifier
from rl import prompts, solutions, verifier, verifier_trainer
from rl.solutions import Solution
from tests import forks
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.conditions import Condition

CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="exact on CPUs")
SFT = {
    "run": "sft", "from": "base", "task": "gsm8k", "data": "sample", "examples": 8, "batch_size": 8,
    "micro_batch": 8, "max_length": 200, "lr": 1e-3, "schedule": "constant", "warmup": 0, "weight_decay": 0.0,
    "precision": "fp32",
}  # fmt: skip
SPEC = {
    "run": "verifier", "from": "writer", "data": "products.jsonl", "problems": 40, "samples": 8,
    "temperature": 1.0, "max_new_tokens": 16, "examples": 48, "lm_weight": 0.5, "batch_size": 8,
    "micro_batch": 4, "lr": 1e-3, "schedule": "cosine", "warmup": 1, "weight_decay": 0.1, "precision": "fp32",
}  # fmt: skip
PRODUCTS = [(box, a, 6) for box in range(240) for a in (2, 3, 4)]  # 500 are dev rows


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(stage=its changes to SPEC, …) → the experiment's file, on a file of products."""
    rows = [
        {"question": f"Box {box}: what is {a} * {b}?", "answer": f"#### {a * b}"} for box, a, b in PRODUCTS
    ]
    (tmp_path / "products.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "model.safetensors").touch()  # the public weights; make_model is what is made of them
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def file(mode="token", sets=None, **stages):
        sections = {"base": {"run": "import", "base": str(tmp_path), "rows": "random"}}
        sections |= {"writer": SFT, "other": SFT, "late": SFT}
        sections |= {name: SPEC | changes for name, changes in stages.items()}
        content = {"vocabulary": "multiplication", "tokenizer": {"base": 512}, "seeds": [0]}
        content |= {"conditions": {"arm": {"mode": mode}}, "stages": sections}
        if sets:
            asked = {"sets": sets, "max_new_tokens": 16, "batch_size": 8, "precision": "fp32"}
            content["eval"] = asked
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return file


@pytest.fixture
def run(runs, write):
    """run(**stages) → the directory of the last of them, behind random generators."""

    def train(mode="token", sets=None, **stages):
        path = write(mode, sets, **stages)
        for name, seed in {"base": 0, "writer": 1, "other": 2, "late": 3}.items():
            with stage.begin("sft" if seed else "import", [path, "arm", "0", name], None) as begun:
                if begun is not None:
                    make_model(begun, seed)
        for name in stages:
            verifier.main([path, "arm", "0", name])
        return runs / "small" / "arm-s0" / name

    return train


def make_model(begun, seed):
    encoder = encode.for_run(begun.experiment, begun.condition)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=encoder.size, n_layer=2, n_head=4, n_embd=32, n_positions=96, initializer_range=0.15
    )
    GPT2LMHeadModel(config).save_pretrained(begun.dir / "model")
    files = encode.save(encoder, begun.dir / "model")
    begun.finish([f"model/{name}" for name in ("model.safetensors", "config.json", *files)])


@pytest.fixture
def scripted(monkeypatch):
    """Generators that write the product, every other time with one number changed."""

    def generate(self, asked, limit, *, samples, keys, progress, **kwargs):
        encoder = encode.Encoder(Condition("arm", "token", "multiplication", 512))
        groups = []
        for prompt, key in zip(asked, keys):
            chance = random.Random(key)
            a, b = map(int, re.findall(r"\d+", encoder.render(prompt))[-2:])
            answers = [answer(a, b, wrong=n % 2, chance=chance) for n in range(samples)]
            groups.append([[*encoder.encode_facts(text), encoder.eos] for text in answers])
            progress(samples)
        return groups if samples > 1 else [group[0] for group in groups]

    monkeypatch.setattr(solutions.Decoder, "generate", generate)


def answer(a, b, wrong, chance):
    value = a * b
    while wrong and value == a * b:
        value = chance.randint(2, 4) * b
    form = chance.choice((" {a} * {b} is {v}", " It is {v}"))
    return form.format(a=a, b=b, v=value) + f"\n#### {value}"


def record(directory):
    return json.loads((directory / "stage.json").read_text())["record"]


def lines(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def weights(directory):
    return load_file(directory / "model/model.safetensors")


# --- the loss -------------------------------------------------------------------------------------------------


def small_trainer(tmp_path, rows, **changes):
    spec = Verifier(**SPEC | changes)
    encoder = encode.Encoder(Condition("arm", "token", "multiplication", 512))
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=encoder.size, n_layer=2, n_head=2, n_embd=32, n_positions=64, num_labels=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    config = TrainingArguments(**verifier_trainer.settings(spec, 0, tmp_path), **verifier_trainer.FREE)
    model = verifier_trainer.load(tmp_path / "model")
    with torch.no_grad():
        model.classifier.weight.normal_()
    order = np.arange(len(rows))
    return verifier_trainer.build(model, encoder, rows, order, spec, config), encoder


def some_solutions(count, seed=0):
    chance = np.random.default_rng(seed)
    sizes = [(int(chance.integers(3, 9)), int(chance.integers(2, 12))) for _ in range(count)]
    return [
        Solution(str(i), chance.integers(0, 512, start + more).astype(np.int32), start, bool(i % 3))
        for i, (start, more) in enumerate(sizes)
    ]


@pytest.mark.parametrize("lm_weight", [0.0, 0.5])
def test_the_loss_is_cross_entropy_on_every_solution_token_and_the_language_models(tmp_path, lm_weight):
    """Against transformers' own forward passes over each row by itself, in one micro-batch and in several."""
    rows = some_solutions(8)
    trainer, _ = small_trainer(tmp_path, rows, lm_weight=lm_weight)
    expected, tokens = 0.0, 0
    reference = GPT2ForTokenClassification(trainer.model.config).eval()
    reference.load_state_dict(trainer.model.state_dict())
    language_model = GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    for row in rows:
        ids = torch.tensor(row.ids).long()[None]
        scores = reference(ids).logits[0, row.start :, 0]
        expected += F.binary_cross_entropy_with_logits(
            scores, torch.full_like(scores, float(row.right)), reduction="sum"
        )
        labels = ids.clone()
        labels[0, : row.start] = IGNORE
        tokens += (more := len(row.ids) - row.start)
        expected += lm_weight * language_model(ids, labels=labels).loss * more
    losses = []
    trainer.report = lambda step, metrics: losses.append(metrics["loss"])
    trainer.train()
    assert trainer.args.gradient_accumulation_steps == 2
    assert losses == [pytest.approx(expected.item() / tokens, rel=1e-4)]


def test_a_first_score_says_nothing(tmp_path):
    some_rows = some_solutions(2)
    small_trainer(tmp_path, some_rows)
    model = verifier_trainer.load(tmp_path / "model").eval()
    assert not model(torch.tensor(some_rows[0].ids).long()[None]).logits.any()
    assert model.dropout.p == 0.0 and model.config.activation_function == "gelu_new"


def test_pads_and_prompts_carry_no_label(tmp_path):
    rows = some_solutions(4)
    trainer, encoder = small_trainer(tmp_path, rows)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows):
        assert ids.tolist() == row.ids.tolist() + [encoder.pad] * (len(ids) - len(row.ids))
        own = [int(row.right)] * (len(row.ids) - row.start)
        assert labels.tolist() == [IGNORE] * row.start + own + [IGNORE] * (len(ids) - len(row.ids))


# --- the samples ----------------------------------------------------------------------------------------------


def test_samples_are_kept_labelled_once_each_and_balanced(run, scripted, capsys):
    directory = run(sort={"samples": 8, "problems": 30})
    table = pq.read_table(directory / "samples.parquet")
    rows = table.to_pylist()
    keys = [(row["id"], tuple(row["completion"])) for row in rows]
    assert len(set(keys)) == len(keys) < 30 * 8 == sum(row["times"] for row in rows)
    encoder = encode.from_dir(directory / "model")
    train = {item.id: item for item in all_problems("train")}
    for row in rows:
        item = train[row["id"]]
        assert row["prompt"] == item.prompt(encoder) and row["text"] == encoder.render(row["completion"])
        assert row["right"] == gsm8k.grade(row["text"], item.gold)["correct"]
    for id in {row["id"] for row in rows}:
        used = [row["right"] for row in rows if row["id"] == id and row["used"]]
        right = [row["right"] for row in rows if row["id"] == id]
        assert sum(used) * 2 == len(used) and sum(used) == min(sum(right), len(right) - sum(right)) > 0
    counts = record(directory)["samples"]
    assert counts["drawn"] == counts["problems"] == 30 and counts["of them never solved"] == 0
    assert counts["used"] == sum(row["used"] for row in rows)
    assert counts["sampled"] == 240 and counts["right"] + counts["wrong"] == len(rows)
    assert "stages.sort.samples: " in capsys.readouterr().err
    said = record(directory)
    assert said["examples"] == 48 and said["steps"] == 6 and said["flops"] > 0
    assert said["sampled"] == sum(len(row["completion"]) * row["times"] for row in rows)
    assert not (directory / "samples").exists() and not (directory / "checkpoints").exists()


def all_problems(split):
    if split == "train":
        spec = SimpleNamespace(data="products.jsonl", name=None, corpus="shared", max_new_tokens=1)
        encoder = encode.Encoder(Condition("arm", "token", "multiplication", 512))
        experiment = SimpleNamespace(conditions={"arm": SimpleNamespace(numbers="bpe")})
        return prompts.draw(SimpleNamespace(spec=spec, seed=0, experiment=experiment), encoder, 64, None)[0]
    return load_items(gsm8k.TASK, "products.jsonl", split)[0]


def test_several_generators_share_the_samples_and_another_stage_gives_the_weights(run, scripted, monkeypatch):
    started = []
    fit = verifier_trainer.fit
    monkeypatch.setattr(verifier_trainer, "fit", lambda *a: started.append(a[3]) or fit(*a))
    directory = run(both={"generators": ["writer", "other"], "init": "base", "samples": 4})
    assert started == [directory.parent / "base/model"]
    identity = json.loads((directory / "stage.json").read_text())["identity"]
    assert set(identity["reads"]) == {"writer", "other", "base"}
    table = pq.read_table(directory / "samples.parquet").to_pylist()
    assert {row["generator"] for row in table} == {"writer", "other"}
    assert sum(row["times"] for row in table) == 4 * 40


def test_a_generator_that_was_made_again_leaves_the_verifier_stale(run, scripted, write, runs):
    from pipeline.status import state

    directory = run(both={"generators": ["writer", "other"]})
    experiment = load(directory.parents[2] / "../small.yaml")
    assert state(experiment, "arm", 0, "both")[0] == "done"
    with stage.begin("sft", [experiment.path, "arm", "0", "other", "--overwrite"], None) as begun:
        make_model(begun, 9)
    assert "reads.other" in state(experiment, "arm", 0, "both")[1]
    with pytest.raises(UserError, match=r"made otherwise \(reads.other"):
        verifier.main([experiment.path, "arm", "0", "both"])


def test_programs_are_labelled_by_running_them(run, monkeypatch):
    codes = [" def simple_math_problem():\n    return {}", " def f():\n    return {} + 1", " def f(:{}"]

    def generate(self, asked, limit, *, progress, **kwargs):
        encoder = encode.Encoder(Condition("arm", "token", "multiplication", 512))
        asks = [re.findall(r"\d+", encoder.render(prompt))[-2:] for prompt in asked]
        return [[encoder.encode(c.format(f"{a} * {b}")) + [encoder.eos] for c in codes] for a, b in asks]

    monkeypatch.setattr(solutions.Decoder, "generate", generate)
    directory = run(code={"samples": 3, "problems": 4, "max_new_tokens": 40})
    rows = pq.read_table(directory / "samples.parquet").to_pylist()
    assert [row["right"] for row in rows] == [True, False, False] * 4


def test_one_sort_of_solutions_alone_is_refused(run, scripted, monkeypatch):
    monkeypatch.setattr(verifier_trainer, "fit", None)
    monkeypatch.setattr(solutions, "run_programs", lambda rows: [row.update(correct=False) for row in rows])
    with pytest.raises(UserError, match="stages.never.samples: all different solutions .* generators longer"):
        run(never={})


# --- what it may not see --------------------------------------------------------------------------------------


def test_no_dev_or_test_question_is_ever_sampled_or_trained_on(run, scripted):
    rows = [{"question": f"What is {a} + {b}?", "answer": f"#### {a + b}"} for _, a, b in PRODUCTS[:9]]
    (directory_of_data() / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = {
        "dev": {"task": "gsm8k", "data": "products.jsonl", "split": "dev"},
        "sums": {"task": "gsm8k", "data": "sums.jsonl", "split": "test"},
    }
    directory = run(sets=sets, whole={"problems": None, "samples": 2})
    asked = set(pq.read_table(directory / "samples.parquet")["id"].to_pylist())
    dev = {item.id for item in all_problems("dev")}
    assert len(dev) == 500 and len(asked) == len(PRODUCTS) - 500 and not asked & dev


def directory_of_data():
    from pipeline.files import data_dir

    return data_dir()


def test_a_test_question_among_the_training_rows_is_left_out_and_counted(run, scripted, capsys):
    leak = all_problems("train")[:3]
    directory = run(sets=set_of(leak), leaky={"problems": None, "samples": 2})
    asked = set(pq.read_table(directory / "samples.parquet")["id"].to_pylist())
    assert len(asked) == len(PRODUCTS) - 500 - 3 and not asked & {each.id for each in leak}
    assert record(directory)["samples"]["left out because of eval.sets.leak"] == 3
    assert "3 left out because of eval.sets.leak" in capsys.readouterr().err


def set_of(problems):
    rows = [{"question": each.question, "answer": f"#### {each.gold}"} for each in problems]
    (directory_of_data() / "leak.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"leak": {"task": "gsm8k", "data": "leak.jsonl", "split": "test"}}


def test_test_questions_alone_are_refused_before_any_sampling(run, monkeypatch):
    monkeypatch.setattr(solutions.Decoder, "generate", None)
    with pytest.raises(UserError, match="stages.leaky.data: all 220 problems .* are of eval.sets.leak"):
        run(sets=set_of(all_problems("train")), leaky={"problems": None})


def test_a_grid_whose_small_sums_are_in_every_split_has_a_verifier(write, runs):
    sets = {"sums": {"task": "arithmetic", "data": "sample", "split": "test"}}
    grid = {"data": "sample", "name": "arithmetic", "problems": None}
    experiment = load(write(sets=sets, grid=grid))
    run = SimpleNamespace(spec=experiment.stages["grid"], name="grid", seed=0, experiment=experiment)
    left, counts = solutions.problems(run, encode.for_run(experiment, "arm"), 96)
    assert 0 < counts["left out because of eval.sets.sums"] == counts["drawn"] - len(left)
    assert not {each.id for each in left} & {
        each.id for each in load_items(arithmetic.TASK, "sample", "test")[0]
    }


def test_a_dev_question_is_known_by_its_hash_wherever_it_came_from(run, scripted, monkeypatch):
    """Should the rows ever be cut otherwise, none is sampled; should samples of one come in, nothing is trained."""
    everything = list(load_rows("products.jsonl", gsm8k.FORMAT, "train"))
    monkeypatch.setattr(prompts, "training_rows", lambda *args, **kwargs: everything)
    directory = run(cut={"problems": None, "samples": 2})
    assert record(directory)["samples"]["left out because of the dev rows"] == 500
    monkeypatch.setattr(verifier_trainer, "fit", None)
    draw = prompts.draw
    monkeypatch.setattr(solutions, "problems", lambda run, *a: draw(run, *a, None))
    with pytest.raises(UserError, match=r"stages.late_leak.data: \d+ of its problems are of the dev rows"):
        run(late_leak={})


# --- what it learns -------------------------------------------------------------------------------------------

LEARN = {"problems": None, "samples": 8, "examples": 6400, "batch_size": 32, "micro_batch": 32, "lr": 5e-3,
         "lm_weight": 0.1, "warmup": 10}  # fmt: skip


def scored(directory, chance, k=8):
    """(score, right) of k samples of each training problem, whose wrong ones are mostly new."""
    encoder = encode.from_dir(directory / "model")
    reranker = Reranker.from_directory(directory / "model", encoder)
    groups = []
    for item in all_problems("train"):
        a, b = map(int, re.findall(r"\d+", item.question)[-2:])
        texts = [answer(a, b, wrong=chance.random() < 0.5, chance=chance) for _ in range(k)]
        completions = [[*encoder.encode_facts(text), encoder.eos] for text in texts]
        scores = reranker.scores([item.prompt(encoder)] * k, completions)
        groups.append([(s, gsm8k.grade(t, item.gold)["correct"]) for s, t in zip(scores, texts)])
    return groups


def gain(groups):
    """Accuracy of the best-scored sample less the mean of samples, and its standard error with no gain."""
    best = np.array([max(group)[1] for group in groups])
    means = np.array([np.mean([right for _, right in group]) for group in groups])
    return (best - means).mean(), np.sqrt((means * (1 - means)).sum()) / len(groups)


def test_a_right_solution_outscores_its_copy_with_one_number_changed(run, scripted):
    groups = scored(run(learn=LEARN), random.Random(5))
    pairs = [(x > y) for group in groups for x, r in group for y, w in group if r and not w]
    assert len(pairs) > 500 and np.mean(pairs) > 0.6
    more, error = gain(groups)
    assert more > 4 * error


def test_on_shuffled_labels_its_choice_is_no_better_than_any(run, scripted, monkeypatch):
    to_solutions = solutions.to_solutions

    def shuffled(table):
        rows = to_solutions(table)
        labels = [row.right for row in rows]
        random.Random(0).shuffle(labels)
        return [row._replace(right=label) for row, label in zip(rows, labels)]

    monkeypatch.setattr(solutions, "to_solutions", shuffled)
    more, error = gain(scored(run(shuffled=LEARN), random.Random(5)))
    assert abs(more) < 4 * error


def by_letter(rows):
    """A label that random models come by."""
    for row in rows:
        row["correct"] = "e" in row["completion"]


# --- memory and processes ------------------------------------------------------------------------------------


def test_out_of_memory_is_one_line_that_names_what_fits(run, scripted, monkeypatch):
    loss = verifier_trainer.summed_loss

    def full(self, input_ids, labels):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss(self, input_ids, labels)

    monkeypatch.setattr(verifier_trainer, "summed_loss", full)
    message = "stages.big.micro_batch: 8 solutions .* 2 would fit; set micro_batch: 2 "
    with pytest.raises(UserError, match=message):
        run(big={"micro_batch": 8})


@pytest.mark.parametrize(
    "trainer, message",
    [
        ({"learning_rate": 1e-3}, "trainer.learning_rate: is set by the stage"),
        ({"optimm": "adam"}, "trainer: transformers refuses: .*'optimm'"),
    ],
)
def test_a_field_of_transformers_is_refused_before_anything_is_sampled(run, monkeypatch, trainer, message):
    monkeypatch.setattr(solutions.Decoder, "generate", None)
    with pytest.raises(UserError, match=f"stages.odd.{message}"):
        run(odd={"trainer": trainer})


@CPU
def test_two_processes_sample_and_train_the_same(run, write, runs, monkeypatch, tmp_path):
    changes = {"samples": 16, "problems": 24, "max_new_tokens": 12}
    monkeypatch.setattr(solutions, "run_programs", by_letter)
    monkeypatch.setattr(solutions, "ROWS", 128)
    alone = run(alone=changes)
    path = write(alone=changes, shared=changes)
    ranks = forks.launch(verifier.main, 2, [path, "arm", "0", "shared"], tmp_path / "logs")
    assert forks.finish(ranks) == [0, 0], (tmp_path / "logs/rank0.log").read_text()
    shared = runs / "small/arm-s0/shared"
    assert record(shared)["world_size"] == 2
    first, second = (pq.read_table(d / "samples.parquet") for d in (alone, shared))
    assert first.equals(second)
    losses = [[line["loss"] for line in lines(d)] for d in (alone, shared)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# --- going on -------------------------------------------------------------------------------------------------


@CPU
def test_killed_in_sampling_and_again_in_training_it_ends_in_the_same_samples_and_weights(
    run, write, runs, monkeypatch, tmp_path
):
    """By SIGKILL, from outside."""
    changes = {"samples": 64, "problems": 12, "max_new_tokens": 12, "examples": 96, "save_every": 2}
    monkeypatch.setattr(solutions, "ROWS", 128)
    monkeypatch.setattr(solutions, "run_programs", by_letter)
    undisturbed = run(straight=changes)
    path = write(straight=changes, killed=changes)
    killed = runs / "small/arm-s0/killed"
    for there in (
        lambda: list(killed.glob("samples/*.parquet")),
        lambda: list(killed.glob("checkpoints/*/sha256.json")),
    ):
        process = forks.start(verifier.main, [path, "arm", "0", "killed"], tmp_path / "log")
        while not there():
            assert process.is_alive(), (tmp_path / "log").read_text()
            time.sleep(0.01)
        process.kill()
        process.join()
        assert not (killed / "stage.json").exists()
    verifier.main([path, "arm", "0", "killed"])
    first, second = (pq.read_table(d / "samples.parquet") for d in (undisturbed, killed))
    assert first.equals(second)
    one, other = weights(undisturbed), weights(killed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines(undisturbed) == lines(killed)


# --- watched --------------------------------------------------------------------------------------------------


@CPU
def test_looks_at_dev_solutions_change_nothing(run, scripted, monkeypatch, capsys):
    straight = run(straight={})
    looked_at, watched = [], solutions.watched
    monkeypatch.setattr(solutions, "watched", lambda *args: looked_at.append(watched(*args)) or looked_at[-1])
    directory = run(watched={"eval_every": 4})
    assert "stages.watched.eval_every: looks at" in capsys.readouterr().err
    one, other = weights(straight), weights(directory)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert pq.read_table(straight / "samples.parquet").equals(pq.read_table(directory / "samples.parquet"))
    looks = [line for line in lines(directory) if "dev_verified" in line]
    assert [line for line in lines(directory) if line not in looks] == lines(straight)
    assert [line["step"] for line in looks] == [4, 6]
    (dev,) = looked_at
    problems = {item.id for item in load_items(gsm8k.TASK, "products.jsonl", "dev")[0]}
    assert {solution.id for solution in dev} < problems and len(dev) == looks[0]["dev_solutions"]
    assert np.mean([solution.right for solution in dev]) == 0.5
    encoder = encode.from_dir(directory / "model")
    reranker = Reranker.from_directory(directory / "model", encoder)
    scores = reranker.scores(*zip(*((s.ids[: s.start].tolist(), s.ids[s.start :].tolist()) for s in dev)))
    told = np.mean([(score > 0) == solution.right for score, solution in zip(scores, dev)])
    assert looks[-1]["dev_verified"] == pytest.approx(told)
    assert not (directory / "dev_samples").exists()


@CPU
def test_two_processes_look_at_the_same_solutions(run, write, runs, tmp_path, monkeypatch):
    changes = {"problems": 12, "max_new_tokens": 12, "examples": 16, "eval_every": 2}
    monkeypatch.setattr(solutions, "ROWS", 128)
    monkeypatch.setattr(solutions, "run_programs", by_letter)
    (alone,) = [line for line in lines(run(alone=changes)) if "dev_verified" in line]
    argv = [write(alone=changes, both=changes), "arm", "0", "both"]
    ranks = forks.launch(verifier.main, 2, argv, tmp_path / "logs")
    assert forks.finish(ranks) == [0, 0], (tmp_path / "logs/rank0.log").read_text()
    (both,) = [line for line in lines(runs / "small/arm-s0/both") if "dev_verified" in line]
    assert both["dev_solutions"] == alone["dev_solutions"] > 100
    assert both["dev_loss"] == pytest.approx(alone["dev_loss"], rel=1e-4)
