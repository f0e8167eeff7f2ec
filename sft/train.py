"""Supervised fine-tuning: rows → conversations → batches of ids and labels → TRL's SFTTrainer.

    python -m sft.train experiments/quickstart.yaml mul_tokens 0 sft_gsm8k
    torchrun --standalone --nproc_per_node=8 -m sft.train experiments/gpt2_124m.yaml mul_tokens 0 sft_gsm8k

Rows that do not fit are dropped, never truncated, and counted by reason: kept + dropped = read. With `eval_every`
training is watched on dev problems (eval/dev.py), which changes nothing of it. With `save_every` a stage that was
killed goes on from its last checkpoint and ends with the same weights; else it starts again.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import training
from pipeline import world
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment
from pipeline.files import read_json
from pipeline.formats import described
from pipeline.rows import corpus_of
from pipeline.sections import Sft
from pipeline.stage import Run
from sft.batches import Row, Shape, Unit, draw, group, make_row, pack, take
from sft.curriculum import TASKS, Part, dev_problems, load, parts
from tokenizer import encode
from tokenizer.encode import Encoder
from training import Place


def schedule(run: Run, encoder: Encoder, shape: Shape) -> tuple[list[Unit], list[dict]]:
    """All units in the order of training, `batch_size` of them a step, and what became of each part's rows."""
    ordered, records = [], []
    for number, part in enumerate(parts(run.spec)):
        tally: Counter = Counter()
        units = units_of(part, run.spec, (run.seed, number), encoder, tally, run.experiment)
        with run.bar(round(part.amount), part.budget) as bar:
            taken = take(units, part, run.spec.batch_size, shape, bar.update)
        ordered += group(taken, run.spec.batch_size, (run.seed, number))
        counts = {key: tally.pop(key) for key in ("read", "kept")}
        records.append(
            {"task": part.task, **counts, "dropped": dict(tally), "examples": sum(map(len, taken))}
        )
    return ordered, records


def units_of(
    part: Part,
    spec: Sft,
    seed: tuple,
    encoder: Encoder,
    tally: Counter,
    experiment: Experiment | None = None,
) -> Iterator[Unit]:
    """A part's units without end, in the order of `seed`; `tally` counts its rows.

    `seed` begins with the arm's. A row has to fit in every condition of the experiment.
    """
    table, conversations = load(part, tally, corpus_of(spec, seed[0])), TASKS[part.task]
    tally["read"] += tally.total()
    plain = encode.every_split(encoder.condition, experiment)

    def convert(numbers: list[int]) -> Iterator[Row | str]:
        for messages in conversations([table[i] for i in numbers], spec, encoder.condition.facts):
            if isinstance(messages, str):
                yield messages
            else:
                yield make_row(messages, encoder, plain, spec.max_length)

    rows = draw(len(table), convert, seed, tally, part.data)
    return pack(rows, spec.max_length) if spec.packing else ([row] for row in rows)


# --- the stage ------------------------------------------------------------------------------------------------


def usable(spec: Sft, processes: int) -> int:
    """Among how many processes a batch can be shared out."""
    return world.divisor(spec.batch_size, processes)


def read_shape(run: Run, encoder: Encoder) -> Shape:
    """The parent model's shape. Raises UserError if its vocabulary or its context does not fit."""
    path = run.parent / "model/config.json"
    config = read_json(path)
    if config is None:
        raise UserError(f"{path}: is not there; rerun the stage that makes it")
    if config["vocab_size"] != encoder.size:
        message = f"has {config['vocab_size']} ids and {encoder.condition.name} {encoder.size}"
        raise UserError(f"{path}: {message}; rerun the stage that makes it")
    if config["n_positions"] < run.spec.max_length:
        run.refuse(
            "max_length",
            f"{run.spec.max_length} is more than the model's {config['n_positions']} positions; lower it",
        )
    return Shape(config["n_layer"], config["n_embd"], config["vocab_size"])


def main(argv: list[str] | None = None) -> None:
    with training.begin("sft", argv, __doc__, usable=usable) as (run, place):
        if run is not None:
            train(run, place)


def train(run: Run, place: Place) -> None:
    import finetuning  # importing TRL takes 5 seconds: only when there is something to train
    from sft import trl_trainer

    encoder = encode.from_dir(run.parent / "model")
    shape = read_shape(run, encoder)
    run.check_precision()
    config = trl_trainer.configure(run)
    problems = dev_problems(run, encoder) if run.spec.eval_every else []
    units, records = schedule(run, encoder, shape)
    steps = len(units) // run.spec.batch_size
    if run.spec.warmup >= steps:
        run.refuse("warmup", f"{run.spec.warmup} steps are not less than the stage's {steps}; lower it")
    outputs = trl_trainer.fit(run, place, encoder, units, config, problems)
    rows = [row for unit in units for row in unit]
    run.finish(
        outputs,
        parts=records,
        steps=steps,
        examples=len(rows),
        tokens=sum(len(row.ids) for row in rows),
        supervised_tokens=sum(row.supervised for row in rows),
        facts_per_example=sum(row.facts for row in rows) / len(rows),
        flops=sum(map(shape.flops, rows)),
    )
    finetuning.clean(run)
    if world.RANK == 0:
        for record in records:
            print(f"{run.experiment.path}: stages.{run.name}: {told(record)}", file=sys.stderr)


def told(record: dict) -> str:
    """What became of a part's rows, for people."""
    counts = f"of {record['read']:,} rows read {record['kept']:,} kept, {record['examples']:,} trained on"
    return f"{record['task']}: {counts}; dropped: {described(Counter(record['dropped'])) or 'none'}"


if __name__ == "__main__":
    cli(main)
