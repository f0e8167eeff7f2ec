"""Cross-entropy behind a linear head, without all of its logits at one time.

Eager, losses are computed in chunks, whose logits are recomputed in backward. Under torch.compile they are computed
whole: Inductor would fuse the chunks and keep six fp32 copies of them, 15.1 GB where whole logits take 6.7.

Training on a CPU in fp32 goes another way: PyTorch's fused loss works out the gradients in forward, a few tokens at
a time, whose logits stay in a core's cache: at 1,088 ids and 960 tokens 0.67 of the time of whole logits on Zen 3, and
no gain on Zen 4 (LOG.md, 2026-11-25 and 30). Under autocast and in the compiler it would run outside of them, so
there it is not used.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LOSS_CHUNK = 8192  # tokens whose logits exist at one time: 8192 × 50432 in bf16 is 0.8 GB, in fp32 1.7 GB
_OPTIONS = nn.LinearCrossEntropyOptions(batch_chunk_size=240)  # tokens; 64 to 480 are as fast within 15%


def in_chunks(losses: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Tensor:
    """`losses(hidden, targets)` (tokens,) of hidden states (tokens, width), for as many tokens at a time as LOSS_CHUNK says."""
    chunks = list(zip(hidden.split(LOSS_CHUNK), targets.split(LOSS_CHUNK)))
    if len(chunks) == 1 or torch.compiler.is_compiling():
        return losses(hidden, targets)
    if not hidden.requires_grad:  # `checkpoint` would import torch's compiler first, which takes 2 seconds
        return torch.cat([losses(*chunk) for chunk in chunks])
    # 9% more FLOPs at 124M for 1/n of the logits' memory
    return torch.cat([checkpoint(losses, *chunk, use_reentrant=False) for chunk in chunks])


def fuses(hidden: Tensor) -> bool:
    """Whether PyTorch's fused loss serves these hidden states."""
    return (
        hidden.requires_grad
        and (hidden.device.type, hidden.dtype) == ("cpu", torch.float32)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def summed(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of −ln p in fp32, of hidden states (tokens, width), a head (ids, width) and the next ids (tokens,)."""
    if fuses(hidden):
        return F.linear_cross_entropy(hidden, weight, targets, reduction="sum", options=_OPTIONS)
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
