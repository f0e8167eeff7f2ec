"""The kinds of stages: section, parents, module, and what types cannot say of each."""

import difflib
import json
from collections.abc import Callable

from pipeline.files import ROOT
from pipeline.sections import Eval, Export, Grpo, Import, Prepare, Pretrain, Sft, TokenizerStage

KINDS = {
    "tokenizer": TokenizerStage,
    "prepare": Prepare,
    "pretrain": Pretrain,
    "export": Export,
    "import": Import,
    "sft": Sft,
    "grpo": Grpo,
}


MODEL_KINDS = ("export", "import", "sft", "grpo")  # their directories hold `model/`, and are evaluated


PARENT_KINDS = {"pretrain": ("prepare",), "export": ("pretrain",), "sft": MODEL_KINDS, "grpo": MODEL_KINDS}


SCRIPTS = {  # kind → module that runs it; scripts/<kind>.sh is its shell form
    "tokenizer": "tokenizer.build",
    "prepare": "pretrain.prepare",
    "pretrain": "pretrain.train",
    "export": "pretrain.export_hf",
    "import": "pretrain.import_hf",
    "sft": "sft.train",
    "grpo": "rl.grpo",
    "eval": "eval.run",
}


Spec = TokenizerStage | Prepare | Pretrain | Export | Import | Sft | Grpo | Eval


def _check_pretrain(spec: Pretrain, refuse: Callable) -> None:
    if spec.n_embd % spec.n_head:
        refuse("n_embd", f"{spec.n_embd} is not a multiple of n_head {spec.n_head}")
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    if (spec.steps is None) == (spec.examples is None):
        refuse("steps", "give exactly one of steps, examples: the stage's budget")
    if spec.steps and spec.warmup > spec.steps:
        refuse("warmup", f"{spec.warmup} is more than the {spec.steps} steps")
    if spec.min_lr > spec.lr:
        refuse("min_lr", f"{spec.min_lr} is above lr {spec.lr}")


def _check_sft(spec: Sft, refuse: Callable) -> None:
    _check_trainer(spec, "SFTConfig", refuse)
    if (spec.phases is None) == (spec.task == "curriculum"):
        refuse("phases", "a curriculum has phases, and no other task has")
    if (spec.data is None) != (spec.task == "curriculum"):
        refuse("data", "is missing" if spec.data is None else "a curriculum's phases name their own data")
    if [spec.examples, spec.tokens, spec.flops].count(None) != 2 and spec.task != "curriculum":
        refuse("examples", "give exactly one of examples, tokens, flops: the stage's budget")
    if spec.task == "curriculum" and [spec.examples, spec.tokens, spec.flops].count(None) != 3:
        refuse("examples", "a curriculum's budget is the examples of its phases")
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    examples = spec.examples or sum(phase.examples for phase in spec.phases or ())
    if examples and not spec.packing and spec.warmup >= (steps := -(-examples // spec.batch_size)):
        refuse("warmup", f"{spec.warmup} is not less than the {steps} steps of {examples} examples")


def _check_grpo(spec: Grpo, refuse: Callable) -> None:
    _check_trainer(spec, "GRPOConfig", refuse)
    if spec.batch_size % spec.group_size:
        refuse(
            "batch_size",
            f"{spec.batch_size} completions are not whole groups of group_size {spec.group_size}",
        )
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    if spec.warmup >= spec.steps:
        refuse("warmup", f"{spec.warmup} is not less than the {spec.steps} steps")
    if spec.pass_at == 1:
        refuse("pass_at", "one sample is solved always or never; give 0 or at least 2")
    if spec.save_every % (rounds := spec.trainer.get("num_iterations", 1)):
        refuse(
            "save_every",
            f"{spec.save_every} is not a multiple of trainer.num_iterations {rounds}, so a resumed run would differ",
        )


def _check_trainer(spec: Sft | Grpo, config: str, refuse: Callable) -> None:
    """Refuse keys of `trainer` that TRL's config lacks, or that the pipeline sets itself."""
    fields = json.loads((ROOT / "sft/trl_fields.json").read_text())[config]
    for key in spec.trainer:
        if key in OWNED:
            refuse(
                f"trainer.{key}",
                "is set by the pipeline, alike for every condition; use the stage's own keys",
            )
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            refuse(
                f"trainer.{key}",
                f"TRL's {config} has no such field" + (f"; did you mean '{near[0]}'?" if near else ""),
            )


OWNED = frozenset(
    """activation_checkpointing activation_checkpointing_kwargs assistant_only_loss auto_find_batch_size
    average_tokens_across_devices beta bf16 bf16_full_eval cache_implementation chat_template_path
    completion_only_loss data_seed dataloader_drop_last dataset_kwargs dataset_num_proc dataset_text_field
    ddp_find_unused_parameters disable_dropout disable_tqdm eos_token eval_packing eval_strategy fp16
    fp16_full_eval full_determinism generation_batch_size generation_kwargs gradient_accumulation_steps
    gradient_checkpointing gradient_checkpointing_kwargs hub_model_id ignore_data_skip
    label_smoothing_factor learning_rate logging_nan_inf_filter logging_steps logging_strategy loss_type
    lr_scheduler_type max_completion_length max_length max_steps min_p model_init_kwargs num_generations
    num_train_epochs output_dir packing packing_strategy pad_to_multiple_of pad_token padding_free
    per_device_eval_batch_size per_device_train_batch_size push_to_hub remove_unused_columns
    repetition_penalty report_to resume_from_checkpoint run_name save_steps save_strategy save_total_limit
    seed shuffle_dataset steps_per_generation temperature top_k top_p train_sampling_strategy
    truncation_mode use_cpu use_liger_kernel use_transformers_continuous_batching use_transformers_paged
    use_vllm warmup_steps weight_decay""".split()
)


CHECKS = {"pretrain": _check_pretrain, "sft": _check_sft, "grpo": _check_grpo}
