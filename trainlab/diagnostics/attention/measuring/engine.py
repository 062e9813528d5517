"""Measures a call: everything that is said about its heads, in chunks, whatever the number of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring.chunks import Chunk, Sizes, chunk, precisely, sizes
from trainlab.diagnostics.attention.measuring.layout import Layout
from trainlab.diagnostics.attention.measuring.rows import Geometry, measure_rows
from trainlab.diagnostics.attention.measuring.sampling import Plan, plan
from trainlab.diagnostics.attention.result import BLOCKS

__all__ = ["Measured", "measure", "write_rms"]

ELEMENTS = 3 * 2**20
"""Scores in a chunk of one batch entry: two or three float32 arrays of this size live at a time."""
FEW = 2**19
"""Scores in a chunk of many short batch entries, where there is nothing to gain by more."""
SINGLE = ("mps",)
"""Devices without float64: there, sums are of float32."""
SEEN = 0.5
"""A sink is seen by at least this share of the queries that see the most-seen key: among causal queries the last keys are
seen by few, and would win by chance."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What `measure` found.

    Attributes:
        heads: By name of a column without ``head_``: (head) array.
        counts: By name of a column without ``call_``: measured, blind, padding, visible, causal.
        thumbnail: (head, block of queries, block of keys) float32; NaN in a row whose block has no measured query.
        receive: (head, key) float32.
        framewise: (head, frame, frame) float32, or None off the grid.
        likeness: (head, head) float32.
        gram: (head, value depth, value depth) float32: mean over queries of out outᵀ; None where no values are known.
    """

    heads: dict[str, np.ndarray]
    counts: dict[str, float]
    thumbnail: np.ndarray
    receive: np.ndarray
    framewise: np.ndarray | None
    likeness: np.ndarray
    gram: np.ndarray | None


def write_rms(gram: np.ndarray, weight: Tensor | np.ndarray) -> np.ndarray:
    """Root mean square of what each head adds to the output: sqrt(trace(W C Wᵀ) / out features).

    Args:
        gram: (head, value depth, value depth), see `Measured`.
        weight: (out feature, head, value depth), the output projection cut by heads.

    Returns:
        (head) float64.
    """
    w = torch.as_tensor(weight).detach().cpu().double()
    power = torch.einsum("ohv,hvw,ohw->h", w, torch.as_tensor(gram).double(), w)
    return np.asarray((power.clamp_min(0) / len(w)).sqrt())


@torch.no_grad()
@precisely()
def measure(
    call: Call, *, rows: int = 0, seed: int = 0, sink: int = 4, layout: Layout | None = None
) -> Measured:
    """Measures every head of a call, exactly or on a sample of queries.

    Args:
        call: The call, live.
        rows: How many queries to sample over all batch entries; 0 measures every one.
        seed: Of the sample.
        sink: How many first keys ``first`` adds up.
        layout: What the tokens are; a sequence, or cross-attention where there are more or fewer queries than keys,
            if left out.

    Returns:
        Arrays on the CPU. Costs one product of queries and keys, and some passes over it; 50 MB at any number of tokens.
    """
    size = sizes(call)
    if layout is None:
        layout = Layout("sequence" if size.queries == size.keys else "cross")
    planned = plan(call, size, layout.kind == "cross", rows, seed)
    sums = _Sums(call, size, layout, sink, planned)
    room = planned.weight.new_empty(2, max(ELEMENTS, FEW, size.heads * size.keys))
    # weights and scores of the model's own, and masks for each head, take arrays of their own
    plain = call.weights is None and call.change is None and (call.mask is None or call.mask.shape[1] == 1)
    elements = ELEMENTS if plain else ELEMENTS // 4
    cut = call.causal and not layout.frames  # a grid's keys are looked at all together
    for entries, queries in planned.blocks(size, elements, FEW):
        keys = min(size.keys, int(queries[-1]) + 1) if cut else size.keys
        sums.add(entries, queries, chunk(call, entries, queries, keys, room))
    return sums.done()


class _Sums:
    """Adds up over chunks."""

    def __init__(self, call: Call, size: Sizes, layout: Layout, sink: int, planned: Plan) -> None:
        self.call, self.size, self.planned = call, size, planned
        self.geometry = Geometry(size, layout, sink)
        heads, keys = size.heads, size.keys
        self.device = planned.weight.device
        self.exact = torch.float32 if self.device.type in SINGLE else torch.float64
        self.rows: dict[str, Tensor] = {}  # (weight, weighted sum, weighted sum of squares, count) x head
        self.a, self.b = min(BLOCKS, size.queries), min(BLOCKS, keys)
        self.thumbnail, self.thumbnail_weight = self._zeros(heads, self.a, self.b), self._zeros(heads, self.a)
        self.received = self._zeros(heads, keys)
        # by key, of queries that see two: their weight on it, and how many see it; of a sample also the squares of their
        # weights, and how many see it in the sample
        self.sinks = self._zeros(4 if planned.sampled else 2, heads, keys)
        self.alike, self.alike_weight = self._zeros(heads, heads), self._zeros(heads, heads)
        frames = layout.frames if layout.kind in ("time", "joint") else 0
        self.framewise, self.frame_weight = self._zeros(heads, frames, frames), self._zeros(heads, frames)
        depth = call.out.shape[-1] if call.out is not None else call.v.shape[-1] if call.v is not None else 0
        self.gram, self.gram_weight = self._zeros(heads, depth, depth), self._zeros(heads)
        self.largest = planned.weight.new_full((heads,), torch.nan)
        self.largest_rank = planned.weight.new_full((heads,), -1)
        self.largest_at = torch.zeros(heads, 3, dtype=torch.int64, device=self.device)
        self.nonfinite, self.logit = self._zeros(heads), planned.weight.new_zeros(heads)
        self.measured = self.blind = self.visible = 0.0
        self.heard, self.causal = True, layout.kind != "cross"

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.exact, device=self.device)

    def add(self, entries: slice | Tensor, queries: Tensor, c: Chunk) -> None:
        """Adds a chunk: these batch entries and queries."""
        keys = c.raw.shape[-1]
        weight = self.planned.weight[entries][:, queries]  # (entry, row)
        everyone = queries.new_full((1, 1, len(queries)), keys)
        visible = everyone if c.hidden is None else everyone - c.hidden.sum(-1)
        finite = torch.isfinite(c.total) & torch.isfinite(c.top)
        used = (weight > 0)[:, None]
        sees = used & (visible > 0)
        self.nonfinite += (sees & ~finite).sum((0, 2))
        self.blind += _by_head(used & (visible == 0))
        self.measured += _by_head(sees)
        self.visible += _by_head(visible * sees)
        sees = sees & finite  # (entry, head, row)
        if not bool(finite.all()):
            for each in (c.raw, c.log, c.scores):
                each.masked_fill_(~finite[..., None], 0)
        over = torch.where(sees, weight[:, None] / c.total, 0)  # what turns a raw row into one that counts
        weights = torch.where(sees, weight[:, None], 0)
        self._reads(c, weights, over, visible >= 2)
        places = queries + self.geometry.shift
        self.causal = self.causal and not self._looks_ahead(c, places, sees)
        found = measure_rows(c, self.geometry, places, visible, self.b)
        block = torch.div((queries + 1) * self.a - 1, self.size.queries, rounding_mode="floor")
        self.thumbnail.index_add_(1, block, self._sum(found.blocks * over[..., None]))
        self.thumbnail_weight.index_add_(1, block, self._sum(weights))
        if self.framewise.shape[1]:
            on = self.geometry.frame_of(queries)
            inside, frames = on >= 0, self._sum(found.frames * over[..., None])
            self.framewise.index_add_(1, on[inside], frames[:, inside])
            self.frame_weight.index_add_(1, on[inside], self._sum(weights)[:, inside])
        self._rows(found.values, weights)
        rank = found.peak + 2 * (visible > BLOCKS)  # of the others a thumbnail shows all that they see
        self._peak(entries, queries, c, rank.masked_fill(~sees | (visible < 2), -1))
        self.heard = self.heard and c.heard
        magnitude = torch.maximum(c.top.abs(), (found.lowest + c.top).abs())
        self.logit = torch.maximum(self.logit, magnitude.masked_fill(~sees, 0).amax((0, 2)))
        self._write(entries, queries, c, weights)
        self._alike(c, visible, weights)

    def _sum(self, each: Tensor) -> Tensor:
        """Over batch entries."""
        return each.sum(0).to(self.exact)

    def _rows(self, values: dict[str, Tensor], weights: Tensor) -> None:
        """What is said of each query: sums for means and their errors."""
        each = torch.stack([value.expand_as(weights) for value in values.values()]).to(self.exact)
        good = torch.where(each.isnan(), 0, weights)
        value = each.nan_to_num_(0)
        parts = [part.sum((1, 3)) for part in (good, good * value, good * value * value, good > 0)]
        for name, *new in zip(values, *parts, strict=True):
            self.rows[name] = self.rows.get(name, 0) + torch.stack(new)

    def _reads(self, c: Chunk, weights: Tensor, over: Tensor, two: Tensor) -> None:
        """What each key receives, and from how many queries; ``two`` says which rows see two keys."""
        keys = c.raw.shape[-1]
        both = torch.stack([over, over * two], 2)
        received = (both @ c.raw).sum(0)
        self.received[:, :keys] += received[:, 0]
        self.sinks[0, :, :keys] += received[:, 1]
        self.sinks[1, :, :keys] += self._seen(c, weights * two, keys)
        if self.planned.sampled:
            per_query = over * two / weights.clamp_min(1).sqrt()
            self.sinks[2, :, :keys] += (per_query[..., None] * c.raw).square().sum((0, 2))
            self.sinks[3, :, :keys] += self._seen(c, ((weights > 0) & two).float(), keys)

    def _looks_ahead(self, c: Chunk, places: Tensor, sees: Tensor) -> bool:
        """Whether a query sees a key behind it."""
        keys = c.raw.shape[-1]
        if c.hidden is None:
            return keys > int(places[0]) + 1
        ahead = places[:, None] < torch.arange(c.start, keys, device=self.device)
        looks = ~c.hidden & ahead & sees.any(1)[:, None, :, None]
        return c.start > int(places[0]) + 1 or bool(looks.any())

    def _seen(self, c: Chunk, weights: Tensor, keys: int) -> Tensor:
        """(head, key): the weight of the queries that see a key."""
        seen = weights.sum((0, 2))[:, None].repeat(1, keys)
        if c.hidden is None:
            return seen
        shown = (~c.hidden).float()
        if shown.shape[1] == 1:  # nothing is expanded to all heads
            seen[:, c.start :] = (weights @ shown[:, 0]).sum(0)
        else:
            seen[:, c.start :] = (weights[:, :, None] @ shown)[:, :, 0].sum(0)
        return seen

    def _peak(self, entries: slice | Tensor, queries: Tensor, c: Chunk, rank: Tensor) -> None:
        """Remembers where the largest weight is, by (entry, head, row) rank."""
        heads = torch.arange(self.size.heads, device=self.device)
        best, at = rank.transpose(0, 1).flatten(1).max(1)
        entry, row = at // len(queries), at % len(queries)
        value, key = c.raw[entry, heads, row].max(-1)
        better = best > self.largest_rank
        numbers = torch.arange(self.size.entries, device=self.device)[entries]
        where = torch.stack([numbers[entry], queries[row], key], 1)
        self.largest_at = torch.where(better[:, None], where, self.largest_at)
        self.largest = torch.where(better, value / c.total[entry, heads, row], self.largest)
        self.largest_rank = torch.where(better, best, self.largest_rank)

    def _alike(self, c: Chunk, visible: Tensor, weights: Tensor) -> None:
        """Correlation of the heads' weights over the keys that a query sees (with any head); writes over the weights."""
        hidden = None if c.hidden is None else c.hidden.all(1, keepdim=True)
        visible = visible.amax(1) if hidden is None else c.raw.shape[-1] - hidden[:, 0].sum(-1)
        visible = visible.expand(len(c.raw), -1)[..., None]  # (entry, row, 1)
        total = c.total.transpose(1, 2)
        by_row = c.raw.transpose(1, 2).sub_((total / visible)[..., None])
        if hidden is not None:
            c.raw[..., c.start :].masked_fill_(hidden, 0)
        product = by_row @ by_row.mT  # (entry, row, head, head)
        own = product.diagonal(dim1=-2, dim2=-1)
        uniform = ~(own * visible > FLAT * total**2)
        size = own.masked_fill(uniform, 1).sqrt()
        ok = (weights.transpose(1, 2) * (visible >= 2)).masked_fill(uniform, 0)
        both = torch.minimum(ok[..., None], ok[..., None, :])
        cosine = (product / (size[..., None] * size[..., None, :]) * both).nan_to_num(0)
        self.alike += cosine.sum((0, 1)).to(self.exact)
        self.alike_weight += both.sum((0, 1)).to(self.exact)

    def _write(self, entries: slice | Tensor, queries: Tensor, c: Chunk, weights: Tensor) -> None:
        """What the heads add: weights times values."""
        call = self.call
        if call.out is not None:
            out = call.out[entries][:, :, queries].float()
        elif call.v is not None:
            v = call.v[entries, :, : c.raw.shape[-1]].float()
            raw = c.raw.reshape(*v.shape[:2], -1, v.shape[2])  # heads of a group look at the same values
            out = (raw @ v).reshape(*c.total.shape, -1) / c.total[..., None]
        else:
            return
        ok = weights * torch.isfinite(out).all(-1)
        out = out.masked_fill((ok == 0)[..., None], 0)
        self.gram += self._sum((out * ok[..., None]).mT @ out)
        self.gram_weight += self._sum(ok).sum(1)

    def done(self) -> Measured:
        """Turns sums into means and standard errors."""
        values: dict[str, np.ndarray] = {}
        for name, sums in self.rows.items():
            values[name] = _numpy(sums[1] / sums[0])
            values[f"{name}_se"] = self._error(name, sums)
        self._sink(values)
        values["largest"] = _numpy(self.largest)
        for name, at in zip(("entry", "query", "key"), self.largest_at.T, strict=True):
            values[f"largest_{name}"] = _numpy(at)
        measured = self.rows["nats"][0]
        silent = (measured == 0) | (not self.heard)
        values["logit"] = _numpy(self.logit.masked_fill(silent, torch.nan))
        values["nonfinite"] = _numpy(self.nonfinite).astype(np.int64)
        gram = self.gram / self.gram_weight[:, None, None] if self.gram.shape[-1] else None
        power = torch.full_like(self.nonfinite, torch.nan)
        if gram is not None:
            power = gram.diagonal(dim1=1, dim2=2).mean(-1).sqrt()
        values["write"] = _numpy(power)
        likeness = self.alike / self.alike_weight.clamp_min(1)
        similarity, twin = likeness.clone().fill_diagonal_(-torch.inf).max(1)
        alone = torch.full_like(twin, len(twin) == 1, dtype=torch.bool)
        values["similarity"] = _numpy(
            similarity.masked_fill(alone | self.rows["entropy"][0].eq(0), torch.nan)
        )
        values["twin"] = _numpy(twin.masked_fill(alone, -1))
        for part in ("space", "time"):
            values[f"reach_{part}"] = values.pop(f"far_{part}") / values["gridded"]
        counts = {
            "measured": round(self.measured),
            "blind": round(self.blind),
            "padding": self.planned.padding,
            "visible": self.visible / self.measured if self.measured else float("nan"),
            "causal": self.causal,
        }
        return Measured(
            {name: values[name] for name in COLUMNS},
            counts,
            _single(self.thumbnail / self.thumbnail_weight[..., None]),
            _single(self.received / measured[:, None]),
            _single(self.framewise / self.frame_weight[..., None]) if self.framewise.shape[1] else None,
            _single(likeness),
            None if gram is None else _single(gram),
        )

    def _error(self, name: str, sums: Iterable[Tensor]) -> np.ndarray:
        """Standard error of a mean over a sample, from sums as in ``rows``: of simple sampling, which balanced runs better.

        What is rare may be missed by a sample, which then seems to vary too little: some more queries are thought of, half at
        either end of what is possible; for weights on a certain key, between nothing and the largest weight.
        """
        weight, total, squares, count = sums
        if not self.planned.sampled:
            return np.zeros(len(weight))
        mean = total / weight
        variance = (squares / weight - mean**2).clamp_min(0) * count / (count - 1).clamp_min(1)
        if name in SHARES:
            variance += UNSEEN / 2 * (mean**2 + (1 - mean) ** 2) / count
        elif name in ON_KEYS:
            weights, peaks = self.rows["peak"][:2]
            variance += UNSEEN * peaks / weights / count
        unmeasured = (1 - count / weight).clamp_min(0)  # weights add up to the population
        return _numpy(torch.where(count > 1, (variance / count * unmeasured).sqrt(), torch.nan))

    def _sink(self, values: dict[str, np.ndarray]) -> None:
        total, seen = self.sinks[:2]
        mean = total / seen
        enough = seen >= SEEN * seen.amax(1, keepdim=True)
        share, key = mean.masked_fill(~enough | mean.isnan(), -1).max(1)
        known = share >= 0
        values["sink"], values["sink_key"] = _numpy(share.masked_fill(~known, torch.nan)), _numpy(key)
        values["sink_se"] = np.zeros(len(key))
        if self.planned.sampled:
            weight, squares, count = (each.gather(1, key[:, None])[:, 0] for each in self.sinks[1:])
            values["sink_se"] = self._error("sink", (weight, share * weight, squares, count))


SHARES = ("entropy", "peak")
ON_KEYS = ("first", "sink", "self", "previous", "diagonal")
UNSEEN = 4
"""Queries that are thought of besides a sample: as many as Agresti and Coull (1998) add to a share."""

FLAT = 1e-5
"""Weights whose squares add up to no more than those of uniform ones, but for this share, are uniform: the rest is
rounding."""

COLUMNS = (
    "entropy", "entropy_se", "nats", "peak", "peak_se", "largest", "largest_entry", "largest_query", "largest_key",
    "first", "first_se", "sink", "sink_se", "sink_key", "self", "self_se", "previous", "previous_se", "diagonal",
    "diagonal_se", "distance", "distance_se", "uniform_distance", "logit", "spread", "write", "nonfinite", "twin",
    "similarity", "space", "time", "elsewhere", "prefix", "reach_space", "reach_time",
)  # fmt: skip


def _by_head(counts: Tensor) -> float:
    """The sum of (entry, head | 1, row), mean over heads."""
    return int(counts.sum()) / counts.shape[1]


def _numpy(tensor: Tensor) -> np.ndarray:
    array = np.asarray(tensor.cpu())
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _single(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.float().cpu())
