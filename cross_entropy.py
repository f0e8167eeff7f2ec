"""Cross-entropy behind a linear head.

On a CPU in fp32, PyTorch's own fused loss works out the gradients in forward, a few tokens at a time, whose logits stay
in a core's cache: about 0.65 of the time of whole logits at 1,088 ids and 960 tokens (LOG.md, 2026-11-25).
Under autocast and in the compiler it would run outside of them, so there it is not used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OPTIONS = nn.LinearCrossEntropyOptions(batch_chunk_size=240)  # tokens; 64 to 480 are as fast within 15%


def fuses(hidden: Tensor) -> bool:
    """Whether the fused loss serves these hidden states."""
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
