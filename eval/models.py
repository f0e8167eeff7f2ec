"""A model directory, opened to be asked: our own, a stage's, or any of GPT-2's shape that was exported here."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from model import GPT
from pipeline.errors import UserError
from pipeline.files import read_json
from tokenizer.encode import Encoder, from_dir

VERIFIER = "GPT2ForTokenClassification"  # among the `architectures` of its config.json


def model_directory(directory: Path) -> Path:
    """The model of a stage's directory; any other directory as it stands."""
    inner = directory / "model"
    return inner if inner.is_dir() and not (directory / "config.json").exists() else directory


def open_model(directory: Path, precision: str = "fp32") -> tuple[GPT, Encoder]:
    """The model of a directory, a stage's too, on the GPU if there is one, and its encoder.

    Raises UserError if they do not fit.
    """
    directory = model_directory(directory)
    with reading(directory):
        if VERIFIER in ((read_json(directory / "config.json") or {}).get("architectures") or ()):
            raise UserError(
                "is a verifier, which writes nothing; give it as --verifier, beside a model's --model"
            )
        encoder, model = from_dir(directory), GPT.from_directory(directory, *placed(precision))
    if model.config.vocab_size != encoder.size:
        message = f"has {model.config.vocab_size} ids and its condition.json speaks of {encoder.size}"
        raise UserError(
            f"{directory}: the model {message}; the two are not of one export, so export it again"
        )
    return model, encoder


def placed(precision: str) -> tuple[str, torch.dtype]:
    """The device that models are asked on, a GPU if there is one, and the type of their weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Whatever goes wrong with what a model directory holds is one line that names the directory."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such model directory")
    try:
        yield
    except UserError as error:  # not every one of a model's own says where it came from
        message = str(error)
        raise UserError(message if str(directory) in message else f"{directory}: {message}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a key's value of another kind
        message = f"config.json or condition.json holds what is not understood ({error})"
        raise UserError(f"{directory}: {message}; export the model again") from None
