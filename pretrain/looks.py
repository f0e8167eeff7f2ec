"""What training looks at while it goes on: validation documents and HellaSwag. They select nothing.

All ranks share the work. Between the first step and the last a look is at the first validation documents
alone, LOOK_BYTES of their source: the whole 10M tokens of the full study every 250 steps would cost 5% of its
time. Every condition looks at the same documents; the last look is at all of them.
"""

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from eval import bpb
from eval.decode.generate import logprobs
from eval.tasks import hellaswag
from eval.tasks.task import load as load_task
from model import GPT
from pipeline.stage import Run
from tokenizer.encode import Encoder
from training import Place, out_of_memory

LOOK_BYTES = 4_000_000  # about a million tokens
HELLASWAG_ROWS = 64  # scored at once


class Looks:
    def __init__(self, run: Run, encoder: Encoder, place: Place, autocast: partial):
        self.encoder, self.place, self.autocast, self.refuse = encoder, place, autocast, run.refuse
        self.texts, self.counts = bpb.load(run.parent)
        self.few = int(np.searchsorted(np.cumsum(self.counts[:, 0]), LOOK_BYTES)) + 1  # documents
        spec = run.spec
        table = load_task(hellaswag.TASK, spec.hellaswag, "validation")[0] if spec.hellaswag_every else []
        self.table = [(item, item.requests(encoder)) for item in table[place.rank :: place.world]]

    @torch.inference_mode()
    def validate(self, model: GPT, whole: bool) -> dict[str, float]:
        """Nats a token and bits per source byte of the validation documents, of the first few or of all."""
        share = slice(self.place.rank, len(self.texts) if whole else self.few, self.place.world)
        texts, counts = self.texts[share], self.counts[share]
        with (
            self._within_memory("eval_every", "validation", "a smaller model or block_size"),
            self.autocast(),
        ):
            nats = bpb.document_nats(model, texts, self.encoder.eos, lambda n: None)
        lengths, plain = np.array([len(text) for text in texts]), counts[:, 1] == 0
        sums = [nats.sum(), lengths.sum(), counts[:, 0].sum(), nats[plain].sum(), counts[plain, 0].sum()]
        sums = self.place.sum(torch.tensor(sums, dtype=torch.float64, device=self.place.device)).tolist()
        looks = {"val_loss": sums[0] / sums[1], "val_bits_per_byte": sums[0] / sums[2] / math.log(2)}
        if sums[4]:
            looks["val_bits_per_byte_without_facts"] = sums[3] / sums[4] / math.log(2)
        return looks

    def hellaswag(self, model: GPT) -> dict[str, float]:
        """acc_norm over the rows whose endings fit the context."""
        with self._within_memory("hellaswag_every", "HellaSwag", "hellaswag_every: 0"), self.autocast():
            asked = [request for _, requests in self.table for request in requests]
            scores = iter(logprobs(model, asked, HELLASWAG_ROWS))
        endings = [(item, [next(scores) for _ in requests]) for item, requests in self.table]
        right = [float(item.grade(nats)["acc_norm"]) for item, nats in endings if None not in nats]
        sums = self.place.sum(torch.tensor([sum(right), len(right)], device=self.place.device)).tolist()
        return {"hellaswag_acc_norm": sums[0] / max(sums[1], 1), "hellaswag_rows": int(sums[1])}

    @contextlib.contextmanager
    def _within_memory(self, key: str, look: str, remedy: str) -> Iterator[None]:
        """Raises UserError where memory runs out."""
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            message = f"{look} does not fit into this device's memory beside the training"
            anew = f"or begin anew (--overwrite) with {remedy}"
            self.refuse(key, f"{message}; run it again on a GPU that is free or has more memory, {anew}")
