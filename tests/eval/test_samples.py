"""Samples of a random model: what is drawn, how it is graded, kept and summed up."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from eval import run, samples
from eval.grading.answers import same
from eval.models import open_model
from eval.rerank import Reranker
from eval.tasks import gsm8k
from eval.tasks.task import Question, load
from eval.verdict import at_k, sampled
from eval.verdict.collect import collect
from pipeline import stage
from pipeline.errors import UserError
from pipeline.experiment import load as load_experiment
from pipeline.sections import Eval, ProblemSet
from pipeline.status import state
from tests.conftest import make_model
from tests.eval.test_rerank import make_verifier
from tokenizer.conditions import Condition

SETS = {"word_problems": ProblemSet(task="gsm8k", data="sample", split="test", limit=6)}


@pytest.fixture(scope="module")
def model(model_dir):
    return open_model(model_dir)


@pytest.fixture(scope="module")
def verifier_dir(tmp_path_factory, model_dir):
    return make_verifier(tmp_path_factory.mktemp("verifier"), model_dir)


@pytest.fixture(scope="module")
def asked():
    return [("word_problems", each) for each in load(gsm8k.TASK, "sample", "test", limit=6)[0]]


def spec(**changes):
    keys = {"sets": SETS, "max_new_tokens": 12, "batch_size": 4, "precision": "fp32", "samples": 5}
    return Eval(**keys | changes)


def ids(rows):
    return [(row["id"], row["sample"], tuple(row["tokens"])) for row in rows]


def test_samples_depend_on_the_seed_the_problem_and_the_index_alone(model, asked):
    rows, _ = samples.draw(*model, asked, spec(), 3, None)
    assert [row["sample"] for row in rows] == [0, 1, 2, 3, 4] * 6
    again, _ = samples.draw(*model, asked[::-1], spec(batch_size=1), 3, None)
    assert sorted(ids(again)) == sorted(ids(rows))
    few, _ = samples.draw(*model, asked[2:4], spec(samples=2), 3, None)
    assert set(ids(few)) < set(ids(rows))
    one, _ = samples.draw(*model, asked[:2], spec(samples=1), 3, None)
    assert set(ids(one)) < set(ids(rows))
    other, _ = samples.draw(*model, asked, spec(), 4, None)
    assert ids(other) != ids(rows)


def test_samples_are_rendered_and_never_hold_what_is_suppressed(model, asked):
    encoder = model[1]
    rows, sandbox = samples.draw(*model, asked, spec(samples=40, temperature=2.0), 0, None)
    assert sandbox is None and len({tuple(row["tokens"]) for row in rows}) > 100
    for row in rows:
        assert row["completion"] == encoder.render(row["tokens"])
        assert not set(row["tokens"]) & set(encoder.suppressed)
    assert any(encoder.count_facts(row["tokens"]) for row in rows)


REPLIES = [" 2 * 3 = 6\n#### 6", " #### 7", " #### 6.0", " so it is 6", " #### 6"]


@pytest.fixture
def told(monkeypatch):
    """What the model is made to say to every question: REPLIES, or others put in their place."""
    replies = list(REPLIES)

    def generate(model, prompts, limit, *, eos, **kwargs):
        encoder = told.encoder
        return [[[*encoder.encode_facts(reply), eos] for reply in replies] for _ in prompts]

    monkeypatch.setattr(samples, "generate", generate)
    told.encoder = None

    def tell(encoder, new):
        told.encoder = encoder
        replies[:] = new

    return tell


def test_values_vote_however_they_are_written(model, told):
    told(model[1], REPLIES)
    problem = Question("How many?", "6", gsm8k.grade)
    rows, _ = samples.draw(*model, [("a", problem)], spec(), 0, None)
    assert [row["vote"] for row in rows] == [0, 1, 0, -1, 0]
    assert [row["correct"] for row in rows] == [True, False, True, False, True]
    assert all(row["ended"] and not row["cut"] and row["score"] is None for row in rows)
    summary = sampled.summarise(rows, {("a", problem.id): "6"}, spec())["a"]
    assert summary["metrics"]["mean"]["accuracy"] == pytest.approx(3 / 5)
    assert summary["metrics"]["maj@5"]["accuracy"] == 1
    assert summary["metrics"]["pass@2"]["accuracy"] == pytest.approx(1 - 1 / 10)
    assert summary["different_per_problem"] == 5


def test_programs_are_run(model, told):
    right = " def f():\n    return 2 * 3"
    told(model[1], [right, " def f():\n    return 5", right, " def f():\n    return 1 / 0", right])
    rows, sandbox = samples.draw(*model, [("a", Question("How many?", "6", gsm8k.grade))], spec(), 0, None)
    assert sandbox and [row["answer"] for row in rows] == ["6", "5", "6", None, "6"]
    assert [row["vote"] for row in rows] == [0, 1, 0, -1, 0]


def test_every_sample_has_its_own_score(model, asked, verifier_dir):
    reranker = Reranker.from_directory(verifier_dir, model[1])
    rows, _ = samples.draw(*model, asked, spec(), 0, reranker)
    prompts = {question.id: question.prompt(model[1]) for _, question in asked}
    expected = [reranker.scores([prompts[row["id"]]], [row["tokens"]])[0] for row in rows]
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) > 10


# --- as a stage -----------------------------------------------------------------------------------------------

EXPERIMENT = """
vocabulary: multiplication
tokenizer: {base: 1024}
conditions: {arm: {mode: token}}
seeds: [0, 1]
stages:
  import: {run: import, base: BASE, rows: random}
  sft: {run: sft, from: import, task: gsm8k, data: sample, examples: 8, batch_size: 8, micro_batch: 8,
        max_length: 100, lr: 1e-3, schedule: constant, warmup: 0, weight_decay: 0.0, precision: fp32}
  verifier: {run: verifier, from: sft, data: sample, problems: 8, samples: 4, temperature: 1.0, max_new_tokens: 8,
             examples: 8, lm_weight: 0.1, batch_size: 8, micro_batch: 8, lr: 1e-3, schedule: constant, warmup: 0,
             weight_decay: 0.0, precision: fp32}
eval:
  sets:
    word_problems: {task: gsm8k, data: sample, split: test, limit: 6}
    endings: {task: hellaswag, data: sample, split: validation, limit: 4}
  probes: false
  max_new_tokens: 8
  batch_size: 32
  precision: fp32
  samples: 4
  verifier: verifier
  sampled: [sft]
"""


@pytest.fixture
def experiment(tmp_path, runs, model_dir, verifier_dir):
    """An experiment of two seeds whose model stages and verifiers are finished."""
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT.replace("BASE", str(model_dir)))
    for seed in "01":
        for kind, source in (("import", model_dir), ("sft", model_dir), ("verifier", verifier_dir)):
            finish(path, kind, seed, source)
    return path


def finish(path, kind, seed, source, *words):
    with stage.begin(kind, [str(path), "arm", seed, *words], "") as done:
        shutil.copytree(source, done.dir / "model")
        done.finish([f"model/{file.name}" for file in (done.dir / "model").iterdir()])


def test_an_evaluation_comes_behind_the_verifier_that_it_reads(experiment, runs, capsys):
    made = load_experiment(experiment)
    order = ["import", "eval_import", "sft", "verifier", "eval_sft"]
    assert made.stage_names() == order
    assert made.reads("eval_import") == [] and [read.stage for read in made.reads("eval_sft")] == ["verifier"]
    for name in ("import", "sft"):
        run.main([str(experiment), "arm", "1", name])
    directory = runs / "small/arm-s1/eval_sft"
    done = json.loads((directory / "stage.json").read_text())
    assert set(done["identity"]["outputs"]) == {"outcomes.parquet", "summary.json", "samples.parquet"}
    assert done["identity"]["section"]["samples"] == 4 and list(done["identity"]["reads"]) == ["verifier"]
    rows = pq.read_table(directory / "samples.parquet").to_pylist()
    assert len(rows) == 24 and {row["set"] for row in rows} == {"word_problems"}
    summary = json.loads((directory / "summary.json").read_text())["sets"]
    assert list(summary["word_problems"]["sampled"]["metrics"]) == at_k.names(4, True)
    assert "sampled" not in summary["endings"]
    plain = json.loads((runs / "small/arm-s1/eval_import/stage.json").read_text())["identity"]
    assert "reads" not in plain and "samples" not in plain["section"]
    run.main([str(experiment), "arm", "1", "sft", "--overwrite"])
    assert json.loads((directory / "stage.json").read_text())["identity"] == done["identity"]  # bit for bit
    other = pq.read_table(directory / "samples.parquet")["tokens"].to_pylist()
    run.main([str(experiment), "arm", "0", "sft"])  # the same model, another seed
    path = runs / "small/arm-s0/eval_sft/samples.parquet"
    assert pq.read_table(path)["tokens"].to_pylist() != other
    assert state(made, "arm", 0, "eval_sft")[0] == "done"
    finish(experiment, "verifier", "0", model_dir_of(runs), "--overwrite")
    assert state(made, "arm", 0, "eval_sft")[0] == "differs"
    with pytest.raises(UserError, match="eval_sft: made otherwise .*'verifier' was made anew since"):
        collect(made)


def model_dir_of(runs):
    return runs / "small/arm-s0/sft/model"


def test_a_verifier_that_is_not_there_or_is_none_is_one_line_before_anything_is_asked(
    experiment, runs, monkeypatch
):
    monkeypatch.setattr(run, "ask", lambda *args: pytest.fail("asked"))
    finish(experiment, "verifier", "1", model_dir_of(runs), "--overwrite")
    with pytest.raises(UserError, match="has no classifier.weight, so it is no verifier"):
        run.main([str(experiment), "arm", "1", "sft"])
    shutil.rmtree(runs / "small/arm-s0/verifier")
    made = load_experiment(experiment)
    assert state(made, "arm", 0, "eval_sft") == ("waiting", "for 'verifier'")
    with pytest.raises(
        UserError, match="'verifier' is not finished and eval_sft needs it; run: bash scripts/verif"
    ):
        run.main([str(experiment), "arm", "0", "sft"])


# --- from the command line ------------------------------------------------------------------------------------


def test_any_model_directory_is_sampled(tmp_path, model_dir, verifier_dir, capsys):
    words = ["--model", str(model_dir), "--max-new-tokens", "8", "--limit", "4", "--samples", "4"]
    run.main([*words, "--out", str(tmp_path / "out"), "--verifier", str(verifier_dir), "--seed", "1"])
    table = pq.read_table(tmp_path / "out/samples.parquet")
    assert table.schema == sampled.SCHEMA and table.num_rows == 16
    worth = json.loads((tmp_path / "out/summary.json").read_text())["sets"]["gsm8k"]["sampled"]
    assert list(worth["metrics"]) == at_k.names(4, True)
    assert "gsm8k, 4 samples: mean" in capsys.readouterr().err
    rows = table.to_pylist()
    columns = ([row[key] for row in rows] for key in ("correct", "vote", "score"))
    shares = at_k.shares(sampled.as_draws(*(np.array(each) for each in columns), 4))
    assert {metric: share.mean() for metric, share in shares.items()} == pytest.approx(
        {metric: each["accuracy"] for metric, each in worth["metrics"].items()}
    )
    golds = {row["id"]: row["gold"] for row in pq.read_table(tmp_path / "out/outcomes.parquet").to_pylist()}
    assert all(row["correct"] == same(row["answer"], golds[row["id"]]) for row in rows)
    run.main([*words, "--out", str(tmp_path / "plain")])  # without a verifier
    worth = json.loads((tmp_path / "plain/summary.json").read_text())["sets"]["gsm8k"]["sampled"]
    assert list(worth["metrics"]) == at_k.names(4, False)
    assert set(pq.read_table(tmp_path / "plain/samples.parquet")["score"].to_pylist()) == {None}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--samples", "-1"], "--samples -1: must be 0 or more"),
        (["--samples", "4", "--temperature", "0"], "--temperature 0.0: must be above 0"),
        (["--verifier", "here"], "--verifier: scores samples, and none are drawn"),
        (["--samples", "4", "--task", "hellaswag"], "hellaswag is not answered in words"),
        (["--samples", "4", "--verifier", "nowhere"], "nowhere: no such model directory"),
    ],
)
def test_words_that_are_refused(tmp_path, model_dir, words, message):
    with pytest.raises(UserError, match=message):
        run.main(["--model", str(model_dir), "--out", str(tmp_path / "out"), *words])


@pytest.mark.parametrize(
    "block_size, message", [(128, "not of 'arm'"), (32, "longer than the verifier's context")]
)
def test_a_verifier_that_does_not_fit_is_refused_before_anything_is_asked(
    tmp_path, model_dir, monkeypatch, block_size, message
):
    condition = Condition(
        "other" if block_size == 128 else "arm",
        "plain" if block_size == 128 else "token",
        "multiplication",
        1024,
    )
    verifier = make_verifier(tmp_path / "verifier", make_model(tmp_path / "model", condition, block_size))
    monkeypatch.setattr(run, "ask", lambda *args: pytest.fail("asked"))
    words = ["--model", str(model_dir), "--out", str(tmp_path / "out"), "--limit", "3", "--samples", "2"]
    with pytest.raises(UserError, match=message) as error:
        run.main([*words, "--verifier", str(verifier)])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
