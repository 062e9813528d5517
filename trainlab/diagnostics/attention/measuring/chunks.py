"""One chunk of a call: some of its batch entries and queries against all keys, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from trainlab.diagnostics.attention.call import Call

__all__ = ["HIDDEN", "Chunk", "Sizes", "chunk", "hidden", "precisely", "sizes", "unweighted"]

HIDDEN = -9e3
"""A mask that is added hides a key from here on down: models write -10000, -1e9, the least of a dtype, or -inf."""
FAINT = -90.0
"""And from here on down where the key's weight is nothing, too: windowed models, such as Swin, write -100."""
NOTHING = torch.finfo(torch.float32).tiny
"""Weights below it are none: e to the power of `FAINT` is less."""

TILE = 2**20  # numbers of keys that are turned into float32 at a time


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a call is; ``depth`` is 0 where only its weights are known."""

    entries: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    depth: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Weights up to a factor for each query, so that no pass is spent on dividing.

    Attributes:
        raw: (entry, head, row, key) float32; weights times ``total``; 0 at hidden keys.
        total: (entry, head, row) float32; their sum over keys.
        log: As ``raw``, its logarithm where it is not 0; finite at hidden keys.
        scores: As ``raw``; scores, or log-weights where no scores are known, less ``top``; 0 at hidden keys. May be ``log``.
        top: (entry, head, row) float32; the largest score of a visible key.
        heard: Scores are the model's, no log-weights.
        hidden: (entry | 1, head | 1, row, key - start) bool, True where the query does not see the key; None: sees all.
        start: Keys before it are seen by all rows.
    """

    raw: Tensor
    total: Tensor
    log: Tensor
    scores: Tensor
    top: Tensor
    heard: bool
    hidden: Tensor | None
    start: int


def sizes(call: Call) -> Sizes:
    """Reads the sizes of a call from its tensors."""
    if call.q is None or call.k is None:
        assert call.weights is not None
        entries, heads, queries, keys = call.weights.shape
        return Sizes(entries, heads, heads, queries, keys, 0)
    entries, heads, queries, depth = call.q.shape
    return Sizes(entries, heads, call.k.shape[1], queries, call.k.shape[2], depth)


@contextmanager
def precisely() -> Iterator[None]:
    """Multiplies float32 as float32, also where the user lets TF32 or bfloat16 do for it."""
    places: tuple[Any, ...] = torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)
    switches = [each for each in places if hasattr(each, "fp32_precision")]  # since torch 2.9
    found = [each.fp32_precision for each in switches]
    for each in switches:
        each.fp32_precision = "ieee"
    try:
        yield
    finally:
        for each, before in zip(switches, found, strict=True):
            each.fp32_precision = before


def hidden(
    call: Call, entries: slice | Tensor, rows: Tensor, keys: int, given: Tensor | None = None
) -> tuple[Tensor | None, int]:
    """Which keys do some queries not see?

    Args:
        call: The call.
        entries: Its batch entries.
        rows: (row) int64, queries in ascending order.
        keys: How many of the first keys to look at.
        given: (entry, head, row, key) bool, what the scores themselves hide.

    Returns:
        (entry | 1, head | 1, row, key - start) bool or None, and start: see `Chunk`.
    """
    if call.mask is not None:
        mask = _part(call.mask, entries, rows, keys)
        mask = ~mask if mask.dtype == torch.bool else mask <= HIDDEN
        if bool(mask.any()):
            given = mask if given is None else given | mask
    if call.causal:
        start = 0 if given is not None else min(int(rows[0]) + 1, keys)
        ahead = rows[:, None] < torch.arange(start, keys, device=rows.device)
        return (ahead[None, None] if given is None else given | ahead), start
    if given is not None:
        given = given.expand(-1, -1, len(rows), -1)
    return given, 0


def _part(mask: Tensor, entries: slice | Tensor, rows: Tensor, keys: int) -> Tensor:
    mask = mask[entries] if len(mask) > 1 else mask
    return (mask[:, :, rows] if mask.shape[2] > 1 else mask)[..., :keys]


def chunk(call: Call, entries: slice | Tensor, rows: Tensor, keys: int, room: Tensor | None = None) -> Chunk:
    """Computes the weights of some queries on the first ``keys`` keys; the others must be hidden from them.

    Args:
        call: The call.
        entries: Which of its batch entries.
        rows: (row) int64, which queries, in ascending order.
        keys: How many keys.
        room: (2, at least as many numbers as there are scores) float32, written over: fresh memory is slow.
    """
    if call.weights is not None:
        return _of_weights(call, entries, rows, keys)
    scores = _scores(call, entries, rows, keys, None if room is None else room[0])
    given = None
    if call.change is not None:
        numbers = torch.arange(call.q.shape[0], device=rows.device)[entries]  # type: ignore[union-attr]
        scores = call.change(scores, numbers, rows).float()
        given = scores == -torch.inf
    if call.mask is not None and call.mask.dtype != torch.bool:
        mask = _part(call.mask, entries, rows, keys)
        scores += mask
        if bool(((mask <= FAINT) & (mask > HIDDEN)).any()):
            faint = (mask <= FAINT) & (scores < scores.amax(-1, keepdim=True) + FAINT)
            given = faint if given is None else given | faint
    unseen, start = hidden(call, entries, rows, keys, given)
    if unseen is not None:
        scores[..., start:].masked_fill_(unseen, -torch.inf)
    top = scores.amax(-1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)  # a query that sees nothing
    log = scores.sub_(top)
    raw = torch.exp(log, out=_take(None if room is None else room[1], log.shape, log))
    if unseen is not None:
        log[..., start:].masked_fill_(unseen, 0)
    return Chunk(raw, raw.sum(-1), log, log, top[..., 0], True, unseen, start)


def _take(room: Tensor | None, shape: Sequence[int], like: Tensor) -> Tensor:
    """Uninitialised memory of a shape, out of the room where there is one."""
    return like.new_empty(shape) if room is None else room[: prod(shape)].view(shape)


def _scores(call: Call, entries: slice | Tensor, rows: Tensor, keys: int, room: Tensor | None) -> Tensor:
    """(entry, head, row, key) float32: q·k times scale; key heads are not expanded for their groups of heads."""
    assert call.q is not None
    assert call.k is not None
    q = call.q[entries][:, :, rows].float() * call.scale
    k = call.k[entries, :, :keys]
    count, heads, group = len(q), k.shape[1], q.shape[1] // k.shape[1]
    q = q.reshape(count * heads, group * len(rows), -1)
    scores = _take(room, (count * heads, group * len(rows), keys), q)
    step = keys if k.dtype == torch.float32 else max(1, TILE // max(1, count * heads * k.shape[3]))
    for first in range(0, keys, step):
        tile = k[:, :, first : first + step].float().flatten(0, 1)
        if step == keys:
            torch.bmm(q, tile.mT, out=scores)
        else:
            scores[..., first : first + step] = torch.bmm(q, tile.mT)
    return scores.view(count, heads * group, len(rows), keys)


def unweighted(call: Call, entries: slice | Tensor, rows: Tensor) -> Tensor:
    """(entry, head | 1, row, key) bool: which keys do weights of the model's own hide?

    By their scores, where these are known; else those on which no head puts any weight.
    """
    assert call.weights is not None
    none = call.weights[entries][:, :, rows] < NOTHING
    if call.scores is None:
        return none.all(1, keepdim=True)
    low = call.scores[entries][:, :, rows] <= HIDDEN
    return low & (
        none | low.all(-1, keepdim=True)
    )  # where all is hidden, weights are uniform, and mean nothing


def _of_weights(call: Call, entries: slice | Tensor, rows: Tensor, keys: int) -> Chunk:
    assert call.weights is not None
    raw = call.weights[entries][:, :, rows, :keys].float()
    unseen, start = hidden(call, entries, rows, keys, unweighted(call, entries, rows)[..., :keys])
    assert unseen is not None
    raw = raw.masked_fill(unseen, 0)
    log = raw.clamp_min(NOTHING).log()
    if call.scores is not None:
        scores, unknown = call.scores[entries][:, :, rows, :keys].float(), unseen
    else:
        scores, unknown = log, unseen | (raw == 0)
    scores = scores.masked_fill(unknown, -torch.inf)
    top = scores.amax(-1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)
    scores = scores.sub_(top).masked_fill_(unknown, 0)
    return Chunk(raw, raw.sum(-1), log, scores, top[..., 0], call.scores is not None, unseen, start)
