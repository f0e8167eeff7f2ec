"""Checkpoints of a training run: one safetensors file each, there and whole or not there at all.

A file holds every parameter under its name, what the optimizers keep of it under `exp_avg.` and the name and
the like, and in its header the step, the losses that no log line holds yet, and the SHA-256 of it all. It is
written aside, flushed to disk and renamed, so that a kill at any moment leaves the checkpoints before it. One
whose bytes are no longer those that were written is passed over, and said; it is kept under another name.
"""

import hashlib
import itertools
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
from pipeline.files import obey_umask

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
    so_far = [file for file in _files(directory) if file.name <= path.name]
    for old in [*so_far[:-keep], *directory.glob(".*")]:  # hidden: a kill's, half written
        old.unlink()


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file in one rename."""
    aside = path.with_name(f".{path.name}")
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, aside, metadata)
    obey_umask(aside)
    for place in (aside, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        if place == aside:
            os.replace(aside, path)


def milestone(run_dir: Path, step: int) -> Path:
    """Where pretraining keeps the weights of a step for ever."""
    return run_dir / "milestones" / f"{step:08}.safetensors"


def load(directory: Path, model: nn.Module, optimizers: Optimizers) -> tuple[int, list[float]]:
    """Put the last whole checkpoint into model and optimizers; its step and its losses, 0 and none without any."""
    files = _files(directory)
    for path in reversed(files):
        try:
            state, tensors = _read(path)
            step, losses = int(state["step"]), json.loads(state["losses"])
        except OSError as error:
            message = f"cannot be read ({error}), which is no damage to it; mend that and run it again"
            raise UserError(f"{path}: {message}") from None
        except (SafetensorError, ValueError, KeyError) as error:
            if world.RANK == 0:
                message = str(error).splitlines()[0]
                print(f"{path}: is damaged ({message}), so the one before is taken", file=sys.stderr)
            continue
        _restore(step, tensors, model, optimizers)
        if world.RANK == 0:
            print(f"going on from step {step:,}", file=sys.stderr)
        return step, losses
    if files:
        raise UserError(
            f"{directory}: every checkpoint in it is damaged; remove it to start from the first step"
        )
    return 0, []


def set_aside(directory: Path, step: int) -> None:
    """Rename the checkpoints of later steps, which `load` passed over on every rank, and say so."""
    for path in _files(directory) if world.RANK == 0 else []:
        if int(path.stem) > step:
            names = (path.with_name(f"{path.name}.aside{number}") for number in itertools.count(1))
            path.rename(aside := next(name for name in names if not name.exists()))
            print(f"{path}: is now {aside.name}, should anything in it be wanted", file=sys.stderr)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A file's state and tensors. Raises ValueError unless they are those that were written."""
    with safe_open(path, "pt") as file:
        state = dict(file.metadata() or {})
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
