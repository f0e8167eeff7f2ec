"""The keys and values of a batch, and the steps that read and write them.

Prompts are right-padded, so that they need no mask but the causal one. Every row writes the key and value of
its t-th new token to the column that follows the longest prompt by t; the columns between a row's prompt and
that are masked. (Positions are added to the embeddings, so a column carries none.) On a GPU the same step is
replayed as a CUDA graph, one for each rounded shape, because launching its kernels one by one would cost more
than running them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model import GPT, causal

PREFILL_TOKENS = 16384  # padded prompt tokens that are computed at one time
ROUNDING = {"cpu": (1, 1), "cuda": (64, 64)}  # the (rows, columns) that a step is rounded up to: fewer graphs


class Cache:
    """Room for `rows` rows of up to `columns` prompt and new tokens, for one batch after another.

    `kv` is (layer, key or value, row, head, column, head size); on a CPU in fp32, whose batched matrix-vector
    products are five times as fast as those in bf16. It is allocated once, for the largest batch, and on a CPU its
    memory is only taken as it fills.
    """

    def __init__(self, model: GPT, rows: int, columns: int):
        c, weight = model.config, model.wte.weight
        self.model, self.device = model, weight.device
        self.rounding = ROUNDING[self.device.type]
        self.rows, self.columns = rows, _round_up(columns, self.rounding[1])
        dtype = torch.float32 if self.device.type == "cpu" else weight.dtype
        shape = (c.n_layer, 2, rows, c.n_head, self.columns, c.n_embd // c.n_head)
        self.kv = torch.empty(shape, dtype=dtype, device=self.device)
        self.bias = torch.empty((rows, 1, 1, self.columns), dtype=dtype, device=self.device)
        self.tokens, self.positions = torch.zeros((2, rows, 1), dtype=torch.int64, device=self.device)
        self.column = torch.zeros(1, dtype=torch.int64, device=self.device)  # the column last written
        self.filled = 0  # columns in use: the longest prompt and the steps since
        self.in_view = 0  # columns that a step reads
        self.graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

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
        ids, lengths = pad(prompts, self.device)
        rows, width = slice(first, first + len(prompts) * samples), ids.shape[1]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.kv[layer, 0, rows, :, :width] = k.repeat_interleave(samples, 0)
            self.kv[layer, 1, rows, :, :width] = v.repeat_interleave(samples, 0)
            return causal(layer, q, k, v)

        hidden = self.model.hidden(ids, attend=attend)
        self.kv[:, :, rows, :, width : self.filled] = 0
        real = torch.arange(width, device=self.device) < lengths[:, None]
        self.bias[rows, 0, 0, :width].masked_fill_(real.repeat_interleave(samples, 0), 0)
        self.positions[rows, 0] = lengths.repeat_interleave(samples, 0)
        return hidden[torch.arange(len(prompts), device=self.device), lengths - 1]

    def put(self, tokens: Tensor) -> None:
        """The ids (n,) that the next step feeds to the first n rows."""
        self.tokens[: len(tokens), 0] = tokens

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy rows to other rows, as far as they are read."""
        for source, target in zip(sources, targets):
            self.kv[:, :, target, :, : self.in_view] = self.kv[:, :, source, :, : self.in_view]
        if sources:
            for state in (self.bias, self.tokens, self.positions):
                state[targets] = state[sources]

    def step(self, n: int) -> Tensor:
        """Feed the first `n` rows the ids that were put; the logits (n, vocab_size) of the next."""
        self.column += 1
        self.filled += 1
        rows = min(_round_up(n, self.rounding[0]), self.rows)
        columns = _round_up(self.filled, self.rounding[1])
        if columns > self.in_view:  # masked columns must not hold NaN: 0 × NaN is NaN
            self.kv[:, :, :rows, :, self.filled : columns] = 0
            self.in_view = columns
        run = self._replay if self.device.type == "cuda" else self._step
        hidden = run(rows, columns)[:n]
        self.positions[:n] += 1
        self.positions.clamp_(
            max=self.model.config.block_size - 1
        )  # of rows that are over, and not yet looked at
        return self.model.logits(hidden)

    def _step(self, rows: int, columns: int) -> Tensor:
        """One step of the first `rows` rows, which reads `columns` columns; the hidden states (rows, n_embd)."""
        bias = self.bias[:rows].index_fill_(3, self.column, 0)[..., :columns]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.kv[layer, :, :rows]
            if q.is_cuda:
                keys.index_copy_(2, self.column, k), values.index_copy_(2, self.column, v)
                keys, values = keys[:, :, :columns], values[:, :, :columns]
                return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
            keys[:, :, self.filled - 1], values[:, :, self.filled - 1] = k[:, :, 0], v[:, :, 0]
            keys, values = keys[:, :, :columns], values[:, :, :columns]
            scores = (q.to(keys.dtype) * q.shape[-1] ** -0.5) @ keys.transpose(2, 3) + bias
            return (scores.softmax(-1) @ values).to(q.dtype)

        return self.model.hidden(self.tokens[:rows], self.positions[:rows], attend)[:, 0]

    def _replay(self, rows: int, columns: int) -> Tensor:
        """The same step as a CUDA graph, captured when a shape is new. All graphs share one pool of memory, so that
        what a graph returns lives until the next one runs; the head is outside, as logits for each shape would take
        gigabytes."""
        if (rows, columns) not in self.graphs:
            self._step(rows, columns)  # loads kernels and handles; the replay writes the same values again
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool):
                hidden = self._step(rows, columns)
            self.graphs[rows, columns] = graph, hidden
        graph, hidden = self.graphs[rows, columns]
        graph.replay()
        return hidden


def pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids (rows, longest) and lengths (rows,)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids.to(device), torch.tensor([len(row) for row in rows], device=device)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
