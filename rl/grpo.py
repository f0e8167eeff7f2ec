"""Reinforcement learning on verifiable answers: TRL's GRPO with our prompts, our rollouts and our rewards.

    python -m rl.grpo experiments/quickstart.yaml mul_tokens 0 grpo
    torchrun --standalone --nproc_per_node=2 -m rl.grpo experiments/gpt2_124m.yaml mul_tokens 0 grpo_fair

Each step takes a few prompts (rl/prompts.py) and a group of completions for each, sampled from the weights of the
moment (rl/rollouts.py). Rewards (rl/rewards.py) see the completions' ids rendered by our tokenizer; advantages and
loss, which rl/trl_trainer.py states, are TRL's. A group is never cut: a step of 32 completions in groups of 16 keeps
two processes busy, and what more of them are started end at once.

Writes model/, metrics.jsonl (a line a step, and with `eval_every` one for each look at dev problems: eval/dev.py),
samples.jsonl (a group a step) and, where `pass_at` asks, prompts.json (how often the parent solved each candidate).
Killed, it goes on from its last checkpoint, where `save_every` asked for any.
"""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import training
from eval import dev
from pipeline import world
from pipeline.errors import cli
from pipeline.sections import Grpo
from pipeline.stage import Run
from rl import prompts, rewards
from tokenizer import encode
from tokenizer.encode import Encoder
from training import Place

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    import finetuning
    from rl.rollouts import Rollouts

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


def usable(spec: Grpo, processes: int) -> int:
    """Among how many processes a step's groups can be shared out, none cut."""
    return world.divisor(spec.batch_size // spec.group_size, processes)


def main(argv: list[str] | None = None) -> None:
    with training.begin("grpo", argv, __doc__, usable=usable) as (run, place):
        if run is not None:
            train(run, place)


def train(run: Run, place: Place) -> None:
    import torch
    from accelerate.utils import broadcast_object_list
    from datasets import Dataset
    from transformers import GPT2LMHeadModel

    import finetuning
    from rl import trl_trainer
    from rl.rollouts import Rollouts

    run.check_precision()
    config = trl_trainer.configure(run)
    encoder = encode.from_dir(run.parent / "model")
    model = GPT2LMHeadModel.from_pretrained(run.parent / "model", dtype=torch.float32).to(place.device)
    rollouts = Rollouts(run, encoder, model)
    looks = watch(run, place, encoder, model) if run.spec.eval_every else None
    chosen = [None]
    if world.RANK == 0:
        chosen = [prompts.choose(run, encoder, rollouts.config.block_size, rollouts.solve)]
    problems, counts = broadcast_object_list(chosen)[0]
    rollouts.gold = {tuple(problem["prompt"]): problem["gold"] for problem in problems}
    checkpoint, step = finetuning.resume(run, place)
    with run.bar(run.spec.steps, "steps", step) as bar:
        trainer = trl_trainer.GroupTrainer(
            spec=run.spec,
            model=model,
            args=config,
            train_dataset=Dataset.from_list(prompts.in_order(problems, run)),
            processing_class=encoder.hf,
            reward_funcs=reward_functions(encoder, rollouts.terms),
            rollouts=rollouts,
            report=GroupReport(finetuning.Report(run, bar, step, run.spec.steps, looks), rollouts),
        )
        sizes = max(map(len, rollouts.gold)), run.spec.max_new_tokens
        finetuning.fit(
            trainer,
            run,
            place,
            checkpoint,
            "completions",
            lambda model, n: trainer.attempt(model, *sizes, n),
        )
    files = encode.save_model(model, encoder, run.dir / "model", run.card()) if world.RANK == 0 else []
    run.finish(
        [f"model/{name}" for name in files],
        prompts=counts,
        **rollouts.cost(int(trainer.state.num_input_tokens_seen)),
    )
    finetuning.clean(run)


def watch(run: Run, place: Place, encoder: Encoder, model: "GPT2LMHeadModel") -> dev.DevLooks:
    """Looks at the dev rows of `data`, sampled as in training and as often as prompts were to choose them."""
    spec = run.spec
    problems = dev.load(run, encoder, model.config.n_positions, spec.data, spec.name)
    samples = spec.pass_at or spec.group_size
    limits = spec.max_new_tokens, place.sum, samples, spec.temperature
    return dev.DevLooks(run, encoder, model, problems, *limits)


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


class GroupReport:
    """What TRL tells of a step under our names, with what its rollouts took; and a group of completions."""

    def __init__(self, report: "finetuning.Report", rollouts: "Rollouts"):
        self.report, self.rollouts = report, rollouts
        self.at = time.perf_counter()

    def __call__(self, step: int, logs: dict[str, float]) -> None:
        at, self.at = self.at, time.perf_counter()
        metrics = {ours: logs[theirs] for theirs, ours in LOGGED.items() if theirs in logs}
        if sampled := "reward" in logs:  # not in a further step on the same completions
            metrics |= {f"reward_{name}": logs[f"rewards/{name}/mean"] for name in self.rollouts.terms}
            metrics |= {"repeated": self.rollouts.repeated(), "resampled": self.rollouts.resampled}
            metrics |= {"sampled": self.rollouts.tokens, "rollout_s": round(self.rollouts.seconds, 3)}
        metrics["step_s"] = round(self.at - at, 3)
        self.report(step, metrics, note=f"reward {logs['reward']:.2f}" if sampled else "")
        self.at = time.perf_counter()  # a look is no part of the next step
        if sampled and world.RANK == 0:
            self.show(step)

    def show(self, step: int) -> None:
        """Add the step's first group to samples.jsonl."""
        rollouts, (prompt, group) = self.rollouts, self.rollouts.groups[0]
        encoder = rollouts.encoder
        completions = [
            {"text": encoder.render(ids), "facts": encoder.count_facts(ids), "reward": round(value, 3)}
            for ids, value in zip(group, rollouts.values(prompt, group))
        ]
        row = {"step": step, "prompt": encoder.render(prompt), "gold": rollouts.gold[tuple(prompt)]}
        with open(rollouts.run.dir / "samples.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"completions": completions}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    cli(main)
