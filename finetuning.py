"""What SFT, GRPO and the verifier share of transformers' trainer: settings, optimizer, log, resume, errors of one line.

The first two train through TRL, whose trainers are transformers'. Learning rates, optimizer and dashboards are those of
pretraining (training.py). Importing this imports transformers, which takes seconds: do it inside the function that
trains.
"""

import copy
import itertools
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, TrainerCallback

import training
from pipeline import world
from pipeline.errors import UserError
from pipeline.files import forget_lines, sha256, write_json
from pipeline.progress import Bar
from pipeline.sections import Grpo, Sft, Verifier
from pipeline.stage import Run
from training import Place

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

BETAS = (0.9, 0.999)  # AdamW's, as is usual in fine-tuning; pretraining has (0.9, 0.95)


# --- settings -----------------------------------------------------------------------------------------------


def split(batch_size: int, ceiling: int) -> tuple[int, int]:
    """(micro-batch, forward passes a step) of a process: its share of a batch in equal parts, none above `ceiling`."""
    share = batch_size // world.WORLD
    micro_batch = training.micro_batches(share, ceiling)[0]
    return micro_batch, share // micro_batch


def settings(spec: Sft | Grpo | Verifier, seed: int, directory: Path) -> dict[str, Any]:
    """Every field of TrainingArguments that decides what is trained, the clip of the gradient apart."""
    micro_batch, passes = split(spec.batch_size, spec.micro_batch)
    return dict(
        output_dir=str(directory),
        seed=seed,
        data_seed=seed,
        full_determinism=False,  # training.placed sets it, where it costs little
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        per_device_train_batch_size=micro_batch,
        auto_find_batch_size=False,
        gradient_accumulation_steps=passes,
        gradient_checkpointing=False,
        activation_checkpointing=False,
        average_tokens_across_devices=True,
        dataloader_drop_last=False,
        ignore_data_skip=False,  # a run that goes on begins behind the batches that it has seen
        # Update makes the optimizer and the schedule of these; TRL's own fields are set so that nobody else does
        learning_rate=spec.lr,
        warmup_steps=spec.warmup,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=1e-8,
        weight_decay=getattr(spec, "weight_decay", 0.0),
        label_smoothing_factor=0.0,
        neftune_noise_alpha=None,
        bf16=spec.precision == "bf16",
        fp16=False,
        torch_compile=False,
        use_liger_kernel=False,
        # what it tells and keeps: a line for every step, so that none is a mean over what a kill has cut short
        logging_strategy="steps",
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        log_level="error",
        log_level_replica="error",
        disable_tqdm=True,
        report_to=[],
        eval_strategy="no",
        save_strategy="steps" if spec.save_every else "no",
        save_steps=spec.save_every or 1,
        save_total_limit=2,  # should the last one be damaged
        push_to_hub=False,
    )


def configure(config: type, run: Run, owned: dict[str, Any], free: dict[str, Any]) -> Any:
    """A stage's TrainingArguments, or TRL's: `free` are fields that its `trainer` may say otherwise, `owned` are not."""
    for key in run.spec.trainer:
        if key in owned:
            run.refuse(f"trainer.{key}", "is set by the stage, from its own keys; remove it")
    try:
        return config(**owned, **free | run.spec.trainer)
    except (TypeError, ValueError) as error:
        library = "TRL" if config.__module__.startswith("trl.") else "transformers"
        run.refuse("trainer", f"{library} refuses: {str(error).splitlines()[0]}")


# --- the model ----------------------------------------------------------------------------------------------


def load(kind: type, directory: Path, **changes: Any) -> PreTrainedModel:
    """The model of a directory as a class of transformers', in fp32, without dropout.

    GPT-2's GELU goes by the name under which transformers computes it in one operation and not in eight: the
    same formula, a seventh of the training time on a CPU.
    """
    changes |= dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh")
    config = transformers.AutoConfig.from_pretrained(directory)
    config.update(changes)
    model = kind.from_pretrained(directory, config=config, dtype=torch.float32)
    model.config.activation_function = "gelu_new"
    return model


# --- checkpoints --------------------------------------------------------------------------------------------

SAVED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")  # by transformers
SUMS = "sha256.json"  # of these, written behind them: a checkpoint without it is not whole


def resume(run: Run, place: Place) -> tuple[str | None, int]:
    """The last whole checkpoint that rank 0 finds and its step, (None, 0) without any; and the logs as they were then."""
    folder = run.dir / "checkpoints"
    step = place.gather(_last_whole(folder) if world.RANK == 0 else 0)[0]
    for name in ("metrics.jsonl", "samples.jsonl"):
        forget_lines(run.dir / name, step)
    return str(folder / f"checkpoint-{step}") if step else None, step


def _last_whole(folder: Path) -> int:
    """The step of the last checkpoint whose bytes are those that were saved, 0 without any; later ones get other names.

    Raises UserError for what cannot be read, which is no damage.
    """
    there = [path.parent for path in folder.glob(f"checkpoint-*/{SUMS}")]
    steps = {int(path.name.removeprefix("checkpoint-")): path for path in there}
    for step, path in sorted(steps.items(), reverse=True):
        if _is_whole(path):
            return step
        names = (path.with_name(f"damaged{number}-{path.name}") for number in itertools.count(1))
        # transformers removes what goes by its own names
        path.rename(aside := next(name for name in names if not name.exists()))
        message = "damaged since it was saved; an earlier one is taken, or the start"
        print(f"{path}: {message}; it is now {aside.name}", file=sys.stderr)
    return 0


def _is_whole(checkpoint: Path) -> bool:
    try:
        saved = json.loads((checkpoint / SUMS).read_bytes())
    except ValueError:
        return False
    except OSError as error:
        raise UserError(f"{checkpoint / SUMS}: cannot be read: {error.strerror}") from None
    return all((checkpoint / name).exists() for name in SAVED) and saved == sums(checkpoint)


def sums(checkpoint: Path) -> dict[str, str]:
    return {name: sha256(checkpoint / name) for name in SAVED}


# --- the trainer --------------------------------------------------------------------------------------------


class Update:
    """For a transformers trainer: our optimizer and schedule, and no word to anybody about the run."""

    def __init__(self, *args: Any, spec: Sft | Grpo | Verifier, **kwargs: Any):
        self.spec = spec
        super().__init__(*args, **kwargs)
        for callback in (transformers.PrinterCallback, transformers.ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(Checkpoints())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decay = self.args.weight_decay
            (self.optimizer,) = training.optimizers(self.model, "adamw", self.spec.lr, BETAS, decay)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        if self.lr_scheduler is None:
            rate = training.schedule(self.spec.schedule, self.spec.warmup, num_training_steps, from_zero=True)
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _send_telemetry(self) -> None:
        """Training tells nobody; TRL tells the Hub of every run."""


class SummedLoss(Update):
    """An Update whose model's forward gives the sum of its loss over the labels of a batch: ids, labels and the like.

    The loss is the mean over the labels of a step, whatever its micro-batches and processes. `report(step, metrics)`
    hears of every step.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self, model: PreTrainedModel, report: Callable[[int, dict], None] | None = None, **kwargs: Any
    ):
        self.report = report
        super().__init__(model, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the whole step; times the processes, over which DDP averages."""
        return model(**inputs) / num_items_in_batch * self.accelerator.num_processes

    def floating_point_ops(self, inputs) -> int:
        """Counted by the stages; here it would walk over the parameters in every step, 2% of its time."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To our report alone: transformers would keep every step's line, and write them with each checkpoint."""
        if self.report and "loss" in logs:  # and not the summary behind the last step
            metrics = {"loss": logs["loss"], "grad_norm": logs["grad_norm"], "lr": logs["learning_rate"]}
            self.report(self.state.global_step, metrics)

    def attempt(self, model: nn.Module, rows: list[dict]) -> None:
        """The forward and backward pass of rows at once."""
        batch = {
            name: tensor.to(self.accelerator.device) for name, tensor in self.data_collator(rows).items()
        }
        with self.compute_loss_context_manager():
            self.compute_loss(model, batch, num_items_in_batch=1).backward()
        model.zero_grad(set_to_none=True)


class Checkpoints(TrainerCallback):
    """Saved as often as the file says now, where transformers goes by what the checkpoint says; each with its SHA-256."""

    def on_train_begin(self, args, state, control, **kwargs):
        state.compute_steps(args, state.max_steps)

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / SUMS, sums(folder))


class Report:
    """A step in metrics.jsonl, on the dashboards and on the bar. Raises UserError where training has diverged.

    Every `eval_every` steps and behind the `last` one `look(step)` is called, before the step is saved; the metrics that
    it returns get a line of their own.
    """

    def __init__(
        self, run: Run, bar: Bar, step: int, last: int, look: Callable[[int], dict[str, float]] | None = None
    ):
        self.run, self.bar, self.last, self.look = run, bar, last, look
        self.dashboards = training.dashboards(run, run.spec.report_to, step)

    def __call__(self, step: int, metrics: dict[str, float], done: int = 1, note: str = "") -> None:
        """`metrics` of a step, whose work counts as `done` units of the bar."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                self.run.refuse("lr", f"{name} is {metrics[name]} at step {step}; lower it, or raise warmup")
        self._log(step, metrics)
        self.bar.update(done, note)
        if self.look and (step % self.run.spec.eval_every == 0 or step == self.last):
            self._log(step, self._within_memory(step))

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        self.run.log(step=step, **metrics)
        self.dashboards({"step": step, **metrics})

    def _within_memory(self, step: int) -> dict[str, float]:
        try:
            return self.look(step)
        except RuntimeError as error:
            if not training.out_of_memory(error):
                raise
        message = "a look does not fit into this device's memory beside the training; set it to 0 and go on"
        self.run.refuse("eval_every", message)


def fit(
    trainer: Any,
    run: Run,
    place: Place,
    checkpoint: str | None,
    unit: str,
    attempt: Callable[[nn.Module, int], None],
) -> None:
    """Train to the end, from a checkpoint if there is one.

    Out of memory it raises UserError with a micro-batch that fits. `attempt(model, n)` is the heaviest forward and
    backward pass that n of the step's `unit` can ask for.
    """
    full = False
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except RuntimeError as error:
        if not training.out_of_memory(error):
            raise
        full = True
    if full:  # and the error, which held the step's tensors, is gone
        micro_batch = trainer.args.per_device_train_batch_size
        trainer.model.zero_grad(set_to_none=True)
        model = copy.deepcopy(trainer.model)  # DDP does not watch it: the other ranks wait in their step
        sizes = training.micro_batches(micro_batch)[1:]
        fits = training.largest_that_fits(lambda n: attempt(model, n), sizes, Place(place.device))
        training.refuse_memory(run.refuse, micro_batch, fits, unit)


def clean(run: Run) -> None:
    """Remove the checkpoints of a stage that is finished: whoever is killed before has lost no step."""
    if world.RANK == 0:
        shutil.rmtree(run.dir / "checkpoints", ignore_errors=True)
