"""Ask a model everything, after any stage, and keep every single outcome.

    python -m eval.run experiments/quickstart.yaml mul_tokens 0 sft_gsm8k      # writes eval_sft_gsm8k/
    python -m eval.run --model DIR --out NEW_DIR --data gsm8k/test.parquet     # any model directory

The second form also takes --task (gsm8k, svamp or hellaswag), --name, --split, --limit, --max-new-tokens,
--batch-size and --precision; in an experiment these stand in its `eval` section.

outcomes.parquet has a row for every problem, probe and HellaSwag row: `set` (a problem set's name, or
probes.KIND), `id` (hash of the question), what was asked, the raw token ids, the rendered completion, what
was read and whether it was right. summary.json is worked out from it: accuracies with Wilson's 95% interval
and, beside each, the floor that the best constant answer reaches; errors sorted; strata; fact tokens; bits
per byte. Rows that cannot be asked are skipped, counted and reported. Decoding is greedy.
"""

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from eval import bpb
from eval.decode.generate import generate
from eval.grading import errors, patching
from eval.outcomes import report, summarise, write
from eval.programs.sandbox import Sandbox
from eval.tasks import gsm8k, hellaswag, probes
from model import GPT
from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.identity import stage_dir
from pipeline.sections import Eval, ProblemSet
from tokenizer.encode import Encoder, from_dir

PATCHES = 50  # replies with a replaced token, at most, in each set


class Item(NamedTuple):
    """A question that is answered in words."""

    set: str
    id: str
    question: str
    gold: str
    known: dict  # columns that do not depend on the model
    grade: Callable[[str, str], dict]


# --- what is asked ------------------------------------------------------------------------------------------


def items_of(spec: Eval, encoder: Encoder) -> tuple[list[Item], dict[str, Counter]]:
    """Every word problem and probe, and by set how many rows were skipped for which reason."""
    items, skipped = [], {}
    for name, each in spec.sets.items():
        if each.task != "hellaswag":
            found, skipped[name] = gsm8k.load(
                each.data, each.split, kind=each.task, name=each.name, limit=each.limit
            )
            items += [Item(name, p.id, p.question, p.gold, _known(encoder, p), gsm8k.grade) for p in found]
    for kind, pairs in probes.probes(encoder.condition).items() if spec.probes else ():
        for expression, value in pairs:
            question = probes.question(expression)
            items.append(
                Item(f"probes.{kind}", gsm8k.question_id(question), question, value, {}, probes.grade)
            )
    return items, skipped


def tables_of(spec: Eval, skipped: dict[str, Counter]) -> dict[str, list[hellaswag.Row]]:
    """The rows of every HellaSwag set; what is skipped of them is added to `skipped`."""
    tables = {}
    for name, each in spec.sets.items():
        if each.task == "hellaswag":
            found = hellaswag.load(each.data, each.split, name=each.name, limit=each.limit)
            tables[name], skipped[name] = found
    return tables


def _known(encoder: Encoder, problem: gsm8k.Problem) -> dict:
    if "####" not in problem.solution:
        return {"seen": problem.seen}
    before, after = errors.fact_bearing(encoder.condition.facts, problem.solution)
    return {"seen": problem.seen, "fact_bearing": before, "fact_bearing_decomposed": after}


def ask(
    model: GPT, encoder: Encoder, prompts: list[list[int]], spec: Eval, progress=None
) -> list[list[int] | None]:
    """Greedy replies as ids; None for a prompt that fills the context."""
    words = {
        "eos": encoder.eos,
        "suppress": encoder.suppressed,
        "batch_size": spec.batch_size,
        "progress": progress,
    }
    return generate(model, prompts, spec.max_new_tokens, **words)


# --- outcomes -----------------------------------------------------------------------------------------------


def evaluate(
    model: GPT, encoder: Encoder, spec: Eval, validation: Path | None, bar: Callable
) -> tuple[list[dict], dict, dict]:
    """(rows of eval.outcomes, summary, for the record: seconds of each part, and the sandbox that was in force).

    `validation` is a prepared data directory, for bits per byte; None leaves them out. `bar(total, unit)`
    opens a progress bar. Raises UserError for an empty problem set and for NaN logits.
    """
    items, skipped = items_of(spec, encoder)
    tables = tables_of(spec, skipped)
    documents = bpb.load(validation) if validation else None
    prompts = [gsm8k.prompt(encoder, item.question) for item in items]
    _check_lengths(items, prompts, model.config.block_size)
    seconds: dict[str, float] = {}
    with bar(len(items) + sum(map(len, tables.values())), "items") as progress:
        with _timed(seconds, "generation"):
            replies = ask(model, encoder, prompts, spec, progress.update)
        with _timed(seconds, "hellaswag"):
            scored = {}
            for name, table in tables.items():
                scored[name] = hellaswag.score(model, encoder, table, spec.batch_size)
                progress.update(len(table))
    with _timed(seconds, "patching"):
        patches = patch(model, encoder, spec, items, prompts, replies)
    with _timed(seconds, "bits_per_byte"):
        bits = _bits_per_byte(model, encoder, *documents, bar) if documents else None
    rows = [_row(encoder, item, reply, spec.max_new_tokens) for item, reply in zip(items, replies) if reply]
    with _timed(seconds, "programs"):
        sandbox = run_programs(rows)
    for name, outcomes in scored.items():
        rows += [
            _hellaswag_row(name, row, outcome) for row, outcome in zip(tables[name], outcomes) if outcome
        ]
    unasked = [item.set for item, reply in zip(items, replies) if reply is None]
    unasked += [name for name, outcomes in scored.items() for outcome in outcomes if outcome is None]
    for name in unasked:
        skipped.setdefault(name, Counter())["longer than the context"] += 1
    summary = summarise(rows, skipped) | {"patching": patches, "bits_per_byte": bits}
    return rows, summary, {"seconds_of": seconds, "sandbox": sandbox}


def _check_lengths(items: list[Item], prompts: list[list[int]], context: int) -> None:
    """Raises UserError, before any is asked, if all problems of a set are too long."""
    asked = Counter(item.set for item in items)
    long = Counter(item.set for item, prompt in zip(items, prompts) if len(prompt) >= context)
    for name in (name for name, count in long.items() if count == asked[name]):
        said = (
            f"none of its problems could be asked: all {asked[name]} are longer than the context of {context}"
        )
        raise UserError(f"eval.sets.{name}: {said}; give shorter ones, or a model with a longer context")


def run_programs(rows: list[dict]) -> dict | None:
    """Grade the replies that are programs by running them; what confined them, None if there are none."""
    programs = [row for row in rows if "strict" in row and gsm8k.is_program(row["completion"])]
    if not programs:
        return None
    with Sandbox() as sandbox:
        for row, outcome in zip(programs, sandbox.run(row["completion"].strip() for row in programs)):
            row |= gsm8k.grade_program(outcome, row["gold"])
            row["error"] = errors.classify([], row["answer"], row["correct"])
        return sandbox.in_force


def _row(encoder: Encoder, item: Item, reply: list[int], max_new_tokens: int) -> dict:
    completion = encoder.render(reply)
    graded = item.grade(completion, item.gold)
    written = errors.equations(completion)
    return {
        "set": item.set,
        "id": item.id,
        "question": item.question,
        "gold": item.gold,
        "tokens": reply,
        "completion": completion,
        **graded,
        "error": errors.classify(written, graded["answer"], graded["correct"]),
        "equations": len(written),
        "equations_true": sum(map(errors.is_true, written)),
        "facts": encoder.count_facts(reply),
        "facts_written": len(encoder.condition.facts.find(completion)),
        "ended": (ended := reply[-1] == encoder.eos),
        "cut": not ended and len(reply) < max_new_tokens,
        **item.known,
    }


def _hellaswag_row(name: str, row: hellaswag.Row, outcome: dict) -> dict:
    asked = {"set": name, "id": row.id, "question": row.context, "gold": str(row.label)}
    return asked | {"correct": outcome.pop("acc_norm")} | outcome


def _bits_per_byte(
    model: GPT, encoder: Encoder, texts: list, counts: np.ndarray, bar: Callable
) -> dict[str, dict]:
    with bar(sum(map(len, texts)), "tokens of validation") as progress:
        nats = bpb.document_nats(model, texts, encoder.eos, progress.update)
    return bpb.bits_per_byte(nats, texts, counts)


def patch(
    model: GPT, encoder: Encoder, spec: Eval, items: list, prompts: list, replies: list
) -> dict[str, dict]:
    """By set, how many of at most PATCHES replies follow a replaced fact token: see eval.patching."""
    cases: dict[str, list] = {}
    for item, prompt, reply in zip(items, prompts, replies):
        if reply and len(cases.get(item.set, ())) < PATCHES:
            found = patching.case(encoder, reply, item.grade(encoder.render(reply), item.gold)["answer"])
            if found and len(prompt) + len(found.head) < model.config.block_size:
                cases.setdefault(item.set, []).append((item, prompt + found.head, found))
    asked = [case for part in cases.values() for case in part]
    rests = ask(model, encoder, [head for _, head, _ in asked], spec)
    counts = {
        name: {"asked": len(part), "follows": 0, "stays": 0, "other": 0} for name, part in cases.items()
    }
    for (item, _, case), rest in zip(asked, rests):
        answer = item.grade(encoder.render(case.head + rest), item.gold)["answer"]
        counts[item.set][patching.outcome(case, answer)] += 1
    return counts


# --- models and commands ------------------------------------------------------------------------------------


def open_model(directory: Path, precision: str = "fp32") -> tuple[GPT, Encoder]:
    """The model of a directory, on the GPU if there is one, and its encoder; UserError if they do not fit."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such model directory")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    try:
        encoder, model = from_dir(directory), GPT.from_directory(directory, device, dtype)
    except UserError as error:  # not every one of a model's own says where it came from
        said = str(error)
        raise UserError(said if str(directory) in said else f"{directory}: {said}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a key's value of another kind
        said = f"config.json or condition.json holds what is not understood ({error})"
        raise UserError(f"{directory}: {said}; export the model again") from None
    if model.config.vocab_size != encoder.size:
        said = f"has {model.config.vocab_size} ids and its condition.json speaks of {encoder.size}"
        raise UserError(f"{directory}: the model {said}; the two are not of one export, so export it again")
    return model, encoder


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)


def main(argv: list[str] | None = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--model" for word in words):
        return _any_model(words)
    with stage.begin("eval", argv, __doc__) as run:
        if run is None:
            return
        model, encoder = open_model(run.parent / "model", run.spec.precision)
        prepare = run.experiment.ancestor(run.name, "prepare")
        validation = prepare and stage_dir(run.experiment, run.condition, run.seed, prepare)
        rows, summary, record = evaluate(model, encoder, run.spec, validation, run.bar)
        tokens = sum(len(row["tokens"]) for row in rows if "tokens" in row)
        run.finish(write(run.dir, rows, summary), tokens=tokens, examples=len(rows), **record)
    report(summary)


def _any_model(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="with config.json and condition.json"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NEW_DIR", help="must not exist")
    parser.add_argument("--task", default="gsm8k", choices=("gsm8k", "svamp", "hellaswag"))
    parser.add_argument("--data", default="sample", help="`sample`, a file under DATA_DIR, or a Hub id")
    parser.add_argument("--name", help="the Hub dataset's configuration")
    parser.add_argument("--split", default="test", choices=("train", "dev", "test", "validation"))
    parser.add_argument("--limit", type=int, help="the first so many rows")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64, help="rows decoded at once")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    args = parser.parse_args(argv)
    if args.out.exists():
        raise UserError(f"{args.out}: is there already; choose another --out")
    above = next(path for path in args.out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{args.out}: {above} is not a folder to write into; choose another --out")
    for option in ("limit", "max_new_tokens", "batch_size"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} {getattr(args, option)}: must be at least 1")
    problems = ProblemSet(task=args.task, data=args.data, name=args.name, split=args.split, limit=args.limit)
    sizes = {
        "max_new_tokens": args.max_new_tokens,
        "batch_size": args.batch_size,
        "precision": args.precision,
    }
    spec = Eval(sets={args.task: problems}, **sizes)
    model, encoder = open_model(args.model, args.precision)

    def bar(total: int, unit: str) -> tqdm:
        return tqdm(total=total, unit=f" {unit}")

    rows, summary, _ = evaluate(model, encoder, spec, None, bar)
    args.out.mkdir(parents=True)
    write(args.out, rows, summary)
    report(summary)


if __name__ == "__main__":
    cli(main)
