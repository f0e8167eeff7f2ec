"""Checkpoints of a training run: one safetensors file each, there and whole or not there at all.

A file holds every parameter under its name, AdamW's two moments under `exp_avg.` and `exp_avg_sq.` and the
name, and in its header the step. It is written aside, flushed to disk and renamed, so that a kill at any
moment leaves the checkpoints before it.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import UserError

MOMENTS = ("exp_avg", "exp_avg_sq")


def save(directory: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, keep: int) -> None:
    """Write the checkpoint of a step, then remove all but the last `keep`."""
    directory.mkdir(exist_ok=True)
    tensors = {}
    for name, p in model.named_parameters():
        tensors[name] = p.detach()
        tensors |= {f"{moment}.{name}": optimizer.state[p][moment] for moment in MOMENTS}
    write(directory / f"{step:08}.safetensors", tensors, {"step": str(step)})
    for old in [*_files(directory)[:-keep], *directory.glob(".*")]:  # hidden: a kill's, half written
        old.unlink()


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file in one rename."""
    aside = path.with_name(f".{path.name}")
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, aside, metadata)
    for place in (aside, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        if place == aside:
            os.replace(aside, path)


def load(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the last checkpoint into model and optimizer; its step, 0 if there is none."""
    files = _files(directory)
    if not files:
        return 0
    try:
        with safe_open(files[-1], "pt") as file:
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(tensors[name])
                moments = {moment: tensors[f"{moment}.{name}"].to(p) for moment in MOMENTS}
                optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device), **moments}
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{files[-1]}: is damaged ({said}); remove it to go on from the one before") from None
    print(f"going on from step {step:,}", file=sys.stderr)
    return step


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*.safetensors"))
