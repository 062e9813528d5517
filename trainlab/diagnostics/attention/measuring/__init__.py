"""Measures attention calls without their maps of queries × keys, and computes exact tiles of these when asked."""

from __future__ import annotations

from trainlab.diagnostics.attention.measuring.engine import Measured, measure, write_rms
from trainlab.diagnostics.attention.measuring.exact import column, rolled, rollout, row, weights
from trainlab.diagnostics.attention.measuring.keeping import Keeper
from trainlab.diagnostics.attention.measuring.layout import Grid, Layout, guess_grid, place

__all__ = [
    "Grid",
    "Keeper",
    "Layout",
    "Measured",
    "column",
    "guess_grid",
    "measure",
    "place",
    "rolled",
    "rollout",
    "row",
    "weights",
    "write_rms",
]
