"""Ask a model everything, after any stage, and keep every single outcome.

    python -m eval.run experiments/quickstart.yaml mul_tokens 0 sft_gsm8k      # writes eval_sft_gsm8k/
    python -m eval.run --model DIR --out NEW_DIR --data my_problems.jsonl      # any model directory, any problems
    python -m eval.run --model DIR --out NEW_DIR --samples 16 --verifier DIR   # and 16 samples of each, scored

outcomes.parquet has a row for every problem, probe and HellaSwag row: `set` (a problem set's name, or
probes.KIND), `id` (hash of the question), what was asked, the raw token ids, the rendered completion, what
was read and whether it was right. summary.json is worked out from it: accuracies with Wilson's 95% interval
and, beside each, the floor that the best constant answer reaches; bits per byte of the reference answers;
errors sorted; strata; fact tokens; bits per byte. Rows that cannot be asked are skipped, counted and reported;
one that fits the context in some ways of splitting numbers only is skipped in every condition of its experiment.
Decoding is greedy; with `samples` set, samples.parquet has a row for every sampled answer (eval/samples.py), and the
summary what k of them are worth (eval/verdict/at_k.py).
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
from tqdm import tqdm

from eval import bpb, likelihood, samples, tasks
from eval.decode.generate import generate
from eval.grading import patching
from eval.grading.programs import run_programs
from eval.models import open_model
from eval.outcomes import question_row, report, summarise, write
from eval.rerank import Reranker
from eval.tasks import probes
from eval.tasks.task import MultipleChoice, Question, load
from eval.verdict import sampled
from model import GPT
from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.files import data_dir
from pipeline.identity import stage_dir
from pipeline.sections import Eval, ProblemSet
from tokenizer import encode
from tokenizer.encode import Encoder

PATCHES = 50  # replies with a replaced token, at most, in each set


class Asked(NamedTuple):
    """What is asked of a model."""

    questions: list[tuple[str, Question]]  # with the name of the set
    choices: dict[str, list[MultipleChoice]]  # by set
    skipped: dict[str, Counter]  # by set, how many rows for which reason

    def count(self) -> Counter:
        """How many items each set holds."""
        sizes = Counter({name: len(items) for name, items in self.choices.items()})
        return sizes + Counter(name for name, _ in self.questions)


def load_sets(spec: Eval, encoder: Encoder) -> Asked:
    """Every problem set and probe. Raises UserError for a set without a problem."""
    asked = Asked([], {}, {})
    for name, each in spec.sets.items():
        items, asked.skipped[name] = load(
            tasks.get(each.task), each.data, each.split, name=each.name, limit=each.limit
        )
        if each.limit and (there := len(items) + sum(asked.skipped[name].values())) < each.limit:
            print(f"eval.sets.{name}: has {there} problems, fewer than limit {each.limit}", file=sys.stderr)
        choices = [item for item in items if isinstance(item, MultipleChoice)]
        if choices:
            asked.choices[name] = choices
        asked.questions.extend((name, item) for item in items if isinstance(item, Question))
    for kind, questions in probes.questions(encoder.condition).items() if spec.probes else ():
        asked.questions.extend((f"probes.{kind}", question) for question in questions)
    return asked


def ask(model: GPT, encoder: Encoder, prompts: list[list[int]], spec: Eval, progress=None) -> list[list[int]]:
    """Greedy replies as ids; each prompt has to leave room for one."""
    kwargs = {"eos": encoder.eos, "suppress": encoder.suppressed, "batch_size": spec.batch_size}
    return generate(model, prompts, spec.max_new_tokens, progress=progress, **kwargs)


class Evaluation(NamedTuple):
    rows: list[dict]  # of eval.outcomes
    samples: list[dict]  # of eval.samples
    summary: dict
    record: dict  # seconds of each part, and the sandbox that was in force

    def write(self, directory: Path) -> list[str]:
        """The names of the files."""
        drawn = samples.write(directory, self.samples) if self.samples else []
        return [*write(directory, self.rows, self.summary), *drawn]


def evaluate(
    model: GPT,
    encoder: Encoder,
    plain: list[Encoder],
    spec: Eval,
    validation: Path | None,
    bar: Callable,
    *,
    seed: int = 0,
    reranker: Reranker | None = None,
) -> Evaluation:
    """`plain` (tokenizer.encode.every_split) decides what fits the context. `validation` is a prepared data directory,
    for bits per byte; None leaves them out. `bar(total, unit)` opens a progress bar. `seed` decides what is sampled,
    `reranker` scores it. Raises UserError for an empty problem set and for NaN logits.
    """
    asked = fitting(load_sets(spec, encoder), plain, model.config.block_size)
    documents = bpb.load(validation) if validation else None
    prompts = [question.prompt(encoder) for _, question in asked.questions]
    to_sample = [each for each in asked.questions if each[0] in spec.sets] if spec.samples else []
    if reranker:
        longest = min(max(map(len, prompts)) + spec.max_new_tokens, model.config.block_size)
        reranker.check(longest)
    seconds: dict[str, float] = {}
    with bar(len(prompts) + sum(map(len, asked.choices.values())), "items") as progress:
        with _timed(seconds, "generation"):
            replies = ask(model, encoder, prompts, spec, progress.update)
        with _timed(seconds, "choices"):
            scored = {}
            for name, items in asked.choices.items():
                scored[name] = likelihood.score(model, encoder, items, spec.batch_size)
                progress.update(len(items))
    with _timed(seconds, "gold_bits"):
        questions = [question for _, question in asked.questions]
        gold = likelihood.gold_bits(model, encoder, plain, questions, spec.batch_size)
    with _timed(seconds, "patching"):
        patches = patch(model, encoder, spec, asked.questions, prompts, replies)
    with _timed(seconds, "bits_per_byte"):
        bits = _bits_per_byte(model, encoder, *documents, bar) if documents else None
    rows = [
        question_row(encoder, name, question, reply, spec.max_new_tokens) | own
        for (name, question), reply, own in zip(asked.questions, replies, gold)
    ]
    with _timed(seconds, "programs"):
        sandbox = run_programs(rows)
    rows += _choice_rows(asked, scored)
    summary = summarise(rows, asked.skipped) | {"patching": patches, "bits_per_byte": bits}
    drawn: list[dict] = []
    if to_sample:
        with _timed(seconds, "samples"), bar(len(to_sample) * spec.samples, "samples") as progress:
            drawn, used = samples.draw(model, encoder, to_sample, spec, seed, reranker, progress.update)
        sandbox = sandbox or used
        for name, worth in sampled.summarise(drawn, _golds(to_sample), spec).items():
            summary["sets"][name]["sampled"] = worth
    return Evaluation(rows, drawn, summary, {"seconds_of": seconds, "sandbox": sandbox})


def _golds(asked: list[tuple[str, Question]]) -> dict[tuple[str, str], str]:
    return {(name, question.id): question.gold for name, question in asked}


def fitting(asked: Asked, plain: list[Encoder], context: int) -> Asked:
    """What fits the context in every one of the plain spellings; the others are counted.

    Raises UserError, before any is asked, if all problems of a set are too long.
    """
    questions = [(name, question) for name, question in asked.questions if question.fits(plain, context)]
    choices = {
        name: [item for item in items if item.fits(plain, context)] for name, items in asked.choices.items()
    }
    kept = Asked(questions, choices, asked.skipped)
    left = kept.count()
    for name, count in asked.count().items():
        if not left[name]:
            raise UserError(
                f"eval.sets.{name}: none of its problems could be asked: all {count} are longer than the "
                f"context of {context}; give shorter ones, or a model with a longer context"
            )
        if long := count - left[name]:
            asked.skipped.setdefault(name, Counter())["longer than the context"] += long
    return kept


def _choice_rows(asked: Asked, scored: dict[str, list[dict | None]]) -> list[dict]:
    rows = []
    for name, outcomes in scored.items():
        for item, outcome in zip(asked.choices[name], outcomes):
            row = {"set": name, "id": item.id, "question": item.context, "gold": str(item.label)}
            rows.append(row | {"correct": outcome.pop("acc_norm")} | outcome | item.columns)
    return rows


def _bits_per_byte(
    model: GPT, encoder: Encoder, texts: list, counts: np.ndarray, bar: Callable
) -> dict[str, dict]:
    with bar(sum(map(len, texts)), "tokens of validation") as progress:
        nats = bpb.document_nats(model, texts, encoder.eos, progress.update)
    return bpb.bits_per_byte(nats, texts, counts)


def patch(
    model: GPT, encoder: Encoder, spec: Eval, questions: list, prompts: list, replies: list
) -> dict[str, dict]:
    """By set, how many of at most PATCHES replies follow a replaced fact token: see eval.grading.patching."""
    cases: dict[str, list] = {}
    for (name, question), prompt, reply in zip(questions, prompts, replies):
        if len(cases.get(name, ())) < PATCHES:
            answer = question.grade(encoder.render(reply), question.gold)["answer"]
            case = patching.case(encoder, reply, answer)
            if case and len(prompt) + len(case.head) < model.config.block_size:
                cases.setdefault(name, []).append((question, prompt + case.head, case))
    asked = [(name, *each) for name, part in cases.items() for each in part]
    rests = ask(model, encoder, [head for _, _, head, _ in asked], spec)
    counts = {
        name: {"asked": len(part), "follows": 0, "stays": 0, "other": 0} for name, part in cases.items()
    }
    for (name, question, _, case), rest in zip(asked, rests):
        answer = question.grade(encoder.render(case.head + rest), question.gold)["answer"]
        counts[name][patching.outcome(case, answer)] += 1
    return counts


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)


# --- commands -----------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--model" for word in argv):
        return _any_model(argv)
    options = _parser().format_help().partition("options:")[2]
    with stage.begin("eval", argv, f"{__doc__}\noptions of the second form:{options}") as run:
        if run is None:
            return
        model, encoder = open_model(run.parent / "model", run.spec.precision)
        plain = encode.every_split(encoder.condition, run.experiment)
        prepare = run.experiment.ancestor(run.name, "prepare")
        validation = prepare and stage_dir(run.experiment, run.condition, run.seed, prepare)
        reranker = None
        if run.spec.verifier:
            verifier = stage_dir(run.experiment, run.condition, run.seed, run.spec.verifier)
            reranker = Reranker.from_directory(verifier, encoder, run.spec.precision)
        kwargs = {"seed": run.seed, "reranker": reranker}
        done = evaluate(model, encoder, plain, run.spec, validation, run.bar, **kwargs)
        tokens = sum(len(row["tokens"]) for row in (*done.rows, *done.samples) if "tokens" in row)
        run.finish(done.write(run.dir), tokens=tokens, examples=len(done.rows), **done.record)
    report(done.summary)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--model", type=Path, required=True, metavar="DIR", help="a stage's directory, or its model/")
    option("--out", type=Path, required=True, metavar="NEW_DIR", help="must not exist")
    option(
        "--task",
        default=tasks.DEFAULT,
        choices=tasks.NAMES,
        help=f"what the rows are (default: {tasks.DEFAULT})",
    )
    option("--data", default="sample", help="`sample`, a file under DATA_DIR or where you are, or a Hub id")
    option("--name", help="the Hub dataset's configuration; of `sample`: worked, arithmetic, …")
    option("--split", default="test", choices=("train", "dev", "test", "validation"))
    option("--limit", type=int, help="the first so many rows")
    option("--max-new-tokens", type=int, default=256)
    option("--samples", type=int, default=0, help="sampled answers a problem, beside the greedy one")
    option("--temperature", type=float, default=0.7, help="of the samples")
    option("--seed", type=int, default=0, help="of the samples")
    option("--verifier", type=Path, metavar="DIR", help="a verifier's directory, to score the samples")
    option("--batch-size", type=int, default=64, help="problems decoded at once")
    option("--precision", default="fp32", choices=("fp32", "bf16"))
    return parser


def _any_model(argv: list[str]) -> None:
    args = _parser().parse_args(argv)
    _check(args)
    here = Path(args.data)
    data = str(here.absolute()) if here.exists() and not (data_dir() / args.data).exists() else args.data
    problems = ProblemSet(task=args.task, data=data, name=args.name, split=args.split, limit=args.limit)
    spec = Eval(
        sets={args.task: problems},
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        precision=args.precision,
        samples=args.samples,
        temperature=args.temperature,
    )
    model, encoder = open_model(args.model, args.precision)

    def bar(total: int, unit: str) -> tqdm:
        return tqdm(total=total, unit=f" {unit}")

    reranker = Reranker.from_directory(args.verifier, encoder, args.precision) if args.verifier else None
    plain = encode.every_split(encoder.condition)
    done = evaluate(model, encoder, plain, spec, None, bar, seed=args.seed, reranker=reranker)
    args.out.mkdir(parents=True)
    done.write(args.out)
    report(done.summary)


def _check(args: argparse.Namespace) -> None:
    if args.out.exists():
        raise UserError(f"{args.out}: is there already; choose another --out")
    above = next(path for path in args.out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{args.out}: {above} is not a folder to write into; choose another --out")
    for option in ("limit", "max_new_tokens", "batch_size"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} {getattr(args, option)}: must be at least 1")
    if args.samples < 0:
        raise UserError(f"--samples {args.samples}: must be 0 or more")
    if not 0 < args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: must be above 0")
    if args.verifier and not args.samples:
        raise UserError("--verifier: scores samples, and none are drawn; give --samples, for example 16")
    if args.samples and not tasks.get(args.task).in_words:
        raise UserError(f"--samples: {args.task} is not answered in words, so there is nothing to sample")


if __name__ == "__main__":
    cli(main)
