"""How the rules of `attention` name heads."""

from __future__ import annotations

from collections.abc import Sized
from typing import SupportsIndex

import numpy as np

from trainlab.diagnostics.attention.result import AttentionResult

__all__ = ["NAMED", "counted", "heads_in", "named", "others"]

NAMED = 8  # offenders that are listed


def named(r: AttentionResult, head: SupportsIndex) -> str:
    """E.g. ``blocks.3.time, head 2``, of a row of table ``head``."""
    return f"{r.call_name[r.head_call[head]] or 'the model itself'}, head {r.head_number[head]}"


def counted(count: int, one: str, many: str) -> str:
    """E.g. ``1 query``, ``12,000 queries``."""
    return f"{count:,} {one if count == 1 else many}"


def heads_in(r: AttentionResult, heads: Sized) -> str:
    """E.g. ``3 of 24 heads``."""
    return f"{len(heads)} of {counted(len(r.head_call), 'head', 'heads')}"


def others(r: AttentionResult, values: np.ndarray) -> np.ndarray:
    """(head) median of a value over the other heads of the same call; NaN for a head that is alone."""
    answer = np.full(len(values), np.nan)
    for call in range(len(r.call_name)):
        rows = np.arange(len(values))[r.heads_of(call)]
        for row in rows:
            rest = values[rows[rows != row]]
            rest = rest[np.isfinite(rest)]
            if len(rest):
                answer[row] = np.median(rest)
    return answer
