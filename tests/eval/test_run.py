"""The whole evaluation, on a random model; what it makes of replies is tested with replies of our own."""

import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from eval import likelihood, run
from eval.models import open_model
from eval.tasks import gsm8k
from eval.tasks.task import item_id, load
from pipeline import stage
from pipeline.errors import UserError
from pipeline.experiment import load as load_experiment
from pipeline.sections import Eval, ProblemSet
from tests.conftest import make_model
from tokenizer.conditions import Condition
from tokenizer.encode import every_split, from_dir

EXPERIMENT = """
vocabulary: multiplication
tokenizer: {base: 1024}
conditions: {arm: {mode: token}}
seeds: [0]
stages:
  import: {run: import, base: BASE, rows: random}
eval:
  sets:
    word_problems: {task: gsm8k, data: sample, split: test, limit: 12}
    endings: {task: hellaswag, data: sample, split: validation, limit: 8}
  max_new_tokens: 8
  batch_size: 32
  precision: fp32
"""


@pytest.fixture
def experiment(tmp_path, runs, model_dir):
    """An experiment whose model stage is finished."""
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT.replace("BASE", str(model_dir)))
    with stage.begin("import", [str(path), "arm", "0"], "") as done:
        model = done.dir / "model"
        model.mkdir()
        for file in model_dir.iterdir():
            (model / file.name).write_bytes(file.read_bytes())
        done.finish([f"model/{file.name}" for file in model.iterdir()])
    return path


def read(directory):
    rows = pq.read_table(directory / "outcomes.parquet").to_pylist()
    return rows, json.loads((directory / "summary.json").read_text())


def test_a_limit_that_is_not_reached_is_said(model_dir, tmp_path, capsys):
    rows = [{"question": f"What is {a} + 2?", "answer": f"#### {a + 2}"} for a in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for limit, message in ((4, "eval.sets.mine: has 3 problems, fewer than limit 4\n"), (3, ""), (None, "")):
        mine = ProblemSet(task="gsm8k", data=str(tmp_path / "mine.jsonl"), split="test", limit=limit)
        spec = Eval(sets={"mine": mine}, probes=False, max_new_tokens=4, batch_size=8, precision="fp32")
        assert run.load_sets(spec, from_dir(model_dir)).count() == {"mine": 3}
        assert capsys.readouterr().err == message


def test_an_experiments_stage_is_evaluated(experiment, runs):
    run.main([str(experiment), "arm", "0", "import"])
    directory = runs / "small/arm-s0/eval_import"
    rows, summary = read(directory)
    counts = {name: sum(row["set"] == name for row in rows) for name in {row["set"] for row in rows}}
    assert counts == {
        "word_problems": 12,
        "endings": 8,
        "probes.table": 81,
        "probes.two_digit": 100,
        "probes.addition": 100,
    }
    encoder = from_dir(runs / "small/arm-s0/import/model")
    for row in rows:
        if row["set"] != "endings":
            assert row["completion"] == encoder.render(row["tokens"]) and len(row["tokens"]) <= 8
            assert row["facts"] == encoder.count_facts(row["tokens"])
            assert not set(row["tokens"]) & set(encoder.suppressed)
    assert (
        len({tuple(row["tokens"]) for row in rows if row["tokens"]}) > 50
    )  # the model says different things
    assert sum(row["facts"] or 0 for row in rows) > 0
    for counts in summary["patching"].values():
        assert 0 < counts["asked"] == counts["follows"] + counts["stays"] + counts["other"]
    done = json.loads((directory / "stage.json").read_text())
    assert done["record"]["examples"] == len(rows)
    assert set(done["identity"]["outputs"]) == {"outcomes.parquet", "summary.json"}
    run.main([str(experiment), "arm", "0", "import", "--overwrite"])
    assert json.loads((directory / "stage.json").read_text())["identity"] == done["identity"]  # bit for bit


def test_any_model_directory_is_evaluated_alike(experiment, runs, model_dir, tmp_path):
    run.main([str(experiment), "arm", "0", "import"])
    run.main(
        ["--model", str(model_dir), "--out", str(tmp_path / "out"), "--limit", "12", "--max-new-tokens", "8"]
    )
    rows, _ = read(tmp_path / "out")
    reference, _ = read(runs / "small/arm-s0/eval_import")
    replies = {(row["set"].replace("word_problems", "gsm8k"), row["id"]): row["tokens"] for row in reference}
    assert len(rows) == 12 + 281 and all(row["tokens"] == replies[row["set"], row["id"]] for row in rows)


@pytest.fixture
def answered(model_dir, tmp_path, monkeypatch):
    """Evaluate with replies of our own: answered(reply(row number, prompt), problems) → (rows, summary)."""

    def evaluate(reply, table):
        (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
        monkeypatch.setenv("DATA_DIR", str(tmp_path))

        def generate(model, prompts, max_new_tokens, *, eos, **_):
            encoder = from_dir(model_dir)
            return [
                [*encoder.encode_facts(reply(number, prompt)), eos] for number, prompt in enumerate(prompts)
            ]

        monkeypatch.setattr(run, "generate", generate)
        run.main(["--model", str(model_dir), "--out", str(tmp_path / "out"), "--data", "problems.jsonl"])
        return read(tmp_path / "out")

    return evaluate


SOLUTIONS = ["9 * 9 = 81\n#### 81", "4 + 4 = 8\n#### 8", "47 * 6 = 282\n#### 282", "5 + 3 = 8\n#### 8"]
REPLIES = [" 9 * 9 = 81\n#### 81.0", " 4 + 4 = 9\n#### 9", " 4 + 7 = 11\n#### 11", " eight"]


def test_outcomes_and_summary(answered):
    table = [
        {"question": f"Question {i}?", "answer": solution, "seen": i < 2}
        for i, solution in enumerate(SOLUTIONS)
    ]
    rows, summary = answered(lambda number, _: REPLIES[number] if number < 4 else " 0", table)
    rows, score = rows[:4], summary["sets"]["gsm8k"]
    assert [row["error"] for row in rows] == ["correct", "slip", "plan", "no answer"]
    assert [row["answer"] for row in rows] == ["81", "9", "11", None]
    assert [row["facts"] for row in rows] == [1, 0, 0, 0]
    assert [(row["fact_bearing"], row["fact_bearing_decomposed"]) for row in rows] == [
        (True, True),
        (False, False),
        (False, True),
        (False, False),
    ]
    assert rows[0]["id"] == item_id("Question 0?") and all(row["ended"] for row in rows)
    assert score["n"] == 4 and score["accuracy"] == 0.25 and 0 < score["low"] < 0.25 < score["high"] < 1
    assert (score["floor"], score["floor_answer"]) == (0.5, "8")
    assert score["fact_tokens_per_response"] == 0.25
    assert (score["equations"], score["equations_true"]) == (3, 2 / 3)
    assert {name: part["n"] for name, part in score["strata"].items()} == {
        "fact_bearing": 1,
        "not_fact_bearing": 3,
        "fact_bearing_decomposed": 2,
        "not_fact_bearing_decomposed": 2,
        "seen": 2,
        "not_seen": 2,
    }
    assert score["strata"]["fact_bearing"]["accuracy"] == 1


def test_skipped_rows_are_counted(answered, capsys):
    table = [
        {"question": question, "answer": answer}
        for question, answer in (
            ("A?", "#### 1"),
            ("A?", "#### 1"),
            ("B?", "#### one"),
            ("", "#### 1"),
            ("C?", None),
            (None, "#### 1"),
        )
    ]
    _, summary = answered(lambda *_: " 1", table)
    assert summary["sets"]["gsm8k"]["skipped"] == {
        "repeated": 1,
        "'answer' has no final number": 1,
        "'question' is empty": 1,
        "'answer' is null, not text": 1,
        "'question' is null, not text": 1,
    }
    message = capsys.readouterr().err
    assert "gsm8k: 0.0%" in message and "skipped 1 'question' is empty; skipped 1 'answer' is null" in message


def test_half_a_character_is_malformed_and_another_seen_is_ignored(answered):
    table = [{"question": "\ud800?", "answer": "#### 1"}, {"question": "A?", "answer": "#### 1", "seen": 3}]
    rows, summary = answered(lambda *_: " 1", table)
    assert (
        summary["sets"]["gsm8k"]["skipped"] == {"'question' holds half a character": 1}
        and rows[0]["seen"] is None
    )


def test_a_set_without_a_problem_that_fits_is_refused_before_any_is_asked(answered):
    def reply(*_):
        raise AssertionError("asked")

    with pytest.raises(UserError, match="eval.sets.gsm8k: none of its problems .* all 1 are longer"):
        answered(reply, [{"question": "How many? " * 200, "answer": "#### 1"}])


def test_a_prompt_longer_than_the_context_is_skipped_and_counted(model_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    table = [{"question": "How many? " * 200, "answer": "1"}, {"question": "How many?", "answer": "1"}]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    words = ["--model", str(model_dir), "--task", "svamp", "--data", "long.jsonl", "--max-new-tokens", "2"]
    run.main([*words, "--out", str(tmp_path / "out")])
    _, summary = read(tmp_path / "out")
    assert summary["sets"]["svamp"]["n"] == 1 and summary["sets"]["svamp"]["cut_by_context"] == 0
    assert summary["sets"]["svamp"]["skipped"] == {"longer than the context": 1}
    (tmp_path / "long.jsonl").write_text(json.dumps(table[0]) + "\n")
    with pytest.raises(UserError, match="eval.sets.svamp: none of its problems"):
        run.main([*words, "--out", str(tmp_path / "out2")])
    assert not (tmp_path / "out2").exists()


def test_a_reply_cut_by_the_context_is_counted(model_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    table = [{"question": "How many? " * 20, "answer": "1"}]
    (tmp_path / "near.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    words = ["--model", str(model_dir), "--task", "svamp", "--data", "near.jsonl", "--max-new-tokens", "127"]
    run.main([*words, "--out", str(tmp_path / "out")])
    rows, summary = read(tmp_path / "out")
    assert (
        rows[0]["cut"] == (not rows[0]["ended"])
        and summary["sets"]["svamp"]["cut_by_context"] == rows[0]["cut"]
    )
    assert "1 cut by the context" in capsys.readouterr().err


@pytest.mark.parametrize("uses_its_tokens", [True, False])
def test_a_replaced_fact_is_followed_or_not(answered, model_dir, uses_its_tokens):
    encoder = from_dir(model_dir)

    def reply(number, prompt):
        if prompt[-1] not in encoder.fact_ids:
            return " 6 * 9 = 54\n#### 54"
        value = encoder.condition.facts.spell(prompt[-1] - encoder.condition.first_fact)[1]
        return f"\n#### {value if uses_its_tokens else 54}"

    _, summary = answered(reply, [{"question": "Q?", "answer": "#### 54"}])
    expected = {"follows": int(uses_its_tokens), "stays": int(not uses_its_tokens)}
    assert summary["patching"]["gsm8k"] == {"asked": 1, "other": 0, **expected}


def test_ones_own_rows_are_found_where_one_stands_and_a_bare_number_is_an_answer(
    model_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "Two and two?", "answer": 4}] * 3 + [{"question": 5, "answer": 4}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage_directory = tmp_path / "stage"
    stage_directory.mkdir()
    (stage_directory / "model").symlink_to(model_dir)
    words = ["--model", str(stage_directory), "--data", "own.jsonl", "--max-new-tokens", "2"]
    run.main([*words, "--out", str(tmp_path / "out")])
    rows, summary = read(tmp_path / "out")
    assert rows[0]["gold"] == "4" and rows[0]["fact_bearing"] is None
    assert summary["sets"]["gsm8k"]["skipped"] == {"repeated": 2, "'question' is a number, not text": 1}
    message = capsys.readouterr().err
    assert "of so few problems (1) an accuracy says little" in message and "; skipped 2 repeated" in message


def test_help_tells_of_both_forms(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    message = capsys.readouterr().out
    assert "EXPERIMENT" in message and "--overwrite" in message and "--max-new-tokens" in message
    assert "--task {" in message and "hellaswag" in message


def test_bits_per_gold_answer_are_the_models(experiment, runs, model_dir):
    run.main([str(experiment), "arm", "0", "import"])
    rows, summary = read(runs / "small/arm-s0/eval_import")
    model, encoder = open_model(model_dir)
    problems = {problem.id: problem for problem in load(gsm8k.TASK, "sample", "test", limit=12)[0]}
    scored = [row for row in rows if row["set"] == "word_problems" and row["gold_bits"] is not None]
    assert len(scored) > 3
    for row in scored:
        problem = problems[row["id"]]
        prompt = problem.prompt(encoder)
        reply = [*encoder.encode_facts(f" {problem.solution}"), encoder.eos]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + reply]))[0].double().log_softmax(-1)
        nats = sum(logits[len(prompt) + i - 1, token].item() for i, token in enumerate(reply))
        assert math.isclose(row["gold_bits"], -nats / math.log(2), rel_tol=1e-4)
        assert row["gold_bytes"] == len(f" {problem.solution}".encode())
    total = sum(row["gold_bits"] for row in scored) / sum(row["gold_bytes"] for row in scored)
    assert math.isclose(summary["sets"]["word_problems"]["gold_bits_per_byte"], total, rel_tol=1e-9)
    endings = [row for row in rows if row["set"] == "endings"]
    assert all(
        math.isclose(row["gold_bits"], -row["loglikelihoods"][int(row["gold"])] / math.log(2))
        for row in endings
    )
    assert all(row["gold_bits"] is None for row in rows if row["set"].startswith("probes."))


def test_a_tasks_own_columns_stand_in_the_outcomes(model_dir, tmp_path):
    words = ["--model", str(model_dir), "--task", "arithmetic", "--limit", "60", "--max-new-tokens", "4"]
    run.main([*words, "--out", str(tmp_path / "out")])
    rows = [row for row in read(tmp_path / "out")[0] if row["set"] == "arithmetic"]
    assert len(rows) == 60 and {row["op"] for row in rows} == {"add", "subtract", "multiply", "compare"}
    for row in rows:
        assert row["seen"] == (max(row["digits_a"], row["digits_b"]) <= 6) and row["gold_bits"] > 0
        assert (row["carries"] is None) == (row["op"] == "compare")


def test_a_condition_that_writes_another_text_gets_no_bits(tmp_path):
    model, encoder = open_model(make_model(tmp_path / "placebo", "placebo", block_size=640))
    problems = load(gsm8k.TASK, "sample", "test", limit=3)[0]
    assert likelihood.gold_bits(model, encoder, every_split(encoder.condition), problems, 8) == [{}] * 3


SPLITS = """
vocabulary: multiplication
tokenizer: {base: 1024, group: 3}
conditions:
  bpe: {mode: plain}
  bpe_token: {mode: token}
  digits: {mode: plain, numbers: digits}
  digits_token: {mode: token, numbers: digits}
  right: {mode: echo, numbers: right}
seeds: [0]
stages: {base: {run: import, base: BASE, rows: random}}
eval: {sets: {own: {task: gsm8k, data: own.jsonl, split: test}}, max_new_tokens: 4, batch_size: 8, precision: fp32, probes: false}
"""


def test_every_condition_is_asked_and_scored_on_the_same_rows(tmp_path, runs, monkeypatch):
    """Of numbers that GPT-2 writes in fewer tokens than there are digits, and facts that are one token each."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    numbers, facts = " 1000" * 8, " 6 * 9 = 54" * 5
    table = [{"question": f"{i}?{numbers * i}", "answer": f"{facts * (i % 4)}\n#### 4"} for i in range(16)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    path = tmp_path / "splits.yaml"
    path.write_text(SPLITS.replace("BASE", str(tmp_path)))
    (tmp_path / "model.safetensors").touch()
    results, alone = {}, {}
    for name in load_experiment(path).conditions:
        with stage.begin("import", [str(path), name, "0"], "") as done:
            model = make_model(done.dir / "model", Condition.of(done.experiment, name), block_size=128)
            done.finish([f"model/{file.name}" for file in model.iterdir()])
        run.main([str(path), name, "0", "base"])
        results[name] = read(runs / f"splits/{name}-s0/eval_base")
        out = tmp_path / name
        run.main(["--model", str(model), "--data", "own.jsonl", "--max-new-tokens", "4", "--out", str(out)])
        alone[name] = read(out)[1]["sets"]["gsm8k"]
    rows, summary = results["bpe"]
    ids = [[row["id"] for row in part] for part, _ in results.values()]
    golds = [[row["id"] for row in part if row["gold_bits"] is not None] for part, _ in results.values()]
    assert all(each == ids[0] for each in ids) and all(each == golds[0] for each in golds)
    score = summary["sets"]["own"]
    assert 0 < score["gold_n"] == len(golds[0]) < score["n"] == len(rows) < len(table)
    assert score["skipped"] == {"longer than the context": len(table) - score["n"]}
    assert alone["digits"]["n"] == score["n"] < alone["bpe"]["n"]  # a model by itself is its own measure


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(model_dir, tmp_path):
    """A copy of the model directory, to be damaged."""
    copy = tmp_path / "damaged"
    copy.mkdir()
    for file in model_dir.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def refused(directory, tmp_path, match, *words):
    with pytest.raises(UserError, match=match) as error:
        run.main(["--model", str(directory), "--out", str(tmp_path / "out"), *words])
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_no_model_directory(tmp_path):
    refused(tmp_path / "nowhere", tmp_path, "nowhere: no such model directory")


def test_no_tokenizer(damaged, tmp_path):
    (damaged / "condition.json").unlink()
    refused(damaged, tmp_path, "condition.json: is not there")


def test_wrong_vocabulary(damaged, tmp_path):
    content = json.loads((damaged / "condition.json").read_text())
    condition = from_dir(damaged).condition
    other = type(condition)("arm", "token", "multiplication", 2048)
    content |= {"base": 2048, "fingerprint": other.fingerprint()}
    (damaged / "condition.json").write_text(json.dumps(content))
    refused(damaged, tmp_path, "1117 ids and its condition.json speaks of 2141")


@pytest.mark.parametrize(
    "file, key, value",
    [
        ("config.json", "n_layer", "two"),
        ("config.json", "n_embd", 32.0),
        ("condition.json", "base", "x"),
        ("condition.json", "mode", "x"),
    ],
)
def test_a_key_of_another_kind(damaged, tmp_path, file, key, value):
    content = json.loads((damaged / file).read_text()) | {key: value}
    (damaged / file).write_text(json.dumps(content))
    refused(damaged, tmp_path, "damaged: config.json or condition.json holds what is not understood")


def test_layers_beyond_the_tensors_are_refused_before_they_are_made(damaged, tmp_path):
    content = json.loads((damaged / "config.json").read_text()) | {"n_layer": 10_000_000}
    (damaged / "config.json").write_text(json.dumps(content))
    refused(damaged, tmp_path, "n_layer is 10000000, and there are tensors of 2 layers")


def test_the_directory_of_a_wrong_size_is_named(damaged, tmp_path):
    content = json.loads((damaged / "config.json").read_text()) | {"n_layer": 0}
    (damaged / "config.json").write_text(json.dumps(content))
    refused(damaged, tmp_path, "damaged: n_layer is 0")


def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/new/out: .*file is not a folder to write into"):
        run.main(["--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "file/new/out")])


def test_nan_logits(damaged, tmp_path):
    tensors = load_file(damaged / "model.safetensors")
    tensors["transformer.ln_f.weight"] = torch.full_like(tensors["transformer.ln_f.weight"], torch.nan)
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    refused(damaged, tmp_path, "NaN", "--limit", "4")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "no rows"),
        ('{"question": "A?"}\n', "no column 'answer'"),
        ('{"question": "A?", "answer": "many"}\n', "has no problem to ask: 1 'answer' has no final number"),
        ("{", "bad.jsonl"),
    ],
)
def test_bad_problem_sets(model_dir, tmp_path, monkeypatch, content, match):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "bad.jsonl").write_text(content)
    refused(model_dir, tmp_path, match, "--data", "bad.jsonl")


def test_nothing_is_overwritten(model_dir, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        run.main(["--model", str(model_dir), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("option", ["--limit", "--max-new-tokens", "--batch-size"])
def test_impossible_numbers(model_dir, tmp_path, option):
    refused(model_dir, tmp_path, f"{option} 0: must be at least 1", option, "0")
