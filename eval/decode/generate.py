"""Batched decoding and scoring for our GPT: the one way in which evaluations and rewards ask a model.

Why it is many times faster than a `generate` at a small batch:

- batches are large and sorted by prompt length, and a row that has finished leaves its batch at once: the
  last open row is moved into its place, so the open rows always come first and no step computes a dead one;
- keys and values go to a cache that is allocated once and read only as far as it is filled;
- on a CPU the linear layers run on oneDNN, their weights laid out for it once and not at every call;
- a prompt is computed once, whatever the number of samples, and the head only reads its last position.

Prompts are right-padded, so that they need no mask but the causal one. Every row writes the key and value of
its t-th new token to the column that follows the longest prompt by t; the columns between a row's prompt and
that are masked. (Positions are added to the embeddings, so a column carries none.) On a GPU the same step is
replayed as a CUDA graph, one for each rounded shape, because launching its kernels one by one would cost more
than running them.
"""

import math
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import GPT, causal
from pipeline.errors import UserError

CPU_CACHE = 4 * 2**30  # bytes of cache that a batch may reserve; memory is taken only as the columns fill
PREFILL_TOKENS = 16384  # padded prompt tokens that are computed at one time
HEAD_TOKENS = 2048  # scored positions whose logits exist at one time
ROUNDING = {"cpu": (1, 1), "cuda": (64, 64)}  # the (rows, columns) that a step is rounded up to: fewer graphs


@torch.inference_mode()
def generate(
    model: GPT,
    prompts: list[list[int]],
    max_new_tokens: int | list[int],
    *,
    eos: int,
    suppress: list[int],
    temperature: float = 0.0,
    samples: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[list[int] | None] | list[list[list[int]] | None]:
    """The continuation of each prompt: its new ids up to and including `eos`, unless a limit came first.

    Greedy at temperature 0, else sampled from the softmax of logits / temperature with `generator` (which
    lives on the model's device). With samples > 1 each prompt gets a list of that many continuations.
    `suppress` are ids never produced. `max_new_tokens` holds for all prompts or is one number each; no row
    outgrows the context, and a prompt that fills it is given None and counted on stderr. `batch_size` is in
    rows (prompts × samples); by default as many as the cache has memory for. `progress(n)` is told of every n
    continuations that are finished. Greedy ids do not depend on the batching (but for rounding). Raises
    UserError for NaN logits.
    """
    limits = max_new_tokens if isinstance(max_new_tokens, list) else [max_new_tokens] * len(prompts)
    context = model.config.block_size
    if len(limits) != len(prompts) or min(limits, default=1) < 1:
        raise UserError(f"max_new_tokens: give one positive number, or one each for {len(prompts)} prompts")
    if not all(prompts):
        raise UserError(f"prompt {prompts.index([])} is empty: there is nothing to continue")
    rooms = [min(limit, context - len(prompt)) for prompt, limit in zip(prompts, limits)]
    order = sorted((i for i, room in enumerate(rooms) if room > 0), key=lambda i: -len(prompts[i]))
    if len(order) < len(prompts):
        many = f"{len(prompts) - len(order)} of {len(prompts)} prompts"
        print(f"warning: {many} fill the context of {context}: not answered", file=sys.stderr)

    suppressed = torch.tensor(suppress, dtype=torch.int64, device=model.wte.weight.device)
    choose = partial(_choose, suppress=suppressed, temperature=temperature, generator=generator)
    replies: list = [None] * len(prompts)
    if not order:
        return replies
    columns = len(prompts[order[0]]) + max(rooms)
    size = max(1, min(batch_size or _cache_rows(model, columns), len(order) * samples) // samples)
    cache = Cache(_ready(model), size * samples, columns)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        asked = [prompts[i] for i in batch], [rooms[i] for i in batch]
        rows = _decode(cache, *asked, samples, eos, choose, progress)
        for at, i in enumerate(batch):
            replies[i] = rows[at * samples] if samples == 1 else rows[at * samples : (at + 1) * samples]
    return replies


def _decode(
    cache: "Cache",
    prompts: list[list[int]],
    rooms: list[int],
    samples: int,
    eos: int,
    choose: Callable[[Tensor], Tensor],
    progress: Callable[[int], None] | None,
) -> list[list[int]]:
    """One batch: the new ids of prompt 0's samples, then prompt 1's, and so on."""
    replies: list[list[int]] = [[] for _ in range(len(prompts) * samples)]
    open_rows = list(range(len(replies)))  # the reply that each row of the cache works on
    logits = cache.prefill(prompts, samples)
    while True:
        tokens = choose(logits).tolist()
        for row, token in zip(open_rows, tokens):
            replies[row].append(token)
        keep = [
            token != eos and len(replies[row]) < rooms[row // samples]
            for row, token in zip(open_rows, tokens)
        ]
        if progress and not all(keep):
            progress(keep.count(False))
        left = keep.count(True)
        if not left:
            return replies
        holes = [i for i in range(left) if not keep[i]]
        movers = [i for i in range(left, len(keep)) if keep[i]]
        for hole, mover in zip(holes, movers):
            open_rows[hole] = open_rows[mover]
        cache.move(movers, holes)
        del open_rows[left:]
        logits = cache.step(
            [replies[row][-1] for row in open_rows],
            [len(prompts[row // samples]) + len(replies[row]) - 1 for row in open_rows],
        )


class Cache:
    """The keys and values of one batch after another, and the steps that read and write them.

    `kv` is (layer, key or value, row, head, column, head size); on a CPU in fp32, whose batched matrix-vector
    products are five times as fast as those in bf16. It is allocated once, for the largest batch, and its
    memory is only taken as it fills.
    """

    def __init__(self, model: GPT, rows: int, columns: int):
        """Room for `rows` rows of up to `columns` prompt and new tokens."""
        c, weight = model.config, model.wte.weight
        self.model, self.device = model, weight.device
        self.rounding = ROUNDING[self.device.type]
        columns = _round_up(columns, self.rounding[1])
        dtype = torch.float32 if self.device.type == "cpu" else weight.dtype
        shape = (c.n_layer, 2, rows, c.n_head, columns, c.n_embd // c.n_head)
        self.kv = torch.empty(shape, dtype=dtype, device=self.device)
        self.bias = torch.empty((rows, 1, 1, columns), dtype=dtype, device=self.device)
        self.tokens, self.positions = torch.zeros((2, rows, 1), dtype=torch.int64, device=self.device)
        self.column = torch.zeros(1, dtype=torch.int64, device=self.device)  # the column last written
        self.filled = 0  # columns in use: the longest prompt and the steps since
        self.in_view = 0  # columns that a step reads
        self.graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def prefill(self, prompts: list[list[int]], samples: int) -> Tensor:
        """Compute the prompts, `samples` rows each; the logits (rows, vocab_size) of the next id."""
        self.filled = self.in_view = max(map(len, prompts))
        self.column.fill_(self.filled - 1)
        self.bias.fill_(-math.inf)
        size = max(1, PREFILL_TOKENS // self.filled)
        starts = range(0, len(prompts), size)
        hidden = [self._prefill(prompts[i : i + size], i * samples, samples) for i in starts]
        return self.model.logits(torch.cat(hidden)).repeat_interleave(samples, 0)

    def _prefill(self, prompts: list[list[int]], first: int, samples: int) -> Tensor:
        """Fill the rows from `first` on; the last hidden states (prompts, n_embd)."""
        ids, lengths = _pad(prompts, self.device)
        rows, width = slice(first, first + len(prompts) * samples), ids.shape[1]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.kv[layer, 0, rows, :, :width] = k.repeat_interleave(samples, 0)
            self.kv[layer, 1, rows, :, :width] = v.repeat_interleave(samples, 0)
            return causal(layer, q, k, v)

        hidden = self.model.hidden(ids, attend=attend)
        self.kv[:, :, rows, :, width : self.filled] = 0
        real = torch.arange(width, device=self.device) < lengths[:, None]
        self.bias[rows, 0, 0, :width].masked_fill_(real.repeat_interleave(samples, 0), 0)
        return hidden[torch.arange(len(prompts), device=self.device), lengths - 1]

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy rows to other rows, as far as they are filled."""
        for source, target in zip(sources, targets):
            self.kv[:, :, target, :, : self.filled] = self.kv[:, :, source, :, : self.filled]
            self.bias[target] = self.bias[source]

    def step(self, tokens: list[int], positions: list[int]) -> Tensor:
        """Feed one id to each of the first len(tokens) rows; the logits (rows, vocab_size) of the next."""
        n, capacity = len(tokens), len(self.tokens)
        self.tokens[:n, 0] = torch.tensor(tokens, device=self.device)
        self.positions[:n, 0] = torch.tensor(positions, device=self.device)
        self.column += 1
        self.filled += 1
        rows = min(_round_up(n, self.rounding[0]), capacity)
        columns = _round_up(self.filled, self.rounding[1])
        if columns > self.in_view:  # masked columns must not hold NaN: 0 × NaN is NaN
            self.kv[:, :, :rows, :, self.filled : columns] = 0
            self.in_view = columns
        run = self._replay if self.device.type == "cuda" else self._step
        return run(rows, columns)[:n]

    def _step(self, rows: int, columns: int) -> Tensor:
        """One step of the first `rows` rows, which reads `columns` columns of the cache."""
        bias = self.bias[:rows].index_fill_(3, self.column, 0)[..., :columns]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.kv[layer, :, :rows]
            keys = keys.index_copy_(2, self.column, k.to(keys.dtype))[:, :, :columns]
            values = values.index_copy_(2, self.column, v.to(keys.dtype))[:, :, :columns]
            if q.is_cuda:
                return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
            scores = (q.to(keys.dtype) * q.shape[-1] ** -0.5) @ keys.transpose(2, 3) + bias
            return (scores.softmax(-1) @ values).to(q.dtype)

        hidden = self.model.hidden(self.tokens[:rows], self.positions[:rows], attend)
        return self.model.logits(hidden[:, 0])

    def _replay(self, rows: int, columns: int) -> Tensor:
        """The same step as a CUDA graph, captured when a shape is new; its logits live until the next call."""
        if (rows, columns) not in self.graphs:
            self._step(rows, columns)  # loads kernels and handles; the replay writes the same values again
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = self._step(rows, columns)
            self.graphs[rows, columns] = graph, logits
        graph, logits = self.graphs[rows, columns]
        graph.replay()
        return logits


def _choose(
    logits: Tensor, suppress: Tensor, temperature: float, generator: torch.Generator | None
) -> Tensor:
    """The next id (rows,) given the logits (rows, vocab_size), which are overwritten."""
    best, tokens = logits.index_fill_(1, suppress, -math.inf).max(-1)
    if not best.isfinite().all():
        raise UserError("the model's logits are NaN or infinite: its weights are broken (training diverged?)")
    if temperature == 0:
        return tokens
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]


@torch.inference_mode()
def logprobs(
    model: GPT, rows: list[tuple[list[int], list[int]]], batch_size: int = 64
) -> list[list[float] | None]:
    """The log-probability (nats) of each id of a continuation given all before it; rows are (context, it).

    A row longer than the context gets None and is counted on stderr. Raises UserError for an empty context,
    which gives the first id nothing to follow, and for NaN logits.
    """
    for i, (context, _) in enumerate(rows):
        if not context:
            raise UserError(f"row {i} has an empty context to score in: there is nothing that its ids follow")
    limit = model.config.block_size
    texts = [context + continuation for context, continuation in rows]
    order = sorted((i for i, text in enumerate(texts) if len(text) <= limit), key=lambda i: len(texts[i]))
    if len(order) < len(rows):
        many = f"{len(rows) - len(order)} of {len(rows)} rows"
        print(f"warning: {many} exceed the context of {limit}: not scored", file=sys.stderr)
    scores: list[list[float] | None] = [None] * len(rows)
    model = _ready(model)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        counts = [len(rows[i][1]) for i in batch]
        ids, lengths = _pad([texts[i] for i in batch], model.wte.weight.device)
        columns = torch.arange(ids.shape[1] - 1, device=ids.device)
        starts = lengths - torch.tensor(counts, device=ids.device) - 1
        scored = (columns >= starts[:, None]) & (columns < lengths[:, None] - 1)  # where the next id counts
        parts = (part[scored].split(HEAD_TOKENS) for part in (model.hidden(ids)[:, :-1], ids[:, 1:]))
        losses = [F.cross_entropy(model.logits(h).float(), t, reduction="none") for h, t in zip(*parts)]
        values = -torch.cat(losses)
        if values.isnan().any():
            raise UserError("the model's logits are NaN: its weights are broken (training diverged?)")
        for i, part in zip(batch, values.cpu().split(counts)):
            scores[i] = part.tolist()
    return scores


class Packed(nn.Module):
    """A linear layer on oneDNN with its weight in oneDNN's own layout, and what follows it ("none", "gelu")
    fused in.

    In place of nn.Linear on one Zen 5 core: in bf16 1.1 times as fast at 256 rows, 2 times at 16, and 1.6
    times with GELU; in fp32, which PyTorch gives to MKL, 2.4 times as fast.
    """

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


def _ready(model: GPT) -> GPT:
    """The model as its device decodes it fastest."""
    if model.wte.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return model
    if model.wte.weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return model
    return PackedGPT(model)


def _cache_rows(model: GPT, columns: int) -> int:
    """Rows of `columns` columns that fit in the memory meant for the cache."""
    weight = model.wte.weight
    if weight.device.type == "cpu":
        memory, size = CPU_CACHE, 4
    else:
        memory, size = torch.cuda.mem_get_info(weight.device)[0] // 2, weight.element_size()
    return max(1, memory // (2 * model.config.n_layer * model.config.n_embd * size * columns))


def _pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids (rows, longest) and lengths (rows,)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids.to(device), torch.tensor([len(row) for row in rows], device=device)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
