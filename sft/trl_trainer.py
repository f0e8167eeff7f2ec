"""TRL's SFTTrainer, told exactly what to train on and how: the one file of sft/ that touches TRL.

It gets ids and labels in the order of training and tokenizes, truncates, shuffles and packs nothing itself. The loss
is ours: the mean of −ln p over the supervised tokens of a step, whatever its micro-batches and processes. The head
scores those positions alone, where TRL's scores every position on a CPU.
"""

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import SFTConfig, SFTTrainer

import cross_entropy
import finetuning
from eval.dev import DevLooks
from eval.tasks.task import Question
from pipeline.sections import Sft
from pipeline.stage import Run
from sft.batches import Unit
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.encode import Encoder
from training import Place

FREE = {"max_grad_norm": 1.0}  # of the whole gradient; a stage's `trainer` may say otherwise


def settings(spec: Sft, seed: int, directory: Path) -> dict[str, Any]:
    """Every field of SFTConfig that decides what is trained."""
    return finetuning.settings(spec, seed, directory) | dict(
        # the data: ready as it is, in this order, once
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        shuffle_dataset=False,
        packing=False,
        padding_free=False,
        max_length=None,
        num_train_epochs=1,
        max_steps=-1,
        loss_type="nll",
    )


def configure(run: Run) -> SFTConfig:
    """TRL's configuration. Raises UserError for a key of `trainer` that it refuses, or that the stage sets."""
    owned = settings(run.spec, run.seed, run.dir / "checkpoints")
    return finetuning.configure(SFTConfig, run, owned, FREE)


def summed_loss(
    self: PreTrainedModel, input_ids: Tensor, labels: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    """Sum of −ln p over the labels of (batch, tokens) ids: a causal model's forward, the head where labels are.

    No attention mask: padding is on the right, where causal attention does not look, and packed rows are told
    apart by their positions, each from 0.
    """
    hidden = self.base_model(input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    targets = labels[:, 1:]
    scored = targets != IGNORE
    head = self.get_output_embeddings().weight
    return cross_entropy.summed(hidden[:, :-1][scored], head, targets[scored])


class UnitTrainer(finetuning.SummedLoss, SFTTrainer):
    """SFTTrainer on units in their order, with our loss."""

    def __init__(self, model: PreTrainedModel, *args: Any, **kwargs: Any):
        super().__init__(model, *args, **kwargs)
        model.forward = MethodType(summed_loss, model)  # in `forward`, because DDP looks nowhere else


class Collator:
    """Units as rectangles of ids and labels, padded on the right; with positions where rows are packed."""

    def __init__(self, pad: int, packed: bool):
        self.pad, self.packed = pad, packed

    def __call__(self, units: list[dict]) -> dict[str, Tensor]:
        def rectangle(lines: list[Tensor], fill: int) -> Tensor:
            return pad_sequence(lines, batch_first=True, padding_value=fill)

        batch = {
            "input_ids": rectangle([torch.tensor(unit["input_ids"]) for unit in units], self.pad),
            "labels": rectangle([torch.tensor(unit["labels"]) for unit in units], IGNORE),
        }
        if self.packed:
            positions = [torch.cat([torch.arange(n) for n in unit["seq_lengths"]]) for unit in units]
            batch["position_ids"] = rectangle(positions, 0)
        return batch


def dataset(units: list[Unit]) -> Dataset:
    """Units as lines of `input_ids` and `labels`, rows behind each other, and `seq_lengths`, tokens per row."""
    return Dataset.from_dict(
        {
            "input_ids": [np.concatenate([row.ids for row in unit]) for unit in units],
            "labels": [np.concatenate([row.labels for row in unit]) for unit in units],
            "seq_lengths": [np.array([len(row.ids) for row in unit], np.int32) for unit in units],
        }
    )


def load(directory: Path) -> PreTrainedModel:
    return finetuning.load(AutoModelForCausalLM, directory)


def build(
    model: PreTrainedModel,
    encoder: Encoder,
    units: list[Unit],
    spec: Sft,
    config: SFTConfig,
    report: Callable[[int, dict], None] | None = None,
) -> UnitTrainer:
    """A trainer that takes the units in their order."""
    return UnitTrainer(
        model,
        report,
        spec=spec,
        args=config,
        train_dataset=dataset(units),
        processing_class=encoder.hf,
        data_collator=Collator(encoder.pad, spec.packing),
    )


def fit(
    run: Run, place: Place, encoder: Encoder, units: list[Unit], config: SFTConfig, problems: list[Question]
) -> list[str]:
    """Train the parent's model on the units, from the last checkpoint on; the names of the files of its model.

    `problems` are looked at on the way.
    """
    checkpoint, step = finetuning.resume(run, place)
    size = run.spec.batch_size
    steps = [units[i : i + size] for i in range(0, len(units), size)]
    tokens = [sum(len(row.ids) for unit in batch for row in unit) for batch in steps]
    model, looks = load(run.parent / "model"), None
    if problems:
        longest = run.experiment.eval.max_new_tokens if run.experiment.eval else run.spec.max_length
        looks = DevLooks(run, encoder, model, problems, longest, place.sum)
    with run.bar(sum(tokens), "tokens", sum(tokens[:step])) as bar:
        report = finetuning.Report(run, bar, step, len(steps), looks)
        trainer = build(
            model,
            encoder,
            units,
            run.spec,
            config,
            lambda step, metrics: report(step, metrics, done=tokens[step - 1]),
        )
        longest = dataset(sorted(units, key=lambda unit: -sum(len(row.ids) for row in unit))[:size])

        def attempt(model: nn.Module, n: int) -> None:
            trainer.attempt(model, [longest[i] for i in range(n)])

        finetuning.fit(trainer, run, place, checkpoint, "rows", attempt)
    if not trainer.is_world_process_zero():
        return []
    files = encode.save_model(trainer.model, encoder, run.dir / "model", run.card())
    return [f"model/{name}" for name in files]
