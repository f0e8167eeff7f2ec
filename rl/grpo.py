"""Reinforcement learning on verifiable answers: TRL's GRPO with our prompts, our rollouts and our rewards.

    python -m rl.grpo experiments/quickstart.yaml mul_tokens 0 grpo
    torchrun --standalone --nproc_per_node=8 -m rl.grpo experiments/gpt2_124m.yaml mul_tokens 0 grpo_fair

Each step takes a few prompts (rl/prompts.py) and a group of completions for each, sampled by eval.generate
from the weights of the moment. A group whose rewards are all equal has no advantage to learn from, and is
sampled once more. Rewards (rl/rewards.py) see the completions' ids rendered by our tokenizer; advantages,
loss and optimizer are TRL's.

Writes model/, metrics.jsonl (a line a step), samples.jsonl (a group a step) and, where `pass_at` asks,
prompts.json (how often the parent solved each candidate). Killed, it goes on from its last checkpoint, where
`save_every` asked for any.
"""

import json
import math
import random
import shutil
import time
from collections.abc import Callable

from pipeline import stage, world
from pipeline.errors import UserError, cli
from pipeline.files import forget_lines, last_checkpoint
from pipeline.progress import Bar
from pipeline.sections import SCHEDULES
from pipeline.stage import Run
from rl import prompts, rewards
from tokenizer import encode
from tokenizer.encode import Encoder

LOGGED = {  # TRL's name: ours
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_variance",
    "completions/clipped_ratio": "clipped",
    "completions/mean_length": "length",
    "entropy": "entropy",
    "kl": "kl",
}


def main(argv: list[str] | None = None) -> None:
    with stage.begin("grpo", argv, __doc__, resumable=True) as run:
        if run is not None:
            train(run)


def train(run: Run) -> None:
    import torch
    from accelerate.utils import broadcast_object_list
    from datasets import Dataset
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    from model import deterministic
    from rl.trl_fixes import Trainer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    deterministic()
    encoder = encode.from_dir(run.parent / "model")
    arguments = configure(run)
    model = GPT2LMHeadModel.from_pretrained(run.parent / "model", dtype=torch.float32).to(arguments.device)
    rollouts = Rollouts(run, encoder, model)
    chosen = [None]
    if world.RANK == 0:
        chosen = [prompts.choose(run, encoder, rollouts.config.block_size, rollouts.solve)]
    problems, counts = broadcast_object_list(chosen)[0]
    rollouts.gold = {tuple(problem["prompt"]): problem["gold"] for problem in problems}
    checkpoint, done = last_checkpoint(run.dir / "checkpoints")
    for name in ("metrics.jsonl", "samples.jsonl"):
        forget_lines(run.dir / name, done)
    with run.bar(run.spec.steps, "steps", done) as bar:
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(prompts.in_order(problems, run)),
            processing_class=encoder.hf,
            reward_funcs=reward_functions(encoder, rollouts.terms),
            rollouts=rollouts,
            report=Report(run, rollouts, bar),
        )
        trainer.train(resume_from_checkpoint=checkpoint)
    files = []
    if world.RANK == 0:
        files = encode.save_model(model, encoder, run.dir / "model", run.card())
        shutil.rmtree(run.dir / "checkpoints", ignore_errors=True)
    run.finish(
        [f"model/{name}" for name in files],
        prompts=counts,
        **rollouts.cost(int(trainer.state.num_input_tokens_seen)),
    )


def configure(run: Run):
    """TRL's configuration: what the experiment says, and nothing that matters left to a default."""
    import torch
    from trl import GRPOConfig

    spec, share = run.spec, run.spec.batch_size // world.WORLD
    if spec.batch_size % (spec.micro_batch * world.WORLD) or share % spec.group_size:
        each = f"whole groups of {spec.group_size} and micro batches of {spec.micro_batch}"
        run.refuse("batch_size", f"{spec.batch_size} on {world.WORLD} GPUs does not give each {each}")
    run.check_precision()
    scaled = spec.loss != "dr_grpo"  # Dr. GRPO (Liu et al. 2025) leaves rewards unscaled
    defaults = {
        "scale_rewards": "group" if scaled else "none",
        "max_grad_norm": 1.0,
        "num_iterations": 1,
        "optim": "adamw_torch_fused",
    }
    owned = {
        "output_dir": str(run.dir / "checkpoints"),
        "seed": run.seed,
        "data_seed": run.seed,
        "shuffle_dataset": False,
        "max_steps": spec.steps,
        "per_device_train_batch_size": spec.micro_batch,
        "gradient_accumulation_steps": share // spec.micro_batch,
        "steps_per_generation": share // spec.micro_batch,
        "num_generations": spec.group_size,
        "max_completion_length": spec.max_new_tokens,
        "temperature": spec.temperature,
        "beta": spec.beta,
        "loss_type": spec.loss,
        "learning_rate": spec.lr,
        "lr_scheduler_type": SCHEDULES[spec.schedule],
        "warmup_steps": spec.warmup,
        "weight_decay": 0.0,
        "bf16": spec.precision == "bf16",
        "fp16": False,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
        "activation_checkpointing": False,
        "disable_dropout": True,  # completions are sampled without: a policy that drops units is another one
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if spec.save_every else "no",
        "save_steps": spec.save_every or spec.steps,
        "save_total_limit": 2,
        "report_to": [],
        "disable_tqdm": True,
    }
    return GRPOConfig(**defaults | spec.trainer | owned)


# --- what TRL asks of us ------------------------------------------------------------------------------------


class Rollouts:
    """Completions of the policy as it is at the moment, by our decoder, with the counts of what it took.

    The trainer calls it with every group's prompt `group_size` times over, and gets completions in that
    order.
    """

    def __init__(self, run: Run, encoder: Encoder, model):
        from model import GPTConfig

        self.run, self.encoder, self.model = run, encoder, model
        hf = model.config
        self.config = GPTConfig(hf.vocab_size, hf.n_layer, hf.n_head, hf.n_embd, hf.n_positions)
        self.terms = rewards.terms(run.spec.rewards, run.spec.fact_bonus)
        self.gold: dict[tuple[int, ...], str] = {}  # of every prompt
        self.groups: list[tuple[list[int], list[list[int]]]] = []  # (prompt, completions) of the last step
        self.resampled = self.seconds = 0.0  # share of its groups, and the time that they took
        self.tokens = 0  # sampled in it, also for groups that were sampled again

    def __call__(self, asked: list[list[int]], step: int) -> list[list[int]]:
        started, size = time.perf_counter(), self.run.spec.group_size
        asked, self.tokens = asked[::size], 0
        groups = self.sample(asked, size, f"step {step}")
        equal = [i for i, group in enumerate(groups) if len(set(self.values(asked[i], group))) == 1]
        if equal:
            for i, group in zip(equal, self.sample([asked[i] for i in equal], size, f"step {step} again")):
                groups[i] = group
        self.groups = list(zip(asked, groups))
        self.resampled, self.seconds = len(equal) / len(groups), time.perf_counter() - started
        return [ids for group in groups for ids in group]

    def sample(
        self, asked: list[list[int]], samples: int, key: str, progress: Callable[[int], None] | None = None
    ) -> list[list[list[int]]]:
        """`samples` completions of each prompt. Chance depends on the seed, `key` and the process alone."""
        import torch

        from eval.decode.generate import generate
        from model import GPT, from_hf

        spec, device = self.run.spec, self.model.device
        dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
        tensors = from_hf(self.model.state_dict(), self.config)
        policy = GPT.from_tensors(tensors, self.config, device, dtype).eval()
        seed = random.Random(f"{self.run.seed} {key} {world.RANK}").getrandbits(63)
        groups = generate(
            policy,
            asked,
            spec.max_new_tokens,
            eos=self.encoder.eos,
            suppress=self.encoder.suppressed,
            temperature=spec.temperature,
            samples=samples,
            generator=torch.Generator(device).manual_seed(seed),
            progress=progress,
        )
        self.tokens += sum(len(ids) for group in groups for ids in group)
        return groups

    def solve(self, asked: list[list[int]], golds: list[str]) -> list[int]:
        """How many of `pass_at` samples solve each prompt."""
        samples, correct = self.run.spec.pass_at, self.terms["correct"]
        with self.run.bar(len(asked) * samples, "samples") as bar:
            groups = self.sample(asked, samples, "pass_at", bar.update)
        return [
            sum(correct(rewards.read(self.encoder, ids, gold)) > 0 for ids in group)
            for group, gold in zip(groups, golds)
        ]

    def values(self, prompt: list[int], group: list[list[int]]) -> list[float]:
        """The reward of each completion of a prompt."""
        gold = self.gold[tuple(prompt)]
        return [rewards.total(self.terms, rewards.read(self.encoder, ids, gold)) for ids in group]

    def cost(self, trained: int) -> dict[str, float]:
        """Completions and tokens trained on and tokens sampled, by the log, so of a resumed run's every step; and
        FLOPs, of which sampling a token takes a forward pass, a third. Samples that chose the prompts are apart."""
        import torch

        from model import GPT

        examples = self.run.spec.steps * self.run.spec.batch_size
        log = (self.run.dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        sampled = world.WORLD * sum(json.loads(line).get("sampled", 0) for line in log)
        with torch.device("meta"):
            per_token = GPT(self.config).flops_per_token(trained // examples)
        return {
            "examples": examples,
            "tokens": trained,
            "sampled": sampled,
            "flops": per_token * (trained + sampled / 3),
        }


def reward_functions(encoder: Encoder, terms: dict[str, rewards.Reward]) -> list[Callable[..., list[float]]]:
    """One function for TRL per term, over the completions' ids as our tokenizer renders them.

    TRL logs a function's rewards under its __name__, and merges those of equal names.
    """

    def function(name: str, reward: rewards.Reward) -> Callable[..., list[float]]:
        def score(completion_ids: list[list[int]], gold: list[str], **_) -> list[float]:
            return [reward(rewards.read(encoder, ids, answer)) for ids, answer in zip(completion_ids, gold)]

        score.__name__ = name
        return score

    return [function(name, reward) for name, reward in terms.items()]


class Report:
    """A line of metrics, a group of completions and a tick of the bar for every step; UserError on NaN."""

    def __init__(self, run: Run, rollouts: Rollouts, bar: Bar):
        self.run, self.rollouts, self.bar = run, rollouts, bar
        self.at = time.perf_counter()

    def __call__(self, step: int, logs: dict[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs[name]):
                raise UserError(f"{self.run.dir}: {name} is {logs[name]} at step {step}; lower lr")
        at, self.at = self.at, time.perf_counter()
        metrics = {ours: logs[theirs] for theirs, ours in LOGGED.items() if theirs in logs}
        if sampled := "reward" in logs:  # not in a further step on the same completions
            metrics |= {f"reward_{name}": logs[f"rewards/{name}/mean"] for name in self.rollouts.terms}
            metrics |= {"resampled": self.rollouts.resampled, "sampled": self.rollouts.tokens}
            metrics |= {"rollout_s": round(self.rollouts.seconds, 3)}
        self.run.log(step=step, **metrics, step_s=round(self.at - at, 3))
        self.bar.update(1, f"reward {logs['reward']:.2f}" if sampled else "")
        if sampled and world.RANK == 0:
            self.show(step)

    def show(self, step: int) -> None:
        """Add the step's first group to samples.jsonl."""
        encoder, (prompt, group) = self.rollouts.encoder, self.rollouts.groups[0]
        said = [
            {"text": encoder.render(ids), "facts": encoder.count_facts(ids), "reward": round(value, 3)}
            for ids, value in zip(group, self.rollouts.values(prompt, group))
        ]
        row = {"step": step, "prompt": encoder.render(prompt), "gold": self.rollouts.gold[tuple(prompt)]}
        with open(self.run.dir / "samples.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"completions": said}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    cli(main)
