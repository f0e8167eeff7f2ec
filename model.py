"""GPT-2 in plain PyTorch: the network that pretrain trains, export writes and eval.generate decodes.

Pre-LN blocks, tanh GELU ("gelu_new"), learned positions, a head tied to the token embedding and no dropout
(Radford et al. 2019). The parameters carry GPT-2's own names, so the map to and from a Hugging Face directory
is a prefix and a transposition: both directions live here, in `to_hf` and `from_hf`, and nowhere else.

The embedding has `padded_vocab` rows, a multiple of 128 for the tensor cores; ids go up to `vocab_size` only.
The loss sets the padded columns of the logits to −inf: a write of 0.2% of what the head has just written,
where slicing them off would copy all the rest. So the loss is that of the unpadded model, and the padded
rows, which start at zero and get a gradient of exactly zero, stay there.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import cross_entropy
from pipeline.errors import UserError

INIT_STD = (
    0.02  # at GPT-2's width and above; a narrower model starts wider, as 1/√n_embd: at 0.02 it hardly starts
)
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")  # causal masks that old GPT-2 files carry as tensors
ARCHITECTURE = {  # keys of config.json that change what GPT-2 computes, and the values that are computed here
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}

# On Hopper cuDNN's attention is torch's first choice. It builds a plan for each new shape, half a second each, and
# has given NaN gradients under masks (github.com/pytorch/pytorch/issues/196678). Flash attention does neither.
torch.backends.cuda.enable_cudnn_sdp(False)

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GPTConfig:
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int  # longest context, in tokens
    padded_vocab: int = 0  # rows of the embedding; 0: vocab_size rounded up to a multiple of 128

    def __post_init__(self):
        for key in ("vocab_size", "n_layer", "n_head", "n_embd", "block_size"):
            if getattr(self, key) < 1:
                raise UserError(f"{key} is {getattr(self, key)}: it must be at least 1")
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if not self.padded_vocab:
            object.__setattr__(self, "padded_vocab", -(-self.vocab_size // 128) * 128)
        if self.padded_vocab < self.vocab_size:
            raise UserError(f"padded_vocab {self.padded_vocab} is less than vocab_size {self.vocab_size}")


def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every token attends to itself and to all before it; q, k, v (batch, heads, tokens, head size)."""
    if q.device.type == "cpu" and q.requires_grad and q.dtype == torch.float32:
        return _causal_halves(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _causal_halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention for training in fp32 on CPUs: plain products, up to 2 times as fast there as the fused one.

    The first half of the tokens attends to nothing in the second, which saves a quarter of the work.
    """
    shape, half = q.shape, q.shape[2] // 2
    q, k, v = (t.reshape(-1, *shape[2:]) for t in (q, k, v))
    outputs = []
    for start, end in ((0, half), (half, shape[2])):
        later = torch.full((end - start, end), -math.inf).triu_(start + 1)
        scores = torch.baddbmm(later, q[:, start:end], k[:, :end].mT, alpha=shape[3] ** -0.5)
        outputs.append(scores.softmax(-1) @ v[:, :end])
    return torch.cat(outputs, 1).view(shape)


class Attention(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        heads = (t.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for t in self.c_attn(x).chunk(3, -1))
        return self.c_proj(attend(layer, *heads).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        x = x + self.attn(self.ln_1(x), layer, attend)
        return x + self.mlp(self.ln_2(x))


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Zeros: to draw, on the meta device, torch would import its compiler first, which takes 2 seconds."""
    return nn.Embedding(rows, width, _weight=torch.zeros(rows, width))


class GPT(nn.Module):
    """GPT-2. `GPT(config).init_weights(seed)` is a fresh one, `GPT.from_directory(dir)` a trained one."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = _embedding(config.padded_vocab, config.n_embd)
        self.wpe = _embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)

    @torch.no_grad()
    def init_weights(self, seed: int) -> "GPT":
        """GPT-2's initialisation: a function of the seed alone, equal on every device, in every condition.

        Fact rows are drawn like all others: no id is special. The embedding is drawn last, so that
        vocabularies of different sizes still share every other weight.
        """
        generator = torch.Generator().manual_seed(seed)
        std = INIT_STD * max(1.0, math.sqrt(768 / self.config.n_embd))
        tensors = dict(self.named_parameters())
        embedding = tensors.pop("wte.weight")
        for name, p in tensors.items():
            if p.dim() == 1:
                p.fill_(1.0 if ".weight" in name else 0.0)  # LayerNorm gains are 1, all biases 0
            else:
                depth = 2 * self.config.n_layer if name.endswith("c_proj.weight") else 1  # residual additions
                p.copy_(torch.empty(p.shape).normal_(0, std / math.sqrt(depth), generator=generator))
        rows = torch.empty(self.config.vocab_size, self.config.n_embd)
        embedding.zero_()[: self.config.vocab_size] = rows.normal_(0, std, generator=generator)
        return self

    @torch.no_grad()
    def average_rows(self, spellings: dict[int, list[int]]) -> None:
        """Set embedding rows, each to the mean of the rows of other ids (as Hewitt 2021 does of all)."""
        for row, ids in spellings.items():
            self.wte.weight[row] = self.wte.weight[ids].mean(0)

    def hidden(self, idx: Tensor, positions: Tensor | None = None, attend: Attend = causal) -> Tensor:
        """Token ids (batch, tokens) to what the head reads (batch, tokens, n_embd).

        `positions` (broadcast over idx) default to 0, 1, …; `attend(layer, q, k, v)` is the attention, so
        that a decoder can bring its cache.
        """
        if positions is None:
            positions = torch.arange(idx.shape[1], device=idx.device)
        x = self.wte(idx) + self.wpe(positions)
        for layer, block in enumerate(self.h):
            x = block(x, layer, attend)
        return self.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab_size) of hidden states (…, n_embd)."""
        return F.linear(hidden, self.wte.weight)[..., : self.config.vocab_size]

    def forward(self, idx: Tensor, targets: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Logits (batch, tokens, vocab_size) of ids (batch, tokens); or, given targets, the loss in nats.

        Targets are the next ids, −100 where none counts. reduction "mean" is over the targets that count;
        "none" gives (batch, tokens) with 0 where none counts, which bits per byte needs.
        """
        hidden = self.hidden(idx)
        if targets is None:
            return self.logits(hidden)
        if reduction == "mean" and cross_entropy.fuses(hidden):
            rows, head = hidden.flatten(0, 1), self.wte.weight[: self.config.vocab_size]
            return cross_entropy.summed(rows, head, targets.flatten()) / (targets != -100).sum()
        losses = cross_entropy.in_chunks(self._losses, hidden.flatten(0, 1), targets.flatten())
        return losses.view_as(targets) if reduction == "none" else losses.sum() / (targets != -100).sum()

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in fp32 (tokens,) of hidden states (tokens, n_embd)."""
        logits = F.linear(hidden, self.wte.weight)
        if torch.compiler.is_compiling():  # the write in place would become a blocking copy
            kept = torch.arange(logits.shape[1], device=logits.device) < self.config.vocab_size
            logits = torch.where(kept, logits, -math.inf)
        else:
            logits[:, self.config.vocab_size :] = -math.inf
        return F.cross_entropy(logits.float(), targets, reduction="none")

    def flops_per_token(self, length: int | None = None) -> float:
        """Training FLOPs per token at a context of `length` (block_size if None): 6N + 12·L·H·T.

        PaLM (Chowdhery et al. 2022), appendix B, H being n_embd. N leaves out the position table, which is
        only read, and the padded rows, which are no part of the model.
        """
        c = self.config
        parameters = sum(p.numel() for p in self.parameters())
        n = parameters - (c.block_size + c.padded_vocab - c.vocab_size) * c.n_embd
        return 6 * n + 12 * c.n_layer * c.n_embd * (length or c.block_size)

    @classmethod
    def from_tensors(
        cls,
        tensors: dict[str, Tensor],
        config: GPTConfig,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "GPT":
        """A model made of tensors under our names. Raises UserError naming any that do not fit."""
        _check(tensors, config)
        with torch.device("meta"):
            model = cls(config)
        model.load_state_dict({name: t.to(device, dtype) for name, t in tensors.items()}, assign=True)
        return model

    @classmethod
    def from_directory(
        cls, model_dir: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "GPT":
        """The model of a Hugging Face GPT-2 directory (config.json, model.safetensors), in eval mode.

        Raises UserError where a file is missing or unreadable, or where it holds another architecture.
        """
        config, tensors = read_directory(model_dir)
        return cls.from_tensors(from_hf(tensors, config), config, device, dtype).eval()


def read_directory(model_dir: Path | str) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Configuration and tensors, under their Hugging Face names, of a GPT-2 directory."""
    config_file, weights = Path(model_dir) / "config.json", Path(model_dir) / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise UserError(f"{file}: no such file; a model directory has config.json and model.safetensors")
    try:
        values = json.loads(config_file.read_text())
        tensors = load_file(weights)
    except (ValueError, SafetensorError, OSError) as error:
        raise UserError(f"{model_dir}: cannot be read as a model directory: {error}") from None
    for key, ours in ARCHITECTURE.items():
        if values.get(key, ours) != ours:
            raise UserError(f"{config_file}: {key} is {values[key]!r}; only GPT-2's {ours!r} is supported")
    try:
        config = GPTConfig(
            values["vocab_size"], values["n_layer"], values["n_head"], values["n_embd"], values["n_positions"]
        )
    except KeyError as error:
        raise UserError(f"{config_file}: the key {error} is missing") from None
    return config, tensors


def to_hf(state: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Our tensors under `GPT2LMHeadModel`'s names, without padded rows and without a copy for the tied head.

    GPT-2's Conv1D holds the transpose of nn.Linear's weight. Raises UserError naming what does not fit.
    """
    _check(state, config)
    tensors = state | {"wte.weight": state["wte.weight"][: config.vocab_size]}
    return {
        f"transformer.{name}": (t.t() if name.endswith(CONV1D) else t).contiguous()
        for name, t in tensors.items()
    }


def from_hf(tensors: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The inverse of `to_hf`; padded rows are zeros. Names may lack the prefix, as in GPT-2's first files."""
    head = tensors.get("lm_head.weight")
    names = {name: name.removeprefix("transformer.") for name in tensors if name != "lm_head.weight"}
    state = {
        ours: tensors[name].t().contiguous() if ours.endswith(CONV1D) else tensors[name]
        for name, ours in names.items()
        if not ours.endswith(MASKS)
    }
    rows = state.get("wte.weight")
    if rows is not None:
        if head is not None and not torch.equal(head, rows):
            raise UserError("lm_head.weight differs from wte.weight: only a tied head is supported")
        if rows.shape == (config.vocab_size, config.n_embd):
            state["wte.weight"] = F.pad(rows, (0, 0, 0, config.padded_vocab - config.vocab_size))
    _check(state, config)
    return state


def _check(state: dict[str, Tensor], config: GPTConfig) -> None:
    """Raise UserError unless `state` has exactly a GPT's tensors in their shapes."""
    layers = {name.split(".")[1] for name in state if name.startswith("h.")}
    if len(layers) != config.n_layer:  # before as many modules are made, which could take for ever
        raise UserError(f"n_layer is {config.n_layer}, and there are tensors of {len(layers)} layers")
    with torch.device("meta"):
        expected = {name: list(t.shape) for name, t in GPT(config).state_dict().items()}
    faults = [f"missing {name}" for name in expected.keys() - state.keys()]
    faults += [f"extra {name}" for name in state.keys() - expected.keys()]
    faults += [
        f"{name} has shape {list(state[name].shape)}, not {shape}"
        for name, shape in expected.items()
        if name in state and list(state[name].shape) != shape
    ]
    if faults:
        raise UserError(f"tensors do not fit the configuration: {'; '.join(sorted(faults))}")
