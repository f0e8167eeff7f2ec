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
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import SFTConfig, SFTTrainer

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
    logits = self.get_output_embeddings()(hidden[:, :-1][scored])
    return F.cross_entropy(logits.float(), targets[scored], reduction="sum")


class UnitTrainer(finetuning.Update, SFTTrainer):
    """SFTTrainer on units in their order, with our loss; `report(step, metrics)` hears of every step."""

    loss_is_scaled_for_ga = True

    def __init__(
        self, model: PreTrainedModel, report: Callable[[int, dict], None] | None = None, **kwargs: Any
    ):
        self.report = report
        super().__init__(model, **kwargs)
        model.forward = MethodType(summed_loss, model)  # in `forward`, because DDP looks nowhere else

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the whole step; times the processes, over which DDP averages."""
        return model(**inputs) / num_items_in_batch * self.accelerator.num_processes

    def floating_point_ops(self, inputs) -> int:
        """Counted in sft.batches; here it would walk over the parameters in every step, 2% of its time."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To our report alone: transformers would keep every step's line, and write them with each checkpoint."""
        if self.report and "loss" in logs:  # and not the summary behind the last step
            metrics = {"loss": logs["loss"], "grad_norm": logs["grad_norm"], "lr": logs["learning_rate"]}
            self.report(self.state.global_step, metrics)


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
    """The model of a directory in fp32, without dropout.

    GPT-2's GELU goes by the name under which transformers computes it in one operation and not in eight: the
    same formula, a seventh of the training time on a CPU.
    """
    changes = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh")
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **changes)
    model.config.activation_function = "gelu_new"
    return model


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
        looks = DevLooks(run, encoder, model, problems, len(steps), longest, place.sum)
    with run.bar(sum(tokens), "tokens", sum(tokens[:step])) as bar:
        report = finetuning.Report(run, bar, step, looks)
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
            batch = trainer.data_collator([longest[i] for i in range(n)])
            batch = {name: tensor.to(place.device) for name, tensor in batch.items()}
            with trainer.compute_loss_context_manager():
                trainer.compute_loss(model, batch, num_items_in_batch=1).backward()
            model.zero_grad(set_to_none=True)

        finetuning.fit(trainer, run, place, checkpoint, "rows", attempt)
    if not trainer.is_world_process_zero():
        return []
    files = encode.save_model(trainer.model, encoder, run.dir / "model", run.card())
    return [f"model/{name}" for name in files]
