"""Bring in public GPT-2 weights in the place of pretraining, widened to the experiment's vocabulary.

    python -m pretrain.import_hf experiments/gpt2_public.yaml mul_tokens 0

    import: {run: import, base: openai-community/gpt2, rows: random}

`base` is a model directory (a path, or one relative to DATA_DIR) or a Hub id. It has to be a GPT-2 whose
vocabulary is the experiment's BPE and EOS: `tokenizer.base` + 1 ids, 50257 for GPT-2's own. The rows of the
other ids are made by `rows`, as a function of the seed alone, so that the conditions of a seed start from the
same weights:

    mean      every new row is the mean of the trained ones (Hewitt 2021, "Initializing New Word Embeddings"), that
              of a group of digits (`tokenizer.group`) the mean of its digits' rows
    random    every new row is drawn from the normal distribution with the trained rows' mean and deviation,
    by column

A row near zero, as in a fresh model, would not do: the logits of trained GPT-2s are far below zero, so with
the head tied such a row would take most of the probability of every next id.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model import GPT, from_hf, read_directory
from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.hub import base_directory
from pretrain.export_hf import export
from tokenizer import encode, gpt2
from tokenizer.conditions import EOS
from tokenizer.encode import Encoder


def widen(directory: Path, encoder: Encoder, rows: str, seed: int) -> GPT:
    """The model of a directory with a row for each of the encoder's ids.

    Raises UserError if it is not a GPT-2 or its vocabulary is not the one that `encoder` extends.
    """
    config, tensors = read_directory(directory)
    trained = encoder.eos + 1
    if config.vocab_size != trained:
        why = f"it has {config.vocab_size} ids; tokenizer.base {encoder.eos} needs a model of {trained}"
        raise UserError(f"{directory}: not a base for this experiment: {why}")
    if read_vocabulary(directory) != gpt2.vocabulary(encoder.eos) | {EOS: encoder.eos}:
        raise UserError(f"{directory}: its vocabulary is not GPT-2's; take a base that was trained with that")
    state = from_hf(tensors, replace(config, padded_vocab=trained))
    old = state["wte.weight"].float()
    state["wte.weight"] = torch.cat([old, new_rows(old, encoder.size - trained, rows, seed)])
    model = GPT.from_tensors(state, replace(config, vocab_size=encoder.size, padded_vocab=encoder.size))
    if rows == "mean":
        model.average_rows(encoder.group_spellings())
    return model


def new_rows(old: Tensor, count: int, rule: str, seed: int) -> Tensor:
    """`count` embedding rows (count, n_embd) after the trained ones `old`, by the rule "mean" or "random"."""
    mean = old.mean(0).expand(count, -1)
    if rule == "mean":
        return mean
    noise = torch.empty(count, old.shape[1]).normal_(generator=torch.Generator().manual_seed(seed))
    return mean + old.std(0) * noise


def read_vocabulary(directory: Path) -> dict[str, int]:
    """Token → id of a Hugging Face model directory, in GPT-2's printable alphabet, added tokens included."""
    try:
        if (directory / "vocab.json").is_file():
            return json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
        content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        return content["model"]["vocab"] | added
    except FileNotFoundError:
        why = "holds neither vocab.json nor tokenizer.json, so its vocabulary cannot be checked"
        raise UserError(f"{directory}: {why}; put its tokenizer's files there") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: its tokenizer cannot be read ({error!r}); fetch it again") from None


def main(argv: list[str] | None = None) -> None:
    with stage.begin("import", argv, __doc__) as run:
        if run is not None:
            encoder, directory = encode.for_run(run.experiment, run.condition), base_directory(run.spec.base)
            model = widen(directory, encoder, run.spec.rows, run.seed)
            files = export(model, encoder, run.dir / "model", run.card())
            run.finish([f"model/{name}" for name in files])


if __name__ == "__main__":
    cli(main)
