"""Supervised fine-tuning: rows → conversations → batches of ids and labels → TRL's SFTTrainer.

    python -m sft.train experiments/quickstart.yaml mul_tokens 0 sft_gsm8k
    torchrun --standalone --nproc_per_node=8 -m sft.train experiments/gpt2_124m.yaml mul_tokens 0 sft_gsm8k

Rows that do not fit are dropped, never truncated, and counted by reason: kept + dropped = read. With
`save_every` a stage that was killed goes on from its last checkpoint and ends with the same weights; else it
starts again.
"""

from collections import Counter
from collections.abc import Iterator

from pipeline import stage, world
from pipeline.errors import UserError, cli
from pipeline.files import read_json
from pipeline.sections import Sft
from pipeline.stage import Run
from sft.batches import Row, Shape, Unit, draw, group, make_row, pack, take
from sft.curriculum import TASKS, Part, load, parts
from tokenizer import encode
from tokenizer.encode import Encoder


def schedule(run: Run, encoder: Encoder, shape: Shape) -> tuple[list[Unit], list[dict]]:
    """All units in the order of training, `batch_size` of them a step, and what became of each part's rows."""
    ordered, records = [], []
    for number, part in enumerate(parts(run.spec)):
        tally: Counter = Counter()
        units = units_of(part, run.spec, (run.seed, number), encoder, tally)
        with run.bar(round(part.amount), part.budget) as bar:
            taken = take(units, part, run.spec.batch_size, shape, bar.update)
        ordered += group(taken, run.spec.batch_size, (run.seed, number))
        counts = {key: tally.pop(key) for key in ("read", "kept")}
        records.append(
            {"task": part.task, **counts, "dropped": dict(tally), "examples": sum(map(len, taken))}
        )
    return ordered, records


def units_of(part: Part, spec: Sft, seed: tuple, encoder: Encoder, tally: Counter) -> Iterator[Unit]:
    """A part's units without end, in the order of `seed`; `tally` counts its rows."""
    table, task = load(part), TASKS[part.task]
    plain = Encoder(encoder.condition.plain)

    def convert(i: int) -> Row | str:
        messages = task.messages(table[i], spec, encoder.condition.facts)
        return messages if isinstance(messages, str) else make_row(messages, encoder, plain, spec.max_length)

    rows = draw(len(table), convert, seed, tally, part.data)
    return pack(rows, spec.max_length) if spec.packing else ([row] for row in rows)


# --- the stage ------------------------------------------------------------------------------------------------


def accumulation(run: Run) -> int:
    """Forward passes per step on one device. Raises UserError if the processes cannot share a batch."""
    spec = run.spec
    passes, left = divmod(spec.batch_size, spec.micro_batch * world.WORLD)
    if left or not passes:
        said = (
            f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch} × {world.WORLD} processes"
        )
        run.refuse("batch_size", f"{said}; lower micro_batch or use fewer processes")
    return passes


def read_shape(run: Run, encoder: Encoder) -> Shape:
    """The parent model's shape. Raises UserError if its vocabulary or its context does not fit."""
    path = run.parent / "model/config.json"
    config = read_json(path)
    if config is None:
        raise UserError(f"{path}: is not there; rerun the stage that makes it")
    if config["vocab_size"] != encoder.size:
        said = f"has {config['vocab_size']} ids and {encoder.condition.name} {encoder.size}"
        raise UserError(f"{path}: {said}; rerun the stage that makes it")
    if config["n_positions"] < run.spec.max_length:
        said = f"{run.spec.max_length} is more than the {config['n_positions']} positions of the model"
        run.refuse("max_length", f"{said}; lower it")
    return Shape(config["n_layer"], config["n_embd"], config["vocab_size"])


def main(argv: list[str] | None = None) -> None:
    with stage.begin("sft", argv, __doc__, resumable=True) as run:
        if run is None:
            return
        encoder = encode.from_dir(run.parent / "model")
        passes, shape = accumulation(run), read_shape(run, encoder)
        run.check_precision()
        units, records = schedule(run, encoder, shape)
        steps = len(units) // run.spec.batch_size
        if run.spec.warmup >= steps:
            run.refuse("warmup", f"{run.spec.warmup} steps are not less than the stage's {steps}; lower it")

        from sft import trl_trainer  # importing TRL takes 5 seconds: only when there is something to train

        outputs = trl_trainer.fit(run, encoder, units, passes)
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


if __name__ == "__main__":
    cli(main)
