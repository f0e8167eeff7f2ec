"""Train a verifier: a model that reads a question and a solution and says how likely the solution ends right.

    python -m rl.verifier experiments/miniature_programs.yaml mul_tokens 1 verifier
    torchrun --standalone --nproc_per_node=8 -m rl.verifier experiments/tinygsm_programs.yaml mul_tokens 0 verifier

Fine-tuned generators sample solutions of the training problems, our grader labels them (rl/solutions.py), and a model
that starts from the generator's weights learns the labels (rl/verifier_trainer.py): Cobbe et al. 2021,
arXiv:2110.14168; TinyGSM, arXiv:2312.09241. An evaluation then ranks samples by the score at their last token
(eval/rerank.py). Each condition's verifier reads its own ids.

Writes model/, a `GPT2ForTokenClassification` with one label, samples.parquet and metrics.jsonl (a line a step, and with
`eval_every` one for each look at solutions of dev problems, sampled as those of training are).
Killed, it goes on: behind the last labelled chunk of problems, or, with `save_every`, from the last checkpoint.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import training
from model import GPT, GPTConfig
from pipeline import world
from pipeline.errors import UserError, cli
from pipeline.files import read_json
from pipeline.identity import stage_dir
from pipeline.sections import Verifier
from pipeline.stage import Run
from rl import solutions
from rl.solutions import Solution
from tokenizer import encode
from tokenizer.encode import Encoder
from training import Place


def usable(spec: Verifier, processes: int) -> int:
    """Among how many processes a batch can be shared out."""
    return world.divisor(spec.batch_size, processes)


def main(argv: list[str] | None = None) -> None:
    with training.begin("verifier", argv, __doc__, usable=usable) as (run, place):
        if run is not None:
            train(run, place)


def train(run: Run, place: Place) -> None:
    import finetuning  # importing transformers takes seconds: only when there is something to train
    from rl import verifier_trainer

    run.check_precision()
    config = verifier_trainer.configure(run)
    encoder = encode.from_dir(run.parent / "model")
    generators = {name: directory(run, name) for name in run.spec.generators or ()} or {"parent": run.parent}
    start = directory(run, run.spec.init) if run.spec.init else run.parent
    shapes = [shape(each, encoder) for each in (start, *generators.values())]
    context = min(each.block_size for each in shapes)
    asked, drawn = solutions.problems(run, encoder, context)
    samples, counts = solutions.select(run, solutions.sample(run, place, encoder, generators, asked))
    if world.RANK == 0:
        pq.write_table(samples, run.dir / "samples.parquet", compression="zstd")
        told = ", ".join(f"{n:,} {what}" for what, n in (drawn | counts).items())
        print(f"{run.experiment.path}: stages.{run.name}.samples: {told}", file=sys.stderr)
    used = solutions.to_solutions(samples)
    watched = solutions.watched(run, place, encoder, generators, context) if run.spec.eval_every else []
    order = solutions.order(len(used), run.spec.examples, run.spec.batch_size, run.seed)
    outputs = verifier_trainer.fit(run, place, encoder, start / "model", used, order, config, watched)
    run.finish(
        ["samples.parquet", *outputs],
        samples=drawn | counts,
        steps=len(order) // run.spec.batch_size,
        examples=len(order),
        **cost(shapes, used, order, samples),
    )
    if world.RANK == 0:
        for folder in ("samples", "dev_samples"):  # samples.parquet has those that are trained on
            shutil.rmtree(run.dir / folder, ignore_errors=True)
    finetuning.clean(run)


def directory(run: Run, name: str) -> Path:
    """Of another stage of the arm."""
    return stage_dir(run.experiment, run.condition, run.seed, name)


def shape(stage: Path, encoder: Encoder) -> GPTConfig:
    """The shape of a stage's model. Raises UserError if it does not have the vocabulary's ids."""
    path = stage / "model/config.json"
    values = read_json(path)
    if values is None or values["vocab_size"] != encoder.size:
        message = f"has {values['vocab_size']} ids, not {encoder.size}" if values else "is not there"
        raise UserError(f"{path}: {message}; rerun the stage that makes it")
    return GPTConfig(*(values[key] for key in ("vocab_size", "n_layer", "n_head", "n_embd", "n_positions")))


def cost(
    shapes: list[GPTConfig], used: list[Solution], order: np.ndarray, samples: pa.Table
) -> dict[str, float]:
    """Tokens trained on and tokens sampled, and FLOPs, of which sampling a token takes a forward pass, a third."""
    lengths = np.array([len(solution.ids) for solution in used])
    trained = int(lengths[order].sum())
    written = samples["completion"].combine_chunks().value_lengths().to_numpy()
    sampled = int((written * samples["times"].to_numpy()).sum())
    with torch.device("meta"):
        first, *others = (GPT(each).flops_per_token(round(lengths.mean())) for each in shapes)
    flops = first * trained + sum(others) / len(others) * sampled / 3
    return {"tokens": trained, "sampled": sampled, "flops": flops}


if __name__ == "__main__":
    cli(main)
