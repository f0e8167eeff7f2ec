"""Batched decoding and scoring for our GPT: the one way in which evaluations and rewards ask a model.

Why it is many times faster than a `generate` at a small batch:

- batches are large and sorted by prompt length, and a row that has finished leaves its batch: the last open row is
  moved into its place, so the open rows always come first and hardly a step computes a dead one;
- keys and values go to a cache that is allocated once and read only as far as it is filled (eval/decode/cache.py);
- on a CPU that gains by it the linear layers run on oneDNN, their weights laid out once (eval/decode/packed.py);
- a prompt is computed once, whatever the number of samples, and the head only reads its last position; where the
  host looks at every step, samples of a prompt stay one row for as long as they agree;
- ids and positions stay on the device: the host looks for finished rows every LOOK steps, and waits for a GPU no
  more often than that.
"""

import math
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.decode.cache import Cache, pad
from eval.decode.packed import ready
from model import GPT
from pipeline.errors import UserError

CPU_CACHE = 4 * 2**30  # bytes of cache that a batch may reserve; memory is taken only as the columns fill
HEAD_TOKENS = 2048  # scored positions whose logits exist at one time
LOOK = {"cpu": 1, "cuda": 8}  # steps between looks: a row costs up to LOOK − 1 steps more than it needs
BROKEN = "the model's logits are NaN or infinite: its weights are broken (training diverged?)"

Reply = list[int] | list[list[int]] | None  # of a prompt; a list of them where several samples are asked for


def generate(model: GPT, prompts: list[list[int]], max_new_tokens: int | list[int], **kwargs) -> list[Reply]:
    """`Decoder.generate` by a decoder for this one call."""
    return Decoder(model).generate(prompts, max_new_tokens, **kwargs)


class Decoder:
    """A model and the cache that it decodes with, for as many calls as one likes.

    `load` gives it other weights in place, so that GRPO, which samples from new weights in every step, keeps one
    decoder with its memory and its CUDA graphs.
    """

    def __init__(self, model: GPT):
        self.model, self.device = model, model.wte.weight.device
        self.ready = ready(model)
        self.cache: Cache | None = None

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy a model's tensors, under our names, over the decoder's own."""
        for name, own in self.model.state_dict().items():
            own.copy_(tensors[name])
        self.ready = ready(self.model)  # on a CPU laid out anew; on a GPU the very same model
        if self.cache is not None:
            self.cache.model = self.ready

    def room(self, columns: int) -> int:
        """How many rows of so many columns fit in the memory meant for a cache."""
        config = self.model.config
        if self.device.type == "cpu":
            memory, size = CPU_CACHE, 4
        else:
            memory, size = torch.cuda.mem_get_info(self.device)[0] // 2, self.model.wte.weight.element_size()
        return max(1, memory // (2 * config.n_layer * config.n_embd * size * columns))

    def reserve(self, rows: int, columns: int) -> Cache:
        """A cache of at least so many rows and columns: the one that is there, where it is large enough."""
        if self.cache is None or rows > self.cache.rows or columns > self.cache.columns:
            if self.cache is not None:
                rows, columns = max(rows, self.cache.rows), max(columns, self.cache.columns)
            self.cache = None  # free its memory before the next is taken
            self.cache = Cache(self.ready, rows, columns)
        return self.cache

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[list[int]],
        max_new_tokens: int | list[int],
        *,
        eos: int,
        suppress: list[int],
        temperature: float = 0.0,
        samples: int = 1,
        batch_size: int | None = None,
        keys: list[int] | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Reply]:
        """The continuation of each prompt: its new ids up to and including `eos`, unless a limit came first.

        Greedy at temperature 0, else sampled from the softmax of logits / temperature. Which sample a prompt gets is
        decided by its key, a number of 64 bits, and the sample's index alone; `generator` draws the keys where none
        are given. So ids do not depend on the batching (but for rounding). With samples > 1 each prompt gets a list of
        that many continuations. `suppress` are ids never produced. `max_new_tokens` holds for all prompts or is one
        number each; no row outgrows the context, and a prompt that fills it is given None and counted on stderr.
        `batch_size` is in rows (prompts × samples), at most as many as the cache has memory for; by default that many.
        `progress(n)` is told of every n continuations that are finished. Raises UserError for NaN logits.
        """
        rooms = _rooms(self.model, prompts, max_new_tokens)
        order = sorted((i for i, room in enumerate(rooms) if room > 0), key=lambda i: -len(prompts[i]))
        replies: list[Reply] = [None] * len(prompts)
        if not order:
            return replies
        choose = Choice(self.device, suppress, temperature)
        if temperature == 0:
            keys = [0] * len(prompts)  # greedy draws nothing, so no random state moves
        drawn_by = sample_keys(_prompt_keys(keys, len(prompts), generator).to(self.device), samples)
        columns = len(prompts[order[0]]) + max(rooms)
        size = max(self.room(columns), self.cache.rows if self.cache else 0)
        size = max(1, min(batch_size or size, size, len(order) * samples) // samples)
        cache = self.reserve(size * samples, columns)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            asked = [prompts[i] for i in batch], [rooms[i] for i in batch for _ in range(samples)]
            rows = _decode(cache, *asked, drawn_by[batch], eos, choose, progress)
            for at, i in enumerate(batch):
                replies[i] = rows[at * samples] if samples == 1 else rows[at * samples : (at + 1) * samples]
        return replies


def _rooms(model: GPT, prompts: list[list[int]], max_new_tokens: int | list[int]) -> list[int]:
    """How many ids may follow each prompt. Raises UserError for what cannot be continued."""
    limits = max_new_tokens if isinstance(max_new_tokens, list) else [max_new_tokens] * len(prompts)
    context = model.config.block_size
    if len(limits) != len(prompts) or min(limits, default=1) < 1:
        raise UserError(f"max_new_tokens: give one positive number, or one each for {len(prompts)} prompts")
    if not all(prompts):
        raise UserError(f"prompt {prompts.index([])} is empty: there is nothing to continue")
    rooms = [min(limit, context - len(prompt)) for prompt, limit in zip(prompts, limits)]
    if full := sum(room <= 0 for room in rooms):
        many = f"{full} of {len(prompts)} prompts"
        print(f"warning: {many} fill the context of {context}: not answered", file=sys.stderr)
    return rooms


def _decode(
    cache: Cache,
    prompts: list[list[int]],
    rooms: list[int],
    keys: Tensor,
    eos: int,
    choose: "Choice",
    progress: Callable[[int], None] | None,
) -> list[list[int]]:
    """One batch: the new ids, up to `rooms` for each reply, of prompt 0's samples, then prompt 1's, and so on.

    `keys` are (prompts, samples). A row of the cache works on several replies of a prompt at once while they agree,
    where a look at every step can tell when they part.
    """
    replies: list[list[int]] = [[] for _ in rooms]
    look, (_, samples) = LOOK[cache.device.type], keys.shape
    shared = samples if look == 1 else 1
    members = [list(range(i, i + shared)) for i in range(0, len(replies), shared)]  # the replies of each row
    logits = cache.prefill(prompts, samples // shared)
    keys, length = keys.flatten(), 0  # ids that every open reply has
    while True:
        width = max(map(len, members))
        table = [row + row[:1] * (width - len(row)) for row in members]
        row_keys = keys[torch.tensor(table, device=cache.device)]
        drawn = []
        for step in range(min(look, max(rooms[i] for row in members for i in row) - length)):
            if step:
                logits = cache.step(len(members))
            drawn.append(choose(logits, row_keys, length + step))
            cache.put(drawn[-1][:, 0])
        length += len(drawn)
        branches: list[tuple[int, int, list[int]]] = []  # (row, last id, replies) of all that goes on
        for row, ids in enumerate(choose.look(drawn)):
            parts: dict[int, list[int]] = {}
            for i, new in zip(members[row], ids):
                new = new[: rooms[i] - len(replies[i])]
                ended = eos in new
                replies[i] += new[: new.index(eos) + 1] if ended else new
                if not ended and len(replies[i]) < rooms[i]:
                    parts.setdefault(new[-1], []).append(i)
            branches += [(row, token, part) for token, part in parts.items()]
        if progress and (over := sum(map(len, members)) - sum(len(part) for _, _, part in branches)):
            progress(over)
        if not branches:
            return replies
        branches = _placed(cache, branches)
        if shared > 1:
            cache.put(torch.tensor([token for _, token, _ in branches], device=cache.device))
        members = [part for _, _, part in branches]
        logits = cache.step(len(members))


def _placed(cache: Cache, branches: list[tuple[int, int, list[int]]]) -> list[tuple[int, int, list[int]]]:
    """The branches in the order of the rows that they now have: the first rows, each kept where it can be."""
    places: list[tuple[int, int, list[int]] | None] = [None] * len(branches)
    movers = []
    for branch in branches:
        if branch[0] < len(places) and places[branch[0]] is None:
            places[branch[0]] = branch
        else:
            movers.append(branch)
    holes = [i for i, branch in enumerate(places) if branch is None]
    cache.move([row for row, _, _ in movers], holes)
    for hole, branch in zip(holes, movers):
        places[hole] = branch
    return [branch for branch in places if branch is not None]


# --- chance -------------------------------------------------------------------------------------------------


def _signed(number: int) -> int:
    """The lowest 64 bits, as int64 has them; its products and sums wrap around too."""
    return (number + 2**63) % 2**64 - 2**63


GAMMA = 0x9E3779B97F4A7C15
FACTORS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): int64 → int64, bits as good as random."""
    for shift, factor in zip((30, 27), FACTORS):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros, whatever the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _prompt_keys(keys: list[int] | None, count: int, generator: torch.Generator | None) -> Tensor:
    if keys is None:
        device = generator.device if generator else None
        return torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator, device=device)
    if len(keys) != count:
        raise UserError(f"keys: {len(keys)} for {count} prompts; give one each")
    return torch.tensor([_signed(key) for key in keys], dtype=torch.int64)


def sample_keys(keys: Tensor, samples: int) -> Tensor:
    """The key of each prompt's each sample, (prompts, samples)."""
    return mix(keys[:, None] + _signed(GAMMA) * torch.arange(1, samples + 1, device=keys.device))


class Choice:
    """How the next id is chosen, on the device alone; whether all logits were finite is read at the next look."""

    def __init__(self, device: torch.device, suppress: list[int], temperature: float):
        self.suppress = torch.tensor(suppress, dtype=torch.int64, device=device)
        self.temperature = temperature
        self.finite = torch.ones((), dtype=torch.bool, device=device)

    def __call__(self, logits: Tensor, keys: Tensor, step: int) -> Tensor:
        """The next id (rows, replies) of replies that share a row, given logits (rows, vocab_size), which are
        overwritten, the replies' keys (rows, replies), and how many ids they have."""
        logits.index_fill_(1, self.suppress, -math.inf)
        if self.temperature == 0:
            best, tokens = logits.max(-1)
            self.finite &= best.isfinite().all()
            return tokens[:, None].expand(keys.shape)
        # By the inverse of the distribution: one uniform number a reply in the place of one for every id.
        below = (logits.float() / self.temperature).softmax(-1)  # a softmax in place would copy the slice
        torch.cumsum(below, -1, out=below)
        total = below[:, -1:]
        self.finite &= total.isfinite().all()
        # 23 bits: the largest, times the total, is still below the total, so that the last id with a chance is the
        # last that can be drawn; an id without one is as wide as nothing.
        uniform = _shifted(mix(keys + _signed(GAMMA * (step + 1))), 41).float() / 2**23
        return torch.searchsorted(below, uniform * total, right=True)

    def look(self, drawn: list[Tensor]) -> list[list[list[int]]]:
        """The ids that were chosen for each reply of each row. Raises UserError if any logits were NaN or infinite."""
        ids = torch.stack(drawn, -1)
        flat, steps = ids.flatten().tolist(), len(drawn)  # a nested list takes ten times as long to make
        if not self.finite:
            raise UserError(BROKEN)
        replies = [flat[i : i + steps] for i in range(0, len(flat), steps)]
        return [replies[i : i + ids.shape[1]] for i in range(0, len(replies), ids.shape[1])]


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
    model = ready(model)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        counts = [len(rows[i][1]) for i in batch]
        ids, lengths = pad([texts[i] for i in batch], model.wte.weight.device)
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
