"""Muon (Jordan et al. 2024): momentum whose singular values are all brought near one.

PyTorch's own takes one matrix after the other, in bf16 everywhere. CPUs without bf16 products compute those in software:
there a step of a 0.2M model took longer in the optimizer than in forward and backward. Here matrices of one shape go
together, and on a CPU in fp32.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor

STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315  # of the Newton–Schulz iteration, as published
EPS = 1e-7  # of a norm


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Nesterov momentum and updates of AdamW's size (Liu et al. 2025, arXiv:2502.16982).

    No weight or momentum changes in a step for which `found_inf`, a tensor as fused AdamW reads it, is 1: the device
    is not waited for. The momentum is 0 behind such a step.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for parameters in shapes.values():
                self._step(parameters, group["lr"], group["weight_decay"], group["momentum"])

    def _step(self, parameters: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        for p in parameters:
            self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        gradients = [p.grad for p in parameters]
        kept: float | Tensor = 1 - lr * weight_decay
        if self.found_inf is not None:
            held = self.found_inf.bool()
            for tensor in (*gradients, *buffers):
                tensor.masked_fill_(held, 0.0)
            kept = torch.where(held, 1.0, torch.tensor(kept, dtype=torch.float64, device=held.device))
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, buffers, momentum)))
        size = 0.2 * math.sqrt(max(parameters[0].shape))
        torch._foreach_mul_(parameters, kept)
        torch._foreach_add_(
            parameters, [u.to(p.dtype) for u, p in zip(updates, parameters)], alpha=-lr * size
        )


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns), each with its singular values brought into about 0.7 … 1.2."""
    x = matrices.bfloat16() if matrices.device.type == "cuda" else matrices
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x
