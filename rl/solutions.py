"""What a verifier learns from: solutions that generators sample, each with the grader's label.

Problems come from the training rows, without those that are held out. Sampling goes in chunks of problems, each written when it is
labelled, so a stage that is killed goes on behind the last one; chance depends on the seed, the generator, the problem
and the sample's number alone. Then equal solutions of a problem become one, and each problem keeps as many right ones as wrong ones:
the label cannot be told from the question. samples.parquet has them all, those that were left out too.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval import dev, tasks
from eval.decode.generate import Decoder
from eval.grading.programs import run_programs
from eval.models import open_model
from eval.tasks import gsm8k
from eval.tasks.task import Question, load
from pipeline.stage import Run
from rl import prompts
from tokenizer.encode import Encoder
from training import Place

ROWS = 1024  # solutions of a chunk, about: what a kill can lose
SCHEMA = pa.schema(
    {
        "id": pa.string(),  # hash of the question
        "prompt": pa.list_(pa.int32()),
        "completion": pa.list_(pa.int32()),
        "text": pa.string(),  # the completion, rendered
        "right": pa.bool_(),
        "generator": pa.string(),  # the stage that wrote it, the first of several
        "times": pa.int32(),  # it was sampled
    }
)  # and, in samples.parquet, `used`: whether it is trained on


class Solution(NamedTuple):
    id: str  # hash of the question
    ids: np.ndarray  # int32, prompt and completion
    start: int  # of the completion
    right: bool


# --- problems -------------------------------------------------------------------------------------------------


def problems(run: Run, encoder: Encoder, context: int) -> tuple[list[Question], dict[str, int]]:
    """The training problems to be solved, and how many were left out and why.

    Generated rows repeat: every sum of two digits is in each split. What is held out is left out here, by the hash of the
    question. Raises UserError where nothing is left.
    """
    left, counts = prompts.draw(run, encoder, context, run.spec.problems)
    if not left:
        fit = f"none of {counts['drawn']} problems fits beside them in the context of {context}"
        run.refuse("max_new_tokens", f"{fit}; lower it")
    held_out = _held_out(run)
    for where, apart in held_out.items():
        kept = [problem for problem in left if problem.id not in apart]
        if kept != left:
            counts[f"left out because of {where}"] = len(left) - len(kept)
        if not kept:
            message = (
                f"all {len(left)} problems that could be drawn are of {where}, which a verifier may not see"
            )
            run.refuse("data", f"{message}; take other data, or another set")
        left = kept
    refuse_held_out(run, held_out, [problem.id for problem in left])
    return left, counts


def refuse_held_out(run: Run, held_out: dict[str, set[str]], ids: Sequence[str]) -> None:
    """Raises UserError where a problem, by the hash of its question, is one that training may not see."""
    for where, apart in held_out.items():
        if seen := apart.intersection(ids):
            message = f"{len(seen)} of its problems are of {where}, which a verifier may not see"
            run.refuse("data", f"{message}; take other data, or another set")


def _held_out(run: Run) -> dict[str, set[str]]:
    """The hashes of the dev rows, and of every evaluation's questions but those of training rows."""
    spec = run.spec
    apart = {"the dev rows": {item.id for item in load(gsm8k.TASK, spec.data, "dev", name=spec.name)[0]}}
    for name, each in (run.experiment.eval.sets if run.experiment.eval else {}).items():
        if each.split != "train" and tasks.get(each.task).in_words:
            items, _ = load(tasks.get(each.task), each.data, each.split, name=each.name, limit=each.limit)
            apart[f"eval.sets.{name}"] = {item.id for item in items}
    return apart


# --- sampling -------------------------------------------------------------------------------------------------


def sample(
    run: Run,
    place: Place,
    encoder: Encoder,
    generators: dict[str, Path],
    asked: list[Question],
    folder: str = "samples",
) -> pa.Table:
    """Every solution of every problem, as SCHEMA has them; those that an earlier start left in `folder` are read."""
    size = max(1, ROWS // _each(run))
    chunks = [asked[i : i + size] for i in range(0, len(asked), size)]
    (run.dir / folder).mkdir(exist_ok=True)
    paths = {
        (name, i): run.dir / folder / f"{name}-{i:05}.parquet"
        for name in generators
        for i in range(len(chunks))
    }
    mine = list(paths)[place.rank :: place.world]
    missing = [key for key in mine if not _is_whole(paths[key])]
    sizes = {key: len(chunks[key[1]]) * _each(run) for key in mine}
    total = sum(sizes.values())
    with run.bar(total, "solutions", total - sum(sizes[key] for key in missing)) as bar:
        for name, directory in generators.items():
            decoder = None
            for key in missing:
                if key[0] == name:
                    decoder = decoder or Decoder(open_model(directory, run.spec.precision)[0])
                    groups = _continue(run, decoder, encoder, name, chunks[key[1]], bar.update)
                    _write(paths[key], _labelled(encoder, name, chunks[key[1]], groups))
    place.gather(0)  # a barrier: all chunks are there
    return pa.concat_tables([pq.read_table(path) for path in paths.values()])


def _each(run: Run) -> int:
    """Solutions of a problem by one generator."""
    return run.spec.samples // len(run.spec.generators or [None])


def _continue(
    run: Run, decoder: Decoder, encoder: Encoder, generator: str, asked: list[Question], progress: Callable
) -> list[list[list[int]]]:
    """The solutions of each problem of a chunk as ids."""
    groups = decoder.generate(
        [problem.prompt(encoder) for problem in asked],
        run.spec.max_new_tokens,
        eos=encoder.eos,
        suppress=encoder.suppressed,
        temperature=run.spec.temperature,
        samples=_each(run),
        keys=[random.Random(f"{run.seed} {generator} {problem.id}").getrandbits(64) for problem in asked],
        progress=progress,
    )
    return groups if _each(run) > 1 else [[ids] for ids in groups]


def _labelled(
    encoder: Encoder, generator: str, asked: list[Question], groups: list[list[list[int]]]
) -> pa.Table:
    """Each problem's different solutions with the grader's label, programs by running them."""
    rows = []
    for problem, group in zip(asked, groups):
        prompt = problem.prompt(encoder)
        for ids, times in Counter(map(tuple, group)).items():
            text = encoder.render(ids)
            row = {"id": problem.id, "prompt": prompt, "ids": ids, "times": times, "gold": problem.gold}
            rows.append(row | {"completion": text} | problem.grade(text, problem.gold))
    run_programs(rows)
    columns = {"completion": "ids", "text": "completion", "right": "correct"}
    own = {
        name: [row[columns.get(name, name)] for row in rows] for name in SCHEMA.names if name != "generator"
    }
    return pa.table(own | {"generator": [generator] * len(rows)}, SCHEMA)


def _write(path: Path, table: pa.Table) -> None:
    """At once: a kill leaves a whole file or none."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, aside, compression="zstd")
    os.replace(aside, path)


def _is_whole(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:  # pyarrow's
        print(f"{path}: cannot be read ({str(error).splitlines()[0]}); sampled again", file=sys.stderr)
        return False
    return True


# --- what is trained on ---------------------------------------------------------------------------------------


def deduplicated(samples: pa.Table) -> pa.Table:
    """Each problem's different solutions, in order, `times` added up."""
    completions = _lists(samples["completion"])
    times: Counter = Counter()
    first: dict[tuple[str, bytes], int] = {}
    for i, (id, ids, n) in enumerate(
        zip(samples["id"].to_pylist(), completions, samples["times"].to_pylist())
    ):
        times[key := (id, ids.tobytes())] += n
        first.setdefault(key, i)
    kept = samples.take(list(first.values()))
    column = SCHEMA.get_field_index("times")
    return kept.set_column(column, SCHEMA.field("times"), pa.array([times[key] for key in first], pa.int32()))


def balanced(samples: pa.Table, seed: int) -> tuple[pa.Table, dict[str, int]]:
    """The samples with a column `used`: of each problem as many right ones as wrong ones; and what there was of each."""
    by_problem: dict[str, tuple[list[int], list[int]]] = {}
    for i, (id, right) in enumerate(zip(samples["id"].to_pylist(), samples["right"].to_pylist())):
        by_problem.setdefault(id, ([], []))[right].append(i)
    used = np.zeros(len(samples), bool)
    for id, sides in by_problem.items():
        chance, fewer = random.Random(f"{seed} {id}"), min(map(len, sides))
        for side in sides:
            used[chance.sample(side, fewer)] = True
    wrong, right = (sum(len(sides[i]) for sides in by_problem.values()) for i in (0, 1))
    counts = {"sampled": sum(samples["times"].to_pylist()), "right": right, "wrong": wrong}
    counts |= {
        "problems": len(by_problem),
        "of them never solved": sum(not r for _, r in by_problem.values()),
    }
    counts |= {"always solved": sum(not w for w, _ in by_problem.values()), "used": int(used.sum())}
    return samples.append_column("used", pa.array(used)), counts


def select(run: Run, samples: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Samples as samples.parquet keeps them, and how many there are of each sort.

    Raises UserError where no problem has both right and wrong ones.
    """
    table, counts = balanced(deduplicated(samples), run.seed)
    if not counts["used"]:
        sort = "right" if counts["right"] else "wrong"
        message = f"all different solutions of each problem are alike ({counts['right']} right, {counts['wrong']} wrong)"
        remedy = "raise temperature or samples" if sort == "right" else "train its generators longer"
        run.refuse("samples", f"{message}, so a verifier has nothing to tell apart; {remedy}")
    refuse_held_out(run, _held_out(run), samples["id"].unique().to_pylist())
    return table, counts


def watched(
    run: Run, place: Place, encoder: Encoder, generators: dict[str, Path], context: int
) -> list[Solution]:
    """Solutions of dev problems, as many right as wrong ones of each, to look at; none where there are no such."""
    asked = dev.load(run, encoder, context, run.spec.data, run.spec.name)
    samples = sample(run, place, encoder, generators, asked, "dev_samples")
    table, counts = balanced(deduplicated(samples), run.seed)
    if place.rank == 0:
        message = f"looks at {counts['used']} solutions of dev problems, of {counts['right']} right and {counts['wrong']} wrong"
        print(f"{run.experiment.path}: stages.{run.name}.eval_every: {message}", file=sys.stderr)
    return to_solutions(table)


def to_solutions(table: pa.Table) -> list[Solution]:
    """The used ones."""
    used = table.filter(table["used"])
    columns = (
        used["id"].to_pylist(),
        _lists(used["prompt"]),
        _lists(used["completion"]),
        used["right"].to_pylist(),
    )
    return [
        Solution(id, np.concatenate([prompt, completion]), len(prompt), right)
        for id, prompt, completion, right in zip(*columns)
    ]


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    """A column of lists of ids, each as int32."""
    return [row for chunk in column.chunks for row in np.split(chunk.flatten().to_numpy(), _ends(chunk))]


def _ends(chunk: pa.ListArray) -> np.ndarray:
    return np.cumsum(chunk.value_lengths().to_numpy())[:-1]


def order(count: int, examples: int, batch_size: int, seed: int) -> np.ndarray:
    """Which solution each place of training gets: whole steps of one shuffle of all of them after the other."""
    places = -(-examples // batch_size) * batch_size
    epochs = -(-places // count)
    shuffles = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in range(epochs)]
    return np.concatenate(shuffles)[:places]
