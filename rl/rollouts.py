"""Completions of the policy as it is at the moment, and what they are worth.

One decoder serves all steps: new weights are copied over its own, and its cache and CUDA graphs stay.
"""

import json
import random
import time
from collections.abc import Callable

import torch

from eval.decode.generate import Decoder
from model import GPT, GPTConfig, from_hf
from pipeline import world
from pipeline.stage import Run
from rl import rewards
from tokenizer.encode import Encoder


class Rollouts:
    """The trainer calls it with every group's prompt `group_size` times over, and gets completions in that order.

    A group whose rewards are all equal has no advantage to learn from, and is sampled once more.
    """

    def __init__(self, run: Run, encoder: Encoder, model: torch.nn.Module):
        self.run, self.encoder, self.model = run, encoder, model
        hf = model.config
        self.config = GPTConfig(hf.vocab_size, hf.n_layer, hf.n_head, hf.n_embd, hf.n_positions)
        self.decoder: Decoder | None = None
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

    def policy(self) -> Decoder:
        """A decoder with the weights of the moment."""
        tensors = from_hf(self.model.state_dict(), self.config)
        if self.decoder is None:
            dtype = torch.bfloat16 if self.run.spec.precision == "bf16" else torch.float32
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            policy = GPT.from_tensors(copies, self.config, self.model.device, dtype)
            self.decoder = Decoder(policy.eval())
            if self.gold:  # the largest step, so that the cache is made once
                longest = max(map(len, self.gold)) + self.run.spec.max_new_tokens
                rows = min(self.run.spec.batch_size // world.WORLD, self.decoder.room(longest))
                self.decoder.reserve(rows, longest)
        else:
            self.decoder.load(tensors)
        return self.decoder

    def sample(
        self, asked: list[list[int]], samples: int, key: str, progress: Callable[[int], None] | None = None
    ) -> list[list[list[int]]]:
        """`samples` completions of each prompt. Chance depends on the seed, `key` and the process alone."""
        spec = self.run.spec
        seed = random.Random(f"{self.run.seed} {key} {world.RANK}").getrandbits(63)
        groups = self.policy().generate(
            asked,
            spec.max_new_tokens,
            eos=self.encoder.eos,
            suppress=self.encoder.suppressed,
            temperature=spec.temperature,
            samples=samples,
            generator=torch.Generator(self.model.device).manual_seed(seed),
            progress=progress,
        )
        self.tokens += sum(len(ids) for group in groups for ids in group)
        return groups

    def solve(self, asked: list[list[int]], golds: list[str]) -> list[int]:
        """How many of `pass_at` samples solve each prompt."""
        samples, correct = self.run.spec.pass_at, self.terms["correct"]
        with self.run.bar(len(asked) * samples, "samples") as bar:
            groups = self.sample(asked, samples, "pass_at", bar.update)
        self.decoder = None  # it took as many rows as there is memory for, which training now needs
        return [
            sum(correct(rewards.read(self.encoder, ids, gold)) > 0 for ids in group)
            for group, gold in zip(groups, golds)
        ]

    def values(self, prompt: list[int], group: list[list[int]]) -> list[float]:
        """The reward of each completion of a prompt."""
        gold = self.gold[tuple(prompt)]
        return [rewards.total(self.terms, rewards.read(self.encoder, ids, gold)) for ids in group]

    def repeated(self) -> float:
        """The share of the last step's completions that repeat themselves, whatever they are rewarded for."""
        texts = [self.encoder.render(ids) for _, group in self.groups for ids in group]
        return sum(map(rewards.loops, texts)) / len(texts)

    def cost(self, trained: int) -> dict[str, float]:
        """Completions and tokens trained on and tokens sampled, by the log, so of a resumed run's every step; and
        FLOPs, of which sampling a token takes a forward pass, a third. Samples that chose the prompts are apart."""
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
