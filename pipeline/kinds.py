"""The kinds of stages: section, parents, module, and what types cannot say of each."""

from collections.abc import Callable

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
    if (spec.phases is None) == (spec.task == "curriculum"):
        refuse("phases", "a curriculum has phases, and no other task has")
    if (spec.data is None) != (spec.task == "curriculum"):
        refuse("data", "is missing" if spec.data is None else "a curriculum's phases name their own data")
    if [spec.examples, spec.tokens, spec.flops].count(None) != 2 and spec.task != "curriculum":
        refuse("examples", "give exactly one of examples, tokens, flops: the stage's budget")
    if spec.task == "curriculum" and [spec.examples, spec.tokens, spec.flops].count(None) != 3:
        refuse("examples", "a curriculum's budget is the examples of its phases")
    examples = spec.examples or sum(phase.examples for phase in spec.phases or ())
    if examples and not spec.packing and spec.warmup >= (steps := -(-examples // spec.batch_size)):
        refuse("warmup", f"{spec.warmup} is not less than the {steps} steps of {examples} examples")


def _check_grpo(spec: Grpo, refuse: Callable) -> None:
    if spec.batch_size % spec.group_size:
        refuse(
            "batch_size",
            f"{spec.batch_size} completions are not whole groups of group_size {spec.group_size}",
        )
    if spec.warmup >= spec.steps:
        refuse("warmup", f"{spec.warmup} is not less than the {spec.steps} steps")
    if spec.pass_at == 1:
        refuse("pass_at", "one sample is solved always or never; give 0 or at least 2")
    if spec.save_every % (rounds := spec.trainer.get("num_iterations", 1)):
        refuse(
            "save_every",
            f"{spec.save_every} is not a multiple of trainer.num_iterations {rounds}, so a resumed run would differ",
        )


CHECKS = {"pretrain": _check_pretrain, "sft": _check_sft, "grpo": _check_grpo}
