"""Which queries of a call to measure: all, or a sample of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring.chunks import Sizes, hidden, unweighted

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which queries to measure.

    Attributes:
        weight: (entry, query) float32: how many queries a query stands for; 0 where it is not measured.
        padding: Queries that are padding.
        sampled: Whether some queries stand for others.
    """

    weight: Tensor
    padding: int
    sampled: bool

    def blocks(self, size: Sizes, elements: int, few: int) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """Batch entries and their queries, in chunks of at most so many scores.

        Short entries go together, ``few`` scores at a time; then queries are among them that are not measured.
        """
        row = max(1, size.heads * size.keys)
        queries = torch.arange(size.queries, device=self.weight.device)
        live = (self.weight > 0).any(1).nonzero()[:, 0]
        if not len(live):  # all is padding; a chunk of no weight makes all means NaN
            yield slice(0, 1), queries[:1]
            return
        if row * size.queries <= few // 2:
            for entries in torch.split(live, few // (row * size.queries)):
                yield entries, queries
            return
        for entry in live.tolist():
            for part in torch.split(queries[self.weight[entry] > 0], max(1, elements // row)):
                yield slice(entry, entry + 1), part


def plan(call: Call, size: Sizes, cross: bool, rows: int, seed: int) -> Plan:
    """Chooses queries: every one, or ``rows`` of them over all batch entries, balanced, without replacement.

    The queries, entry after entry, are cut into as many equal runs as are wanted, and one of each run is drawn: no entry
    and no part of a sequence goes short. Its weight is the length of its run.
    """
    real = _real(call, size) if not cross and size.queries == size.keys else None
    device = (call.q if call.q is not None else call.weights).device  # type: ignore[union-attr]
    if real is None:
        real = torch.ones(size.entries, size.queries, dtype=torch.bool, device=device)
    padding = int((~real).sum())
    places = real.flatten().nonzero()[:, 0]
    if not 0 < rows < len(places):
        return Plan(real.float(), padding, False)
    edges = torch.arange(rows + 1, device="cpu") * len(places) // rows
    run = edges.diff()
    rng = torch.Generator().manual_seed(seed + call.number)
    draw = torch.rand(rows, generator=rng, dtype=torch.float64, device="cpu")
    chosen = places[(edges[:-1] + (draw * run).long()).to(device)]
    weight = torch.zeros(real.numel(), dtype=torch.float32, device=device)
    weight[chosen] = run.float().to(device)
    return Plan(weight.view_as(real), padding, True)


def _real(call: Call, size: Sizes) -> Tensor | None:
    """(entry, key) bool: some query of the entry sees the key; None: all are seen, for certain.

    A query that sees nothing has uniform weights on all keys where the model made them by itself: it counts for nothing.
    The last one does see all.
    """
    if call.mask is None and call.change is None and call.weights is None:
        return None
    shared = call.change is None and call.weights is None and call.mask is not None and len(call.mask) == 1
    count = 1 if shared else size.entries
    device = (call.q if call.q is not None else call.weights).device  # type: ignore[union-attr]
    real = torch.zeros(count, size.keys, dtype=torch.bool, device=device)
    step = max(1, 2**21 // (size.heads * size.keys))
    together = max(1, step // size.queries)
    for first in range(0, count, together):
        entries = slice(first, min(first + together, count))
        for rows in torch.split(torch.arange(size.queries, device=device), step):
            unseen, start = hidden(call, entries, rows, size.keys, _given(call, entries, rows, size))
            real[entries, :start] = True
            real[entries, start:] |= True if unseen is None else (~unseen).any(1).any(1)
    return real.expand(size.entries, -1)


def _given(call: Call, entries: slice, rows: Tensor, size: Sizes) -> Tensor | None:
    if call.weights is not None:
        weights = call.weights[entries][:, :, rows]
        blind = (weights.amax(-1) == weights.amin(-1)).all(1) & (rows < size.queries - 1)
        return unweighted(call, entries, rows) | blind[:, None, :, None]
    if call.change is not None:
        scores = call.q.new_zeros(  # type: ignore[union-attr]
            (entries.stop - entries.start, size.heads, len(rows), size.keys), dtype=torch.float32
        )
        numbers = torch.arange(size.entries, device=rows.device)[entries]
        return call.change(scores, numbers, rows) == -torch.inf
    return None
