"""How fast does a stage train, against plain TRL on the same rows with the same model?

    python -m scripts.bench.sft experiments/quickstart.yaml sft_gsm8k
    python -m scripts.bench.sft experiments/quickstart.yaml sft_gsm8k --data gsm8k/train.parquet

Both train a randomly initialised model of the experiment's shape on the same ids and labels, with the same
optimizer, batch size and precision, in turns, in one process. Plain TRL is SFTTrainer as it comes, the rows
in random order; ours is sft.trl_trainer, in batches of like length. Counted are the tokens of the rows, not
their padding.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from pipeline.errors import UserError, cli
from pipeline.experiment import load
from pipeline.sections import Sft
from sft.batches import Shape, Unit, group, take
from sft.curriculum import parts
from sft.train import units_of
from tokenizer import encode
from tokenizer.encode import Encoder
from training import deterministic

TURNS = 3


def padded(units: list[Unit], micro_batch: int) -> int:
    """Tokens with padding."""
    lines = [sum(len(row.ids) for row in unit) for unit in units]
    return sum(max(lines[i : i + micro_batch]) * micro_batch for i in range(0, len(lines), micro_batch))


def compare(spec: Sft, encoder: Encoder, shape: dict[str, int]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from sft import trl_trainer

    deterministic()
    (part,) = parts(spec)
    tally: Counter = Counter()
    flops = Shape(shape["n_layer"], shape["n_embd"], encoder.size)
    endless = units_of(part, spec, (0, 0), encoder, tally)
    units = take(endless, part, spec.batch_size, flops, lambda spent: None)
    grouped = group(units, spec.batch_size, (0, 0))
    tokens = sum(len(row.ids) for unit in units for row in unit)
    scored = sum(row.supervised for unit in units for row in unit)
    print(
        f"{part.data}: {dict(tally)}; {tokens:,} tokens, {scored / tokens:.0%} supervised, {len(units)} rows"
    )

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        GPT2LMHeadModel(GPT2Config(vocab_size=encoder.size, **shape)).save_pretrained(model)
        config = SFTConfig(**trl_trainer.settings(spec, 0, Path(folder)))

        def plain() -> SFTTrainer:
            start = trl_trainer.AutoModelForCausalLM.from_pretrained(model)
            rows = trl_trainer.dataset(units)
            trainer = SFTTrainer(start, args=config, train_dataset=rows, processing_class=encoder.hf)
            trainer.remove_callback(PrinterCallback)
            return trainer

        rates = {"plain TRL": [], "ours": []}
        for _ in range(TURNS):
            ours = trl_trainer.build(trl_trainer.load(model), encoder, grouped, spec, config)
            for name, trainer in (("plain TRL", plain()), ("ours", ours)):
                started = time.perf_counter()
                trainer.train()
                rates[name].append(tokens / (time.perf_counter() - started))
    for name, order in (("plain TRL", units), ("ours", grouped)):
        turns = ", ".join(f"{rate:,.0f}" for rate in rates[name])
        waste = padded(order, spec.micro_batch) / tokens - 1
        print(f"{name:<10} {statistics.median(rates[name]):>9,.0f} tokens/s   ({turns}); padding {waste:.0%}")
    print(f"{'ratio':<10} {statistics.median(rates['ours']) / statistics.median(rates['plain TRL']):>9.2f}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.sft",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="the experiment's YAML file")
    parser.add_argument("stage", metavar="STAGE", help="an sft stage of it with one task")
    parser.add_argument("--data", metavar="SOURCE", help="other rows for it")
    parser.add_argument("--rows", type=int, default=320, help="how many, in each turn")
    args = parser.parse_args(argv)
    experiment = load(args.experiment)
    spec = experiment.stages.get(args.stage)
    if not isinstance(spec, Sft) or spec.phases:
        raise UserError(f"{args.experiment}: '{args.stage}' is no sft stage with one task; name another")
    model = experiment.stages[experiment.ancestor(args.stage, "pretrain")]
    spec.data, spec.examples, spec.tokens, spec.flops = args.data or spec.data, args.rows, None, None
    shape = {key: getattr(model, key) for key in ("n_layer", "n_head", "n_embd")}
    encoder = encode.for_run(experiment, next(iter(experiment.conditions)))
    compare(spec, encoder, shape | {"n_positions": model.block_size})


if __name__ == "__main__":
    cli(main)
