"""Let lm-evaluation-harness score the same rows, and compare row by row.

    bash scripts/referee.sh MODEL_DIR --limit 200
    bash scripts/referee.sh MODEL_DIR --gsm8k gsm8k/test.parquet --hellaswag hellaswag/validation.parquet

The harness runs in an environment of its own (.venv-referee, which scripts/referee.sh makes), offline, in
fp32, with its own GSM8K and HellaSwag tasks: only the rows are handed to it, and our prompt. Zero-shot: five
examples do not fit 1,024 tokens, and the harness cuts what does not fit in silence; rows that would be cut
are left out here, and counted. Exits 1 unless every HellaSwag choice and every GSM8K answer agrees, and
log-likelihoods do to 1e-3.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from eval import likelihood
from eval.decode.generate import generate
from eval.grading import answers
from eval.models import model_directory, open_model
from eval.tasks import gsm8k, hellaswag
from eval.tasks.task import read
from model import GPT
from pipeline.errors import UserError, cli
from pipeline.files import ROOT
from pipeline.rows import load_rows
from tokenizer.encode import Encoder

PYTHON = ROOT / ".venv-referee/bin/python"
FORMATS = {"gsm8k": gsm8k.FORMAT, "hellaswag": hellaswag.FORMAT}
SPLITS = {"gsm8k": "test", "hellaswag": "validation"}  # what the harness's own tasks score
HUB = {"gsm8k": ("openai/gsm8k", "main"), "hellaswag": ("Rowan/hellaswag", None)}
TOLERANCE = 1e-3  # nats of an ending's log-likelihood


def compare(directory: Path, sources: dict[str, tuple], limit: int | None, max_new_tokens: int) -> dict:
    """By task, how many rows were compared and on how many what agrees.

    `sources` maps both tasks to (data, name). Raises UserError where the harness is not installed, or fails.
    """
    if not (PYTHON.parents[1] / "installed").exists():
        raise UserError(f"{PYTHON}: the harness is not installed; run: bash scripts/referee.sh {directory}")
    model, encoder = open_model(directory)
    tables = {
        task: list(load_rows(source, FORMATS[task], SPLITS[task], name=name, limit=limit))
        for task, (source, name) in sources.items()
    }
    problems, completions = _completions(model, encoder, tables["gsm8k"], max_new_tokens)
    rows, scores = _scores(model, encoder, tables["hellaswag"])
    with tempfile.TemporaryDirectory() as folder:
        files = _tasks(Path(folder), {"gsm8k": problems, "hellaswag": rows}, max_new_tokens)
        samples = _harness(Path(folder), directory, files)
    return {
        "gsm8k": {"rows": len(problems), "left_out": len(tables["gsm8k"]) - len(problems)}
        | _compare_completions(encoder, completions, samples["referee_gsm8k"]),
        "hellaswag": {"rows": len(rows), "left_out": len(tables["hellaswag"]) - len(rows)}
        | _compare_scores(scores, samples["referee_hellaswag"]),
    }


# --- our side -----------------------------------------------------------------------------------------------


def _completions(model: GPT, encoder: Encoder, table: list[dict], limit: int) -> tuple[list[dict], list[str]]:
    """(rows for the harness, rendered completions) of the problems that leave room for `limit` tokens."""
    room = model.config.block_size - limit
    problems, _ = read(gsm8k.TASK, table)
    asked = [(problem, problem.prompt(encoder)) for problem in problems]
    asked = [(problem, prompt) for problem, prompt in asked if len(prompt) <= room]
    prompts = [prompt for _, prompt in asked]
    replies = generate(model, prompts, limit, eos=encoder.eos, suppress=encoder.suppressed)
    rows = [{"question": problem.question, "answer": problem.solution} for problem, _ in asked]
    return rows, [encoder.render(reply) for reply in replies]


def _scores(model: GPT, encoder: Encoder, table: list[dict]) -> tuple[list[dict], list[dict]]:
    """(rows for the harness, our scores) of the well-formed rows that fit the context."""
    parsed = [(row, item) for row in table if not isinstance(item := hellaswag.read(row), str)]
    scored = likelihood.score(model, encoder, [item for _, item in parsed], batch_size=64)
    fits = [(row, score) for (row, _), score in zip(parsed, scored) if score]
    return [_for_harness(row) for row, _ in fits], [score for _, score in fits]


def _for_harness(row: dict) -> dict:
    """A row in the columns that the harness's task reads; some sources have no ctx_a and ctx_b."""
    whole = row.get("ctx_a") is None or row.get("ctx_b") is None
    parts = {"ctx_a": row["ctx"], "ctx_b": ""} if whole else {key: row[key] for key in ("ctx_a", "ctx_b")}
    return {key: row[key] for key in ("activity_label", "endings", "label")} | parts


# --- the harness --------------------------------------------------------------------------------------------


def _tasks(folder: Path, rows: dict[str, list[dict]], max_new_tokens: int) -> list[Path]:
    """The harness's own task files, with our rows and our prompt in the place of its own.

    What is never to be said, the model directory itself says, in its generation_config.json.
    """
    own = next((PYTHON.parents[1] / "lib").glob("python3*/site-packages/lm_eval/tasks"))
    greedy = {"until": [], "do_sample": False, "max_gen_toks": max_new_tokens}
    asked = {"doc_to_text": "User: {{question.strip()}}\nAssistant:", "generation_kwargs": greedy}
    changes = {"gsm8k": asked, "hellaswag": {}}
    for task, part in rows.items():
        table = folder / f"{task}.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in part))
        config = {
            "include": str(own / task / f"{task}.yaml"),
            "task": f"referee_{task}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {SPLITS[task]: str(table)}},
            "training_split": None,
            "fewshot_split": None,
            "num_fewshot": 0,
        }
        (folder / f"{task}.yaml").write_text(json.dumps(config | changes[task]))  # JSON is YAML
    return [folder / f"{task}.yaml" for task in rows]


def _harness(folder: Path, directory: Path, tasks: list[Path]) -> dict[str, list[dict]]:
    """The harness's samples by task, in the order of the rows."""
    device, out = "cuda" if torch.cuda.is_available() else "cpu", folder / "samples.json"
    program = [PYTHON, ROOT / "scripts/referee_harness.py", directory.resolve(), device, out, *tasks]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(program, env=os.environ | offline | {"PYTHONPATH": ""}, **kwargs)
    if done.returncode:
        message = " ".join(done.stdout.strip().splitlines()[-3:])
        raise UserError(f"lm-evaluation-harness failed on {directory}: {message}")
    return {task: _joined(samples) for task, samples in json.loads(out.read_text()).items()}


def _joined(samples: list[dict]) -> list[dict]:
    """One record a row; a task with several filters logs a row for each, here joined under `filters`."""
    joined: dict[int, dict] = {}
    for sample in samples:
        record = joined.setdefault(sample["doc_id"], sample | {"filters": {}})
        record["filters"][sample["filter"]] = sample["filtered_resps"]
    return [joined[number] for number in sorted(joined)]


# --- the comparison -----------------------------------------------------------------------------------------


def _compare_completions(encoder: Encoder, ours: list[str], samples: list[dict]) -> dict[str, int]:
    raw = [sample["resps"][0][0] for sample in samples]
    theirs = [spoken(encoder, text) for text in raw]
    readers = (answers.strict, answers.flexible)
    read = [tuple(reader(text) or "[invalid]" for reader in readers) for text in raw]
    filters = ("strict-match", "flexible-extract")
    filtered = [tuple(sample["filters"][name][0] for name in filters) for sample in samples]
    return {
        "completions": _agree(ours, theirs),
        "answers": _agree(map(_readings, ours), map(_readings, theirs)),
        "extractors": _agree(read, filtered),
    }


def _readings(text: str) -> tuple[str | None, ...]:
    return answers.answer(text), answers.strict(text), answers.flexible(text)


def spoken(encoder: Encoder, text: str) -> str:
    """The harness's text with the names of fact tokens as what they say: it never sees ids."""
    condition = encoder.condition
    for token in encoder.fact_ids:
        text = text.replace(condition.names[token - condition.base], condition.say(token))
    return text


def _compare_scores(ours: list[dict], samples: list[dict]) -> dict[str, float]:
    theirs = [[float(response[0][0]) for response in sample["resps"]] for sample in samples]
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a["loglikelihoods"], b)]
    choices = [[(row["acc"], row["acc_norm"]) for row in side] for side in (ours, samples)]
    return {"choices": _agree(*choices), "largest_gap": max(abs(a - b) for a, b in pairs)}


def _agree(ours, theirs) -> int:
    return sum(a == b for a, b in zip(ours, theirs, strict=True))


def agrees(result: dict) -> bool:
    """Whether no row differs in what is scored. Completions may differ behind an answer."""
    texts, endings = result["gsm8k"], result["hellaswag"]
    equal = texts["answers"] == texts["extractors"] == texts["rows"] and endings["choices"] == endings["rows"]
    return equal and endings["largest_gap"] <= TOLERANCE


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bash scripts/referee.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="DIR", help="a stage's directory, or its model/")
    parser.add_argument("--gsm8k", metavar="FILE", help="rows under DATA_DIR in the place of openai/gsm8k")
    parser.add_argument("--hellaswag", metavar="FILE", help="rows in the place of Rowan/hellaswag")
    parser.add_argument("--limit", type=int, help="the first so many rows of each")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    args = parser.parse_args(argv)
    model = model_directory(args.model)
    given = {"gsm8k": args.gsm8k, "hellaswag": args.hellaswag}
    sources = {task: (file, None) if file else HUB[task] for task, file in given.items()}
    result = compare(model, sources, args.limit, args.max_new_tokens)
    for task, counts in result.items():
        print(f"{task}: " + ", ".join(f"{key} {value:.4g}" for key, value in counts.items()))
    if not agrees(result):
        sys.exit(1)


if __name__ == "__main__":
    cli(main)
