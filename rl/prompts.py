"""Which problems GRPO trains on: those that its parent solves sometimes, in an order that is written out.

A prompt that is always or never solved gives groups without differences, which teach nothing. Candidates come
from the training rows, the dev rows apart; questions are never rewritten, and one has to fit however a
condition splits numbers, so every condition of a seed gets the same ones, and keeps those that its own parent solves
sometimes.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable

from eval.tasks import gsm8k
from eval.tasks.task import Question, read
from pipeline.files import read_json, write_json
from pipeline.rows import corpus_of, training_rows
from pipeline.stage import Run
from tokenizer import encode
from tokenizer.encode import Encoder

Solve = Callable[[list[list[int]], list[str]], list[int]]  # (prompts, golds) → right ones of `pass_at`


def choose(run: Run, encoder: Encoder, context: int, solve: Solve) -> tuple[list[dict], dict[str, int]]:
    """(`prompt` ids and `gold` of each problem to train on, how many were drawn and what became of them).

    Where too few for one step are solved sometimes, some of the others are used all the same, and counted.
    Raises UserError where not even all those that fit the context are enough.
    """
    spec = run.spec
    fitting, counts = draw(run, encoder, context, spec.prompts)
    ids = {p.id: p.prompt(encoder) for p in fitting}
    needed = spec.batch_size // spec.group_size  # prompts of a step
    if len(fitting) < needed:
        fit = f"of {counts['drawn']} drawn {len(fitting)} fit beside {spec.max_new_tokens} new tokens"
        run.refuse("prompts", f"a step takes {needed}, and {fit}: draw more, or lower max_new_tokens")
    solved = [None] * len(fitting)
    if spec.pass_at:
        solved = _solved(run, fitting, ids, solve)
    use = [_usefulness(n, spec.pass_at) for n in solved]
    kept = use.count(0)
    counts |= {"kept": kept}
    counts |= {"never solved": use.count(1), "always solved": use.count(2)}
    counts |= {"used all the same": max(0, needed - kept)}
    message = ", ".join(f"{n} {what}" for what, n in counts.items())
    print(f"{run.experiment.path}: stages.{run.name}.prompts: {message}", file=sys.stderr)
    used = sorted(zip(use, fitting), key=lambda pair: pair[0])[: max(kept, needed)]
    return [{"prompt": ids[p.id], "gold": p.gold} for _, p in used], counts


def draw(run: Run, encoder: Encoder, context: int, most: int | None) -> tuple[list[Question], dict[str, int]]:
    """Up to `most` training problems in the order of the seed, and how many were left out and why.

    One has to fit beside an answer however the experiment's conditions split numbers.
    """
    spec, skipped, corpus = run.spec, Counter(), corpus_of(run.spec, run.seed)
    rows = training_rows(spec.data, gsm8k.FORMAT, name=spec.name, corpus=corpus, skipped=skipped)
    problems, more = read(gsm8k.TASK, rows)
    skipped += more
    drawn = random.Random(run.seed).sample(problems, min(most or len(problems), len(problems)))
    plain = encode.every_split(encoder.condition, run.experiment)
    fitting = [p for p in drawn if p.fits(plain, context, spec.max_new_tokens)]
    counts = {f"rows whose {reason}": n for reason, n in skipped.items()}
    return fitting, counts | {"drawn": len(drawn), "too long": len(drawn) - len(fitting)}


def _solved(run: Run, problems: list[Question], ids: dict[str, list[int]], solve: Solve) -> list[int]:
    """How often each problem was solved: written to prompts.json, or read there by a run that goes on."""
    path = run.dir / "prompts.json"
    known = read_json(path)
    if known is None:
        counts = solve([ids[p.id] for p in problems], [p.gold for p in problems])
        known = {p.id: count for p, count in zip(problems, counts)}
        write_json(path, known)
    return [known[p.id] for p in problems]


def _usefulness(solved: int | None, samples: int) -> int:
    """0 for a prompt that is solved sometimes (or was not asked), 1 for never, 2 for always."""
    return 0 if solved is None or 0 < solved < samples else 1 if solved == 0 else 2


def in_order(problems: list[dict], run: Run) -> list[dict]:
    """Problems for every step, one shuffle of all of them after the other.

    TRL's sampler shuffles by a generator that a resumed run starts afresh; so the order is written out.
    """
    chance, places = random.Random(run.seed), run.spec.steps * run.spec.batch_size // run.spec.group_size
    order: list[dict] = []
    while len(order) < places:
        order += chance.sample(problems, len(problems))
    return order[:places]
