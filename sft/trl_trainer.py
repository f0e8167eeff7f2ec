"""TRL's SFTTrainer, told exactly what to train on and how.

It gets ids and labels in the order of training and tokenizes, truncates, shuffles and packs nothing itself.
The loss is ours: the head scores the supervised positions alone, where TRL's scores every position on a CPU.
"""

import math
import shutil
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from model import deterministic
from pipeline.errors import UserError
from pipeline.files import forget_lines, last_checkpoint
from pipeline.progress import Bar
from pipeline.sections import SCHEDULES, Sft
from pipeline.stage import Run
from sft.batches import Unit
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.encode import Encoder


def settings(spec: Sft, seed: int, passes: int, directory: Path) -> dict[str, Any]:
    """Every field of SFTConfig that decides what is trained; a step is `passes` forward passes."""
    ours = dict(
        output_dir=str(directory),
        seed=seed,
        data_seed=seed,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        # the data: ready as it is, in this order
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        shuffle_dataset=False,
        packing=False,
        padding_free=False,
        max_length=None,
        per_device_train_batch_size=spec.micro_batch,
        gradient_accumulation_steps=passes,
        dataloader_drop_last=False,
        num_train_epochs=1,
        max_steps=-1,
        # the optimization
        average_tokens_across_devices=True,
        learning_rate=spec.lr,
        lr_scheduler_type=SCHEDULES[spec.schedule],
        warmup_steps=spec.warmup,
        optim="adamw_torch_fused",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=spec.weight_decay,
        max_grad_norm=1.0,
        bf16=spec.precision == "bf16",
        fp16=False,
        activation_checkpointing=False,
        # what it tells and keeps
        logging_strategy="steps",
        logging_steps=10,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        log_level="error",
        log_level_replica="error",
        disable_tqdm=True,
        report_to=[],
        eval_strategy="no",
        save_strategy="steps" if spec.save_every else "no",
        save_steps=spec.save_every or 1,
        save_total_limit=1,
        push_to_hub=False,
    )
    return ours | spec.trainer


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


class Trainer(SFTTrainer):
    loss_is_scaled_for_ga = True

    def __init__(self, model: PreTrainedModel, **kwargs: Any):
        super().__init__(model, **kwargs)
        model.forward = MethodType(summed_loss, model)  # in `forward`, because DDP looks nowhere else

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the whole step; times the processes, over which DDP averages."""
        return model(**inputs) / num_items_in_batch * self.accelerator.num_processes

    def floating_point_ops(self, inputs) -> int:
        """Counted in sft.batches; here it would walk over the parameters in every step, 2% of its time."""
        return 0

    def _send_telemetry(self) -> None:
        """A training run tells nobody about itself."""


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


class Report(TrainerCallback):
    """The progress bar, in tokens, and the loss in metrics.jsonl."""

    def __init__(self, run: Run, bar: Bar, tokens: list[int]):
        self.run, self.bar, self.tokens = run, bar, tokens

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(self.tokens[state.global_step - 1])
        control.should_log |= state.global_step == state.max_steps

    def on_log(self, args, state, control, logs, **kwargs):
        if not math.isfinite(logs.get("loss", 0.0)):
            said = f"the loss is not finite at step {state.global_step}; lower lr, or raise warmup"
            raise UserError(f"{self.run.experiment.path}: stages.{self.run.name}: {said}")
        if "loss" in logs:
            kept = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
            self.run.log(step=state.global_step, **kept)


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
    model: PreTrainedModel, encoder: Encoder, units: list[Unit], packed: bool, config: SFTConfig
) -> Trainer:
    """A trainer that takes the units in their order."""
    deterministic()
    trainer = Trainer(
        model,
        args=config,
        train_dataset=dataset(units),
        processing_class=encoder.hf,
        data_collator=Collator(encoder.pad, packed),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def fit(run: Run, encoder: Encoder, units: list[Unit], passes: int) -> list[str]:
    """Train the parent's model on the units and save it in run.dir/model; the names of its files."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    checkpoints, size = run.dir / "checkpoints", run.spec.batch_size
    try:
        config = SFTConfig(**settings(run.spec, run.seed, passes, checkpoints))
    except (TypeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{run.experiment.path}: stages.{run.name}: TRL refuses: {said}") from None
    trainer = build(load(run.parent / "model"), encoder, units, run.spec.packing, config)
    last, step = last_checkpoint(checkpoints)
    forget_lines(run.dir / "metrics.jsonl", step)
    steps = [units[i : i + size] for i in range(0, len(units), size)]
    tokens = [sum(len(row.ids) for unit in batch for row in unit) for batch in steps]
    with run.bar(sum(tokens), "tokens", sum(tokens[:step])) as bar:
        trainer.add_callback(Report(run, bar, tokens))
        trainer.train(resume_from_checkpoint=last)
    if not trainer.is_world_process_zero():
        return []
    files = encode.save_model(trainer.model, encoder, run.dir / "model", run.card())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return [f"model/{name}" for name in files]
