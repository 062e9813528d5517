"""What is said about one query: entropy, peak, distances, shares of space and time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from trainlab.diagnostics.attention.measuring.chunks import Chunk, Sizes
from trainlab.diagnostics.attention.measuring.layout import Layout

__all__ = ["Found", "Geometry", "measure_rows"]


class Geometry:
    """Where queries and keys of a call are."""

    def __init__(self, size: Sizes, layout: Layout, sink: int) -> None:
        self.keys, self.sink = size.keys, sink
        self.cross = layout.kind == "cross"
        self.shift = 0 if self.cross else size.keys - size.queries  # queries are the last tokens
        self.prefix, self.frames, self.width = layout.prefix, layout.frames, layout.width
        self.places = layout.height * layout.width

    def apart(self, place: Tensor) -> Tensor:
        """(row, place) float32: from each row's place to every place."""
        y, x = place[:, None] // self.width, place[:, None] % self.width
        every = torch.arange(self.places, device=place.device)
        return torch.hypot((every // self.width - y).float(), (every % self.width - x).float())

    def frame_of(self, queries: Tensor) -> Tensor:
        """(row) int64; negative in the prefix."""
        return torch.div(queries - self.prefix, self.places, rounding_mode="floor")


@dataclass(frozen=True, slots=True)
class Found:
    """Of the rows of a chunk.

    Attributes:
        values: By name (entry, head, row) float32, NaN where a query has no such thing.
        peak: (entry, head, row) greatest weight.
        blocks: (entry, head, row, block of keys) raw weights by block.
        frames: (entry, head, row, frame) raw weights by frame; empty off the grid.
        lowest: (entry, head, row), lowest score of a visible key, less the top.
    """

    values: dict[str, Tensor]
    peak: Tensor
    blocks: Tensor
    frames: Tensor
    lowest: Tensor


def measure_rows(c: Chunk, geometry: Geometry, queries: Tensor, visible: Tensor, blocks: int) -> Found:
    """Measures the rows of a chunk.

    Args:
        c: The chunk; its ``log`` is written over.
        geometry: Where tokens are.
        queries: (row) int64, places of its queries among the keys.
        visible: (entry | 1, head | 1, row) int64, keys that they see.
        blocks: How many blocks of keys to add up.
    """
    raw, keys = c.raw, c.raw.shape[-1]
    at = torch.arange(keys, device=raw.device)
    values: dict[str, Tensor] = {}
    lowest = c.scores.amin(-1)
    known = visible if c.heard else (raw > 0).sum(-1)
    mean = c.scores.sum(-1) / known
    square = torch.linalg.vector_norm(c.scores, dim=-1) ** 2 / known
    spread = (square - mean**2).clamp_min(0).sqrt()
    few = visible < 2
    values["spread"] = spread.masked_fill(few | (known < 2), torch.nan)
    if bool(lowest.isinf().any()):  # no weight times no logarithm
        c.log.masked_fill_(c.log.isinf(), 0)
    nats = (c.total.log() - c.log.mul_(raw).sum(-1) / c.total).clamp_min(0)
    values["nats"] = nats
    values["entropy"] = (nats / visible.float().log()).masked_fill(few, torch.nan)
    peak = raw.amax(-1) / c.total
    values["peak"] = peak.masked_fill(few, torch.nan)
    values["first"] = (raw[..., : geometry.sink].sum(-1) / c.total).masked_fill(few, torch.nan)
    edges = [block * geometry.keys // blocks for block in range(blocks + 1)]
    by_block = torch.stack([raw[..., a:b].sum(-1) for a, b in itertools.pairwise(edges)], -1)
    nan = torch.full_like(nats, torch.nan)
    own = nan
    if geometry.cross:
        values |= dict.fromkeys(("self", "previous", "diagonal", "distance", "uniform_distance"), nan)
    else:
        own, before, after = (_near(raw, queries + step) / c.total for step in (0, -1, 1))
        values["self"] = own
        values["previous"] = before.masked_fill(queries == 0, torch.nan)
        values["diagonal"] = own + before + after
        away = (queries[:, None] - at).abs().float()
        values["distance"] = torch.mul(raw, away, out=c.log).sum(-1) / c.total
        values["uniform_distance"] = _uniform(c, away, visible).expand_as(nats)
    frames = _grid(values, c, geometry, queries, own)
    return Found(values, peak, by_block, frames, lowest)


def _near(raw: Tensor, key: Tensor) -> Tensor:
    """Weight of each row on a key of its own; 0 where there is none."""
    inside = (key >= 0) & (key < raw.shape[-1])
    index = key.clamp(0, raw.shape[-1] - 1)[:, None].expand(*raw.shape[:-1], 1)
    return raw.gather(-1, index)[..., 0] * inside


def _uniform(c: Chunk, away: Tensor, visible: Tensor) -> Tensor:
    total = away.sum(-1)
    if c.hidden is not None:
        total = away[:, : c.start].sum(-1) + torch.linalg.vecdot((~c.hidden).float(), away[:, c.start :])
    return total / visible


def _grid(values: dict[str, Tensor], c: Chunk, geometry: Geometry, queries: Tensor, own: Tensor) -> Tensor:
    """Adds the shares of space and time, and returns the weights by frame."""
    if not geometry.frames:
        names = ("space", "time", "elsewhere", "prefix", "far_space", "far_time", "gridded")
        values |= dict.fromkeys(names, torch.full_like(own, torch.nan))
        return c.raw[..., :0]
    prefix, frames, places = geometry.prefix, geometry.frames, geometry.places
    grid = c.raw[..., prefix:].reshape(*c.total.shape, frames, places)
    by_frame, by_place = grid.sum(-1), grid.sum(-2)
    off = queries < prefix
    spot = (queries - prefix).clamp_min(0)
    frame, place = spot // places, spot % places
    rows = torch.arange(len(queries), device=queries.device)
    space = (by_frame[:, :, rows, frame] / c.total - own).clamp_min(0)
    time = (by_place[:, :, rows, place] / c.total - own).clamp_min(0)
    gridded = by_frame.sum(-1) / c.total
    frames_apart = (frame[:, None] - torch.arange(frames, device=queries.device)).abs().float()
    shares = {
        "space": space,
        "time": time,
        "elsewhere": (gridded - space - time - own).clamp_min(0),  # of differences rounding may be left
        "prefix": c.raw[..., :prefix].sum(-1) / c.total,
        "far_space": torch.linalg.vecdot(by_place, geometry.apart(place)) / c.total,
        "far_time": torch.linalg.vecdot(by_frame, frames_apart) / c.total,
        "gridded": gridded,
    }
    values |= {name: share.masked_fill(off, torch.nan) for name, share in shares.items()}
    return by_frame
