"""The pictures of `attention`, in the order of the question: all heads, one statistic, one map, one query."""

from __future__ import annotations

from trainlab.diagnostic import View
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.views_of_grid import grid, grid_knobs
from trainlab.diagnostics.attention.views_of_heads import (
    alike,
    alike_knobs,
    depth,
    heads,
    heads_knobs,
    received,
    received_knobs,
)
from trainlab.diagnostics.attention.views_of_maps import map_knobs, tile
from trainlab.diagnostics.attention.views_of_rows import rollout, rollout_knobs, row, row_knobs
from trainlab.diagnostics.attention.views_of_video import frames, frames_knobs, types, types_knobs

__all__ = ["VIEWS"]

VIEWS: tuple[View[AttentionResult], ...] = (
    View("grid", "all heads in small", grid, grid_knobs, size=(9.0, 9.2)),
    View("heads", "a statistic by head", heads, heads_knobs, size=(8.0, 6.0)),
    View("map", "the map of a head", tile, map_knobs, size=(8.4, 6.0)),
    View("row", "where a query looks", row, row_knobs, size=(9.0, 5.0)),
    View("received", "which keys are looked at", received, received_knobs, size=(8.0, 4.6)),
    View("depth", "scores and entropy by depth", depth, size=(8.0, 6.0)),
    View("alike", "which heads look alike", alike, alike_knobs, size=(7.0, 6.0)),
    View("types", "space, time or itself", types, types_knobs, size=(8.0, 6.0)),
    View("frames", "frame by frame", frames, frames_knobs, size=(8.4, 5.4)),
    View("rollout", "one query through all layers", rollout, rollout_knobs, size=(9.0, 5.0)),
)
