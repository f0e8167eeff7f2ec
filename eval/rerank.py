"""A verifier, read and applied: a score for each sampled answer, by which samples are ranked.

A verifier's directory holds a `GPT2ForTokenClassification` with one label (Cobbe et al. 2021, arXiv:2110.14168):
GPT-2's trunk and, in the place of its head, one linear row `classifier`. The score of an answer is the logit at its
last token, which is EOS where it ended. The trunk here is our own GPT, whose hidden states are transformers'.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.decode.cache import PREFILL_TOKENS, pad
from eval.decode.packed import ready
from eval.models import model_directory, placed, reading
from model import GPT, from_hf, read_directory
from pipeline.errors import UserError
from tokenizer.encode import Encoder, from_dir

HEAD = ("classifier.weight", "classifier.bias")


class Reranker:
    """A verifier's trunk, and the row (1, n_embd) and bias (1,) that score its hidden states."""

    def __init__(self, model: GPT, weight: Tensor, bias: Tensor):
        self.model, self.weight, self.bias = model, weight, bias
        self.ready = ready(model)

    def check(self, length: int) -> None:
        """Raises UserError unless texts of so many tokens, prompt and completion together, fit the context."""
        if length > (context := self.model.config.block_size):
            message = (
                f"an answer of {length} tokens, its prompt included, is longer than the verifier's context"
            )
            raise UserError(f"{message} of {context}")

    @classmethod
    def from_directory(cls, directory: Path | str, encoder: Encoder, precision: str = "fp32") -> "Reranker":
        """The verifier of a directory, a stage's too, for answers that `encoder`'s condition has written.

        Raises UserError unless it is a verifier and reads these very ids.
        """
        directory = model_directory(Path(directory))
        with reading(directory):
            own, generator = from_dir(directory).condition, encoder.condition
            if own.fingerprint() != generator.fingerprint():
                names = f"'{own.name}' ({own.vocabulary}, {own.size} ids)"
                other = f"'{generator.name}' ({generator.vocabulary}, {generator.size} ids)"
                raise UserError(
                    f"is a verifier of {names}, not of {other}; give one of the model's condition"
                )
            config, tensors = read_directory(directory)
            if missing := [name for name in HEAD if name not in tensors]:
                raise UserError(
                    f"has no {missing[0]}, so it is no verifier; give a verifier stage's directory"
                )
            weight, bias = (tensors.pop(name).float() for name in HEAD)
            if weight.shape != (1, config.n_embd) or bias.shape != (1,):
                raise UserError(f"classifier.weight has shape {list(weight.shape)}; a verifier has one label")
            if config.vocab_size != own.size:
                raise UserError(
                    f"has {config.vocab_size} ids, and its condition.json {own.size}; train it again"
                )
            device, dtype = placed(precision)
            model = GPT.from_tensors(from_hf(tensors, config), config, device, dtype).eval()
        return cls(model, weight.to(device), bias.to(device))

    @torch.inference_mode()
    def scores(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
        """The logit at the last token of each completion, which follows the prompt in the same place.

        A text that occurs several times is computed once. Raises UserError for one longer than the context.
        """
        texts = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
        longest_first = sorted(set(texts), key=lambda text: (-len(text), text))
        if not longest_first:
            return []
        self.check(len(longest_first[0]))
        known: dict[tuple[int, ...], float] = {}
        while len(known) < len(longest_first):
            size = max(1, PREFILL_TOKENS // len(longest_first[len(known)]))
            batch = longest_first[len(known) : len(known) + size]
            known |= zip(batch, self._last(batch))
        return [known[text] for text in texts]

    def _last(self, texts: list[tuple[int, ...]]) -> list[float]:
        """The logit at the last token of each; texts are padded on the right, where nothing attends to the pads."""
        ids, lengths = pad(texts, self.model.wte.weight.device)
        hidden = self.ready.hidden(ids)[torch.arange(len(texts), device=ids.device), lengths - 1]
        logits = F.linear(hidden.float(), self.weight, self.bias)[:, 0]
        if not logits.isfinite().all():
            raise UserError("the verifier's scores are NaN or infinite: its weights are broken")
        return logits.tolist()
