"""Bits per byte of the validation documents: how well a model predicts text, comparable across tokenizers.

The nats of all tokens of a document (EOS included, which says that it ends) over the bytes of its *source*:
per-token losses of two tokenizers cannot be compared. Where a condition does not write the text down whole (a
placebo, a bare value), fewer bits are no merit, so documents without facts are also given alone: there all
conditions write the same.

A document begins behind an EOS, as in training. It is scored in windows of the context's length, each token
once.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model import GPT
from pipeline.errors import UserError

BATCH_TOKENS = 16384  # padded tokens that are computed at one time


def load(directory: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """(uint16 ids of each validation document, EOS behind; (documents, 2) source bytes and facts)."""
    texts, counts = [], []
    for file in sorted(directory.glob("[0-9]*/val.npy")):
        try:
            ids, docs = (np.load(f, allow_pickle=False) for f in (file, file.with_suffix(".docs.npy")))
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{file}: cannot be read ({error}); rerun prepare with --overwrite") from None
        if docs[:, 0].sum() != len(ids):
            raise UserError(
                f"{file}: its {len(ids)} tokens are not those of val.docs.npy; rerun prepare with --overwrite"
            )
        texts += np.split(ids, np.cumsum(docs[:-1, 0], dtype=np.int64)) if len(docs) else []
        counts.append(docs[:, 1:3])
    if not texts:
        raise UserError(f"{directory}: holds no validation documents; raise val_tokens and rerun prepare")
    return texts, np.concatenate(counts).astype(np.int64)


def bits_per_byte(nats: np.ndarray, texts: list[np.ndarray], counts: np.ndarray) -> dict[str, dict]:
    """Bits per byte, documents, tokens, source bytes of `all` and of `without_facts`, where there are any."""
    lengths = np.array([len(text) for text in texts])
    groups = {"all": np.ones(len(texts), bool), "without_facts": counts[:, 1] == 0}
    return {
        name: _part(nats[group], lengths[group], counts[group, 0])
        for name, group in groups.items()
        if group.any()
    }


def _part(nats: np.ndarray, lengths: np.ndarray, size: np.ndarray) -> dict:
    bits = float(nats.sum() / math.log(2) / size.sum())
    return {
        "bits_per_byte": bits,
        "documents": len(nats),
        "tokens": int(lengths.sum()),
        "bytes": int(size.sum()),
    }


@torch.inference_mode()
def document_nats(
    model: GPT, texts: list[np.ndarray], eos: int, progress: Callable[[int], object]
) -> np.ndarray:
    """Summed nats (documents,) float64; `progress` is told of tokens. Raises UserError for NaN logits."""
    context, device = model.config.block_size, model.wte.weight.device
    windows = []  # (document, inputs and their targets: up to context + 1 ids)
    for number, text in enumerate(texts):
        ids = torch.from_numpy(np.concatenate(([eos], text)).astype(np.int64))
        windows += [(number, ids[start : start + context + 1]) for start in range(0, len(ids) - 1, context)]
    windows.sort(key=lambda window: len(window[1]))
    nats = np.zeros(len(texts))
    for batch in _batches(windows) if windows else ():
        inputs = _pad([window[:-1] for _, window in batch], 0)
        targets = _pad([window[1:] for _, window in batch], -100)
        losses = model(inputs.to(device), targets.to(device), reduction="none")
        np.add.at(nats, [number for number, _ in batch], losses.double().sum(1).cpu().numpy())
        progress(int((targets >= 0).sum()))
    if not np.isfinite(nats).all():
        raise UserError(
            "the model's logits are NaN or infinite: its weights are broken (did training diverge?)"
        )
    return nats


def _batches(windows: list) -> list[list]:
    """Consecutive windows of about one length, at most BATCH_TOKENS tokens with the padding."""
    batches: list[list] = [[]]
    for window in windows:
        if batches[-1] and (len(batches[-1]) + 1) * len(window[1]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(window)
    return batches


def _pad(rows: list[Tensor], fill: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
