"""Checkpoints of a training run: one safetensors file each, there and whole or not there at all.

A file holds every parameter under its name, what the optimizers keep of it under `exp_avg.` and the name and
the like, and in its header the step, the losses that no log line holds yet, and the SHA-256 of it all. It is
written aside, flushed to disk and renamed, so that a kill at any moment leaves the checkpoints before it. One
whose bytes are no longer those that were written is passed over, and said.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import world
from pipeline.errors import UserError

Optimizers = list[torch.optim.Optimizer]


def save(
    directory: Path, step: int, losses: list[float], model: nn.Module, optimizers: Optimizers, keep: int
) -> None:
    """Write the checkpoint of a step, then remove all but the last `keep`."""
    directory.mkdir(exist_ok=True)
    tensors = {}
    for name, p in model.named_parameters():
        tensors[name] = p.detach().contiguous().cpu()
        for optimizer in optimizers:
            for key, kept in optimizer.state.get(p, {}).items():
                if kept.shape == p.shape:  # not AdamW's count of steps
                    tensors[f"{key}.{name}"] = kept.contiguous().cpu()
    path, state = directory / f"{step:08}.safetensors", {"step": str(step), "losses": json.dumps(losses)}
    write(path, tensors, state | {"sha256": _sha256(tensors, state)})
    later = [file for file in _files(directory) if file.name > path.name]  # damaged, so passed over
    earlier = [file for file in _files(directory) if file.name <= path.name]
    for old in [*later, *earlier[:-keep], *directory.glob(".*")]:  # hidden: a kill's, half written
        old.unlink()


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file in one rename."""
    aside = path.with_name(f".{path.name}")
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, aside, metadata)
    umask = os.umask(0)
    os.umask(umask)
    aside.chmod(
        0o666 & ~umask
    )  # safetensors lets nobody else read (github.com/huggingface/safetensors/issues/782)
    for place in (aside, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        if place == aside:
            os.replace(aside, path)


def load(directory: Path, model: nn.Module, optimizers: Optimizers) -> tuple[int, list[float]]:
    """Put the last whole checkpoint into model and optimizers; its step and its losses, 0 and none without any."""
    files = _files(directory)
    for path in reversed(files):
        try:
            state, tensors = _read(path)
            _restore(int(state["step"]), tensors, model, optimizers)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if world.RANK == 0:
                message = str(error).splitlines()[0]
                print(f"{path}: is damaged ({message}), so the one before is taken", file=sys.stderr)
            continue
        if world.RANK == 0:
            print(f"going on from step {int(state['step']):,}", file=sys.stderr)
        return int(state["step"]), json.loads(state["losses"])
    if files:
        raise UserError(
            f"{directory}: every checkpoint in it is damaged; remove it to start from the first step"
        )
    return 0, []


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A file's state and tensors. Raises ValueError unless they are those that were written."""
    with safe_open(path, "pt") as file:
        state = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    if state.pop("sha256") != _sha256(tensors, state):
        raise ValueError("its bytes are not those that were written")
    return state, tensors


@torch.no_grad()
def _restore(step: int, tensors: dict[str, Tensor], model: nn.Module, optimizers: Optimizers) -> None:
    for name, p in model.named_parameters():
        p.copy_(tensors[name])
    names = {p: name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        keys = ("exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("momentum_buffer",)
        for p in [p for group in optimizer.param_groups for p in group["params"]]:
            optimizer.state[p] = {key: tensors[f"{key}.{names[p]}"].to(p) for key in keys}
            if "exp_avg" in keys:
                optimizer.state[p]["step"] = torch.tensor(float(step), device=p.device)


def _sha256(tensors: dict[str, Tensor], state: dict[str, str]) -> str:
    """Of the state, and of names, shapes and bytes."""
    hashed = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        hashed.update(tensor.contiguous().view(-1).numpy())
    return hashed.hexdigest()


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*.safetensors"))
