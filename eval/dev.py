"""What fine-tuning looks at while it goes on: dev problems, which it never trains on. They select nothing.

A look is at the first PROBLEMS dev rows (pipeline.rows.split_dev) that fit. It gives

- `dev_loss`, nats a token, and `dev_gold_bits_per_byte` of their reference answers, see eval/likelihood.py;
- `dev_accuracy`, greedy;
- of `samples` of each, where there are any, `dev_pass@1`, the share that is right, and `dev_pass@SAMPLES`, the share of
  problems that one of them solves.

A look reads the weights, and the seed, the step and the problem decide what is sampled: training is the same to the
last bit with looks and without, and a look that is made again after a kill is the same. All processes share the problems.
"""

import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eval import likelihood
from eval.decode.generate import Decoder
from eval.grading.programs import run_programs
from eval.tasks import gsm8k
from eval.tasks.task import Question, read
from model import GPT, GPTConfig, from_hf
from pipeline import world
from pipeline.formats import described
from pipeline.rows import load_rows, split_dev
from pipeline.stage import Run
from tokenizer import encode
from tokenizer.encode import Encoder

PROBLEMS = 200
ROWS = 64  # scored or decoded at once: training has its memory beside

Answer = Callable[
    [dict], str | None
]  # a row → the reference answer as training writes it; None where it is dropped


def load(
    run: Run, encoder: Encoder, context: int, source: str, name: str | None, answer: Answer | None = None
) -> list[Question]:
    """The dev problems of a look, of rows in GSM8K's columns; says what was left out. Raises UserError for none."""
    skipped: Counter = Counter()
    rows = split_dev(load_rows(source, gsm8k.FORMAT, "train", name=name, skipped=skipped))[1]
    questions, more = read(gsm8k.TASK, rows)
    if answer:
        answers = {row["question"]: answer(row) for row in reversed(rows)}  # of repeats the first is asked
        questions = [question._replace(solution=answers[question.question]) for question in questions]
    plain = encode.every_split(encoder.condition, run.experiment)
    fitting = [question for question in questions if question.fits(plain, context)]
    more["longer than the context"] = len(questions) - len(fitting)
    used = fitting[:PROBLEMS]
    if not used:
        run.refuse("eval_every", f"none of the {len(rows)} dev rows of {source} can be asked; set it to 0")
    if world.RANK == 0:
        left_out = f"left out: {described(+more) or 'none'}"
        message = f"looks at {len(used)} of {len(rows)} dev rows of {source}; {left_out}"
        print(f"{run.experiment.path}: stages.{run.name}.eval_every: {message}", file=sys.stderr)
    return used


class DevLooks:
    """Looks at a causal model of transformers', as it is when they are made."""

    def __init__(
        self,
        run: Run,
        encoder: Encoder,
        model: nn.Module,
        questions: list[Question],
        max_new_tokens: int,
        add_up: Callable[[Tensor], Tensor],
        samples: int = 0,
        temperature: float = 1.0,
    ):
        self.run, self.encoder, self.model = run, encoder, model
        self.max_new_tokens, self.add_up = max_new_tokens, add_up  # over all processes
        self.samples, self.temperature = samples, temperature
        self.mine = questions[world.RANK :: world.WORLD]
        self.plain = encode.every_split(encoder.condition, run.experiment)

    def __call__(self, step: int) -> dict[str, float]:
        """The metrics of a look behind a step."""
        decoder = Decoder(self._weights())
        sums = [*self._likelihood(decoder.model), *self._greedy(decoder), *self._sampled(decoder, step)]
        whole = torch.tensor(sums, dtype=torch.float64, device=decoder.device)
        nats, tokens, bits, size, right, asked, solved, once = self.add_up(whole).tolist()
        metrics = {"dev_loss": nats / tokens} if tokens else {}
        metrics |= {"dev_gold_bits_per_byte": bits / size} if size else {}
        metrics |= {"dev_accuracy": right / asked, "dev_problems": int(asked)}
        if self.samples:
            metrics |= {"dev_pass@1": solved / asked / self.samples, f"dev_pass@{self.samples}": once / asked}
        return metrics

    def _weights(self) -> GPT:
        """The model as it is at the moment, as our decoder reads it."""
        hf = self.model.config
        config = GPTConfig(hf.vocab_size, hf.n_layer, hf.n_head, hf.n_embd, hf.n_positions)
        dtype = torch.bfloat16 if self.run.spec.precision == "bf16" else torch.float32
        tensors = from_hf(self.model.state_dict(), config)
        return GPT.from_tensors(tensors, config, self.model.device, dtype).eval()

    def _likelihood(self, model: GPT) -> tuple[float, int, float, int]:
        """Nats and tokens of the reference answers; their bits and bytes where the condition writes them whole."""
        scores = likelihood.gold_nats(model, self.encoder, self.plain, self.mine, ROWS)
        nats, tokens = -sum(map(sum, scores)), sum(map(len, scores))
        if not self.encoder.condition.invertible:
            return nats, tokens, 0.0, 0
        sizes = [likelihood.gold_bytes(question) for question, score in zip(self.mine, scores) if score]
        return nats, tokens, nats / math.log(2), sum(sizes)

    def _greedy(self, decoder: Decoder) -> tuple[int, int]:
        """Problems solved, and asked."""
        return sum(self._right(decoder.generate(self._prompts(), **self._kwargs()))), len(self.mine)

    def _sampled(self, decoder: Decoder, step: int) -> tuple[int, int]:
        """Samples that are right, and problems that one of them solves."""
        if not self.samples:
            return 0, 0
        keys = [
            random.Random(f"{self.run.seed} dev {step} {question.id}").getrandbits(63)
            for question in self.mine
        ]
        groups = decoder.generate(
            self._prompts(),
            **self._kwargs(),
            temperature=self.temperature,
            samples=self.samples,
            keys=keys,
        )
        right = [self._right(replies) for replies in zip(*groups)]  # of each round
        return sum(map(sum, right)), sum(map(any, zip(*right)))

    def _prompts(self) -> list[list[int]]:
        return [question.prompt(self.encoder) for question in self.mine]

    def _kwargs(self) -> dict:
        encoder = self.encoder
        ids = {"eos": encoder.eos, "suppress": encoder.suppressed}
        return ids | {"max_new_tokens": self.max_new_tokens, "batch_size": ROWS}

    def _right(self, replies: Sequence[list[int]]) -> list[bool]:
        """Whether each problem is solved by its reply, as an evaluation would grade it."""
        rows = []
        for question, reply in zip(self.mine, replies):
            text = self.encoder.render(reply)
            row = {"completion": text, "gold": question.gold}
            rows.append(row | question.grade(text, question.gold))
        run_programs(rows)
        return [row["correct"] for row in rows]
