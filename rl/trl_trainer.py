"""TRL's GRPOTrainer, its objective written out, and what it gets wrong for GPT-2: the one file of rl/ that touches TRL.

A prompt q has a group of G completions o_i, sampled from the policy as it was, π_old, with rewards r_i:

    A_i   = r_i − mean(r)                                  dr_grpo (scale_rewards none)
            (r_i − mean(r)) / (std(r) + 10⁻⁴)              grpo, dapo (scale_rewards group)
    ρ_it  = π(o_it | q, o_i<t) / π_old(o_it | q, o_i<t)    1 in the first update on a completion
    L_it  = −min(ρ_it A_i, clip(ρ_it, 1 − ε_low, 1 + ε_high) A_i) + β ρ_it KL_it
    KL_it = π_ref/π − ln(π_ref/π) − 1                      at o_it: never negative, its mean is the KL divergence
    loss  = Σ_it L_it / (B T_max)                          dr_grpo: Liu et al. 2025, arXiv:2503.20783
            1/B Σ_i (1/|o_i| Σ_t L_it)                     grpo: Shao et al. 2024, arXiv:2402.03300
            Σ_it L_it / Σ_i |o_i|                          dapo: Yu et al. 2025, arXiv:2503.14476

over the B completions of a step, T_max being `max_new_tokens`. π is the softmax of logits / temperature, in training as
in sampling. None of the three depends on how a step is cut into micro-batches; TRL's bnpo does, and is not offered.

Importing this imports TRL, which takes 5 seconds: do it inside the function that trains.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from torch import nn
from trl import GRPOConfig, GRPOTrainer

import finetuning
from pipeline.sections import Grpo
from pipeline.stage import Run

# TRL reads a name that transformers has deprecated since.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def free(spec: Grpo) -> dict[str, Any]:
    """What a stage's `trainer` may say otherwise: the rest of the objective."""
    return dict(
        num_iterations=1,  # updates on each completion
        epsilon=0.2,  # ε_low
        epsilon_high=0.2,  # DAPO has 0.28
        delta=None,  # no upper bound on ρ where A < 0
        importance_sampling_level="token",  # ρ of a token and not of its sequence (GSPO)
        scale_rewards="none" if spec.loss == "dr_grpo" else "group",
        mask_truncated_completions=False,  # a completion that was cut off counts like any other
        use_bias_correction_kl=True,  # the ρ before the KL (DeepSeek-V3.2)
        top_entropy_quantile=1.0,  # tokens of every entropy count
        entropy_coef=0.0,  # no bonus for it
        use_adaptive_entropy=False,
        off_policy_mask_threshold=None,
        sync_ref_model=False,  # π_ref stays the parent
        max_grad_norm=1.0,  # of the whole gradient
    )


def settings(spec: Grpo, seed: int, directory: Path) -> dict[str, Any]:
    """Every other field of GRPOConfig that decides what is trained."""
    ours = finetuning.settings(spec, seed, directory)
    return ours | dict(
        shuffle_dataset=False,
        remove_unused_columns=False,
        max_steps=spec.steps,
        steps_per_generation=ours["gradient_accumulation_steps"],
        num_generations=spec.group_size,
        max_completion_length=spec.max_new_tokens,
        temperature=spec.temperature,
        top_p=1.0,
        top_k=0,
        min_p=None,
        repetition_penalty=1.0,
        use_vllm=False,
        beta=spec.beta,
        loss_type=spec.loss,
        reward_weights=None,  # each term counts as rl/rewards.py has it
        multi_objective_aggregation="sum_then_normalize",
        disable_dropout=True,  # completions are sampled without: a policy that drops units is another one
        cast_lm_head_to_fp32=False,
    )


def configure(run: Run) -> GRPOConfig:
    """TRL's configuration. Raises UserError for a key of `trainer` that it refuses, or that the stage sets."""
    owned = settings(run.spec, run.seed, run.dir / "checkpoints")
    return finetuning.configure(GRPOConfig, run, owned, free(run.spec))


# --- mends ----------------------------------------------------------------------------------------------------


def derive_positions(model: nn.Module) -> None:
    """Make a GPT-2 count positions from its attention mask wherever a caller gives the mask alone.

    Prompts are padded on the left, GRPOTrainer's log-prob forward passes no `position_ids`, and GPT-2 then
    counts from the pads: a padded row is scored at positions that it was not sampled at. RoPE models do not
    notice, so TRL does not either (huggingface/trl#6800 is the same fault in its Online DPO). To be removed
    when `GRPOTrainer._get_per_token_logps_and_entropies` passes `position_ids`.
    """

    def fill(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is not None and kwargs.get("position_ids") is None:
            kwargs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        return args, kwargs

    model.base_model.register_forward_pre_hook(fill, with_kwargs=True)


def score_completions_only() -> None:
    """Let TRL's fused head project only the positions that have a label, on every device.

    It does so where Triton runs, and elsewhere projects prompts and pads too, so that an accelerator which
    compiles once per shape need not do it again. A CPU has no such need, and the head is half of a small
    model's work. The kernel asks for Triton by a name in its own module; this one only chooses the positions.
    """
    trl.trainer.utils._use_triton = lambda device: True


class GroupTrainer(finetuning.Update, GRPOTrainer):
    """GRPOTrainer on prompts that are token ids, with the mends above, our rollouts and our log.

    `rollouts(prompts, step)` continues a batch of prompts (ids, each as often as its group is large) and
    gives the ids of the completions in the same order; `report(step, metrics)` hears of every optimizer step.
    """

    def __init__(
        self,
        *,
        rollouts: Callable[[list[list[int]], int], list[list[int]]],
        report: Callable[[int, dict[str, float]], None],
        **kwargs: Any,
    ):
        score_completions_only()
        super().__init__(**kwargs)
        self.rollouts, self.report = rollouts, report
        for model in filter(None, (self.model, self.ref_model)):
            derive_positions(self.accelerator.unwrap_model(model))

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict]:
        """Ids as they are: TRL tokenizes text, and its tokenizer takes control strings for control ids."""
        return prompts, None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any):
        """(completions, no log-probs: TRL computes those that it needs), by our decoder.

        TRL's samples the pad too, and counts a completion that ends in one as terminated; ours suppresses the
        ids that a condition never writes.
        """
        return self.rollouts(prompt_ids, self.state.global_step), None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if "loss" in logs:  # and not the summary behind the last step
            self.report(self.state.global_step, logs)

    def attempt(self, model: nn.Module, prompt: int, new: int, rows: int) -> None:
        """The forward and backward pass of so many rows of `prompt` and `new` tokens."""
        ids = torch.zeros((rows, prompt + new), dtype=torch.long, device=self.accelerator.device)
        with self.compute_loss_context_manager():
            scored = self._get_per_token_logps_and_entropies(
                model, ids, torch.ones_like(ids), new, compute_entropy=True
            )
            scored[0].sum().backward()
        model.zero_grad(set_to_none=True)
