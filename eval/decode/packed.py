"""A model on linear layers laid out for oneDNN: decoding on a CPU whose vectors are wide enough for it to pay."""

import torch
from torch import Tensor, nn

from model import GPT


def ready(model: GPT) -> GPT:
    """The model as its device decodes it fastest.

    Packed layers need AVX-512. On one Zen 5 core they are in bf16 1.1 times as fast at 256 rows, 2 times at 16, and
    1.6 times with GELU; in fp32, which PyTorch gives to MKL, 2.4 times. With AVX2 alone (Zen 3, torch 2.13) a layer
    of 64 × 192 takes 2 to 6 times as long packed, and one of 768 × 3072 between 1 and 0.6 times: no gain that is worth
    the loss. The capability decides and no stopwatch: one machine always computes the same bits.
    """
    if model.wte.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return model
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return model
    if model.wte.weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return model
    return PackedGPT(model)


class Packed(nn.Module):
    """A linear layer with its weight in oneDNN's own layout, and what follows it ("none", "gelu") fused in."""

    def __init__(self, weight: Tensor, bias: Tensor | None, after: str = "none"):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self.bias, self.after = bias, after

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.after, [], "tanh")


class PackedGPT(GPT):
    """A model on packed linear layers; embeddings, norms and biases are the given model's own."""

    def __init__(self, model: GPT):
        with torch.device("meta"):
            super().__init__(model.config)
        self.wte, self.wpe, self.ln_f = model.wte, model.wpe, model.ln_f
        self.head = Packed(model.wte.weight, None)
        for block, theirs in zip(self.h, model.h):
            block.ln_1, block.ln_2 = theirs.ln_1, theirs.ln_2
            block.attn.c_attn = Packed(theirs.attn.c_attn.weight, theirs.attn.c_attn.bias)
            block.attn.c_proj = Packed(theirs.attn.c_proj.weight, theirs.attn.c_proj.bias)
            widen = Packed(theirs.mlp.c_fc.weight, theirs.mlp.c_fc.bias, "gelu")
            block.mlp = nn.Sequential(widen, Packed(theirs.mlp.c_proj.weight, theirs.mlp.c_proj.bias))

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)[..., : self.config.vocab_size]
