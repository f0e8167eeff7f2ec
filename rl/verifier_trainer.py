"""transformers' Trainer on labelled solutions: every token of a solution says whether it ends right.

The model is `GPT2ForTokenClassification` with one label. Its loss over the tokens t of a step's solutions, y being 1
for a right solution and 0 for a wrong one, s_t the logit at a token, and p_t its probability by the tied embedding:

    mean_t  −y ln σ(s_t) − (1 − y) ln(1 − σ(s_t))  −  lm_weight · ln p_t

Cobbe et al. 2021 (arXiv:2110.14168) train every token and keep the language model beside it, and find that both help; they
square the error where we take the cross-entropy. The head starts at zero, so the first score of everything is ½.
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
from transformers import GPT2ForTokenClassification, PreTrainedModel, Trainer, TrainingArguments

import cross_entropy
import finetuning
from pipeline.sections import Verifier
from pipeline.stage import Run
from rl.solutions import Solution
from tokenizer import encode
from tokenizer.chat import IGNORE
from tokenizer.encode import Encoder
from training import Place

FREE = {"max_grad_norm": 1.0}  # of the whole gradient; a stage's `trainer` may say otherwise


def settings(spec: Verifier, seed: int, directory: Path) -> dict[str, Any]:
    """Every field of TrainingArguments that decides what is trained."""
    return finetuning.settings(spec, seed, directory) | dict(
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # the order is the dataset's
        num_train_epochs=1,
        max_steps=-1,
    )


def configure(run: Run) -> TrainingArguments:
    """The configuration. Raises UserError for a key of `trainer` that is refused, or that the stage sets."""
    owned = settings(run.spec, run.seed, run.dir / "checkpoints")
    return finetuning.configure(TrainingArguments, run, owned, FREE)


def summed_loss(self: PreTrainedModel, input_ids: Tensor, labels: Tensor) -> Tensor:
    """The sum of the loss over the tokens of (batch, tokens) ids that have a label: 1 right, 0 wrong, else IGNORE."""
    return loss_and_scores(self, input_ids, labels)[0]


def loss_and_scores(self: PreTrainedModel, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss, and the logits at the tokens that have a label, row by row.

    No attention mask: padding is on the right, where causal attention does not look.
    """
    hidden = self.base_model(input_ids, use_cache=False).last_hidden_state
    solution = labels != IGNORE
    scores = self.classifier(hidden[solution])[:, 0].float()
    loss = F.binary_cross_entropy_with_logits(scores, labels[solution].float(), reduction="sum")
    if self.lm_weight:
        predicted = solution[:, 1:]  # by the position before; a solution never opens a text
        head, ids = self.base_model.wte.weight, input_ids[:, 1:][predicted]
        nll = cross_entropy.summed(hidden[:, :-1][predicted], head, ids)
        loss = loss + self.lm_weight * nll
    return loss, scores


class SolutionTrainer(finetuning.SummedLoss, Trainer):
    """Trainer on solutions in their order, with our loss."""

    def __init__(self, model: PreTrainedModel, *args: Any, spec: Verifier, **kwargs: Any):
        super().__init__(model, *args, spec=spec, **kwargs)
        model.lm_weight = spec.lm_weight
        model.forward = MethodType(summed_loss, model)  # in `forward`, because DDP looks nowhere else
        self.model_accepts_loss_kwargs = True  # so that it counts a step's labels


class SolutionCollator:
    """Solutions as rectangles of ids and labels, padded on the right."""

    def __init__(self, pad: int):
        self.pad = pad

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        labels = [torch.full((len(row["input_ids"]),), IGNORE) for row in rows]
        for line, row in zip(labels, rows):
            line[row["start"] :] = row["right"]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }


def dataset(solutions: list[Solution], order: np.ndarray) -> Dataset:
    """Lines of `input_ids`, prompt and completion, the `start` of the completion, and whether it is `right`."""
    lines = Dataset.from_dict(
        {
            "input_ids": [solution.ids for solution in solutions],
            "start": [solution.start for solution in solutions],
            "right": [int(solution.right) for solution in solutions],
        }
    )
    return lines.select(order)


class SolutionLooks:
    """The loss on dev solutions, and the share whose last token's score says rightly whether they are right."""

    def __init__(self, run: Run, place: Place, model: PreTrainedModel, encoder: Encoder, dev: list[Solution]):
        self.place, self.model, self.collator = place, model, SolutionCollator(encoder.pad)
        self.lines = dataset(dev, np.arange(len(dev))[place.rank :: place.world])
        self.micro_batch = finetuning.split(run.spec.batch_size, run.spec.micro_batch)[
            0
        ]  # fits beside training

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        sums = torch.zeros(4, dtype=torch.float64, device=self.place.device)
        for start in range(0, len(self.lines), self.micro_batch):
            rows = [self.lines[i] for i in range(start, min(start + self.micro_batch, len(self.lines)))]
            batch = {name: tensor.to(self.place.device) for name, tensor in self.collator(rows).items()}
            loss, scores = loss_and_scores(self.model, **batch)
            ends = (batch["labels"] != IGNORE).sum(1).cumsum(0) - 1
            right = torch.tensor([row["right"] for row in rows], device=self.place.device) == 1
            told = ((scores[ends] > 0) == right).sum()
            sums += torch.stack([loss, ends[-1] + 1, told, torch.ones_like(ends).sum()])
        loss, tokens, told, count = self.place.sum(sums).tolist()
        return {"dev_loss": loss / tokens, "dev_verified": told / count, "dev_solutions": int(count)}


def load(directory: Path) -> GPT2ForTokenClassification:
    """A language model's trunk, with a head that scores everything zero."""
    model = finetuning.load(GPT2ForTokenClassification, directory, num_labels=1, classifier_dropout=0.0)
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)
    return model


def build(
    model: GPT2ForTokenClassification,
    encoder: Encoder,
    solutions: list[Solution],
    order: np.ndarray,
    spec: Verifier,
    config: TrainingArguments,
    report: Callable[[int, dict], None] | None = None,
) -> SolutionTrainer:
    """A trainer that takes the solutions in the given order."""
    return SolutionTrainer(
        model,
        report,
        spec=spec,
        args=config,
        train_dataset=dataset(solutions, order),
        data_collator=SolutionCollator(encoder.pad),
    )


def fit(
    run: Run,
    place: Place,
    encoder: Encoder,
    start: Path,
    solutions: list[Solution],
    order: np.ndarray,
    config: TrainingArguments,
    dev: list[Solution],
) -> list[str]:
    """Train the model of `start` on the solutions, from the last checkpoint on; the names of the files of its model.

    Those of `dev` are looked at on the way.
    """
    checkpoint, step = finetuning.resume(run, place)
    size = run.spec.batch_size
    lengths = np.array([len(solution.ids) for solution in solutions])
    tokens = lengths[order].reshape(-1, size).sum(1).tolist()  # of each step
    with run.bar(sum(tokens), "tokens", sum(tokens[:step])) as bar:
        model = load(start)
        looks = SolutionLooks(run, place, model, encoder, dev) if dev else None
        report = finetuning.Report(run, bar, step, len(tokens), looks)
        trainer = build(
            model,
            encoder,
            solutions,
            order,
            run.spec,
            config,
            lambda step, metrics: report(step, metrics, done=tokens[step - 1]),
        )
        longest = dataset(solutions, np.argsort(-lengths, kind="stable")[:size])

        def attempt(model: nn.Module, n: int) -> None:
            trainer.attempt(model, [longest[i % len(longest)] for i in range(n)])

        finetuning.fit(trainer, run, place, checkpoint, "solutions", attempt)
    if not trainer.is_world_process_zero():
        return []
    files = encode.save_model(trainer.model, encoder, run.dir / "model", run.card())
    return [f"model/{name}" for name in files]
