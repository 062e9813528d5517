"""Words that several rules share, and what they have to ask first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainlab.diagnostics.timesteps.limits import TimestepsLimits
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.finding import Level, Rule

__all__ = ["answers_zero", "at_levels", "failing", "knows_nothing", "level_name", "told"]


def level_name(r: TimestepsResult) -> str:
    """What the caller calls the level."""
    return r.argument or "level"


def at_levels(r: TimestepsResult, rows: np.ndarray) -> str:
    """Where rows of `level` lie: one value, or from the least to the largest."""
    at = np.unique(r.level_at[rows])
    return f"at {level_name(r)} {at[0]:.4g}" + (f" … {at[-1]:.4g}" if len(at) > 1 else "")


def failing(
    r: TimestepsResult, limits: TimestepsLimits, rules: Sequence[Rule[TimestepsResult, TimestepsLimits]]
) -> str:
    """The codes of those rules that fail, in words: what they name comes first; empty where none does."""
    return " and ".join(rule.code for rule in rules if rule(r, limits).level is Level.FAIL)


def told(r: TimestepsResult, name: str) -> int | None:
    """The row of `told` with that name."""
    return r.told_name.index(name) if name in r.told_name else None


def answers_zero(r: TimestepsResult) -> bool:
    """Whether the last checkpoint answers 0, whatever it is given: it loses what 0 does, and moves for no level."""
    mean, zero = (r.grid(name)[-1] for name in ("level_mean", "level_zero"))
    # what noise is a part of is known in expectation only
    near = 1e-4 if r.objective in ("x0", "edm", "edm_network", "next_frame", "lm") else 0.05
    return bool(np.allclose(mean, zero, rtol=near)) and not (r.told_moved > 0).any()


def knows_nothing(r: TimestepsResult) -> bool:
    """Whether the last checkpoint loses what a trivial answer would at every level, though more is possible."""
    mean, ideal = (r.grid(name)[-1] for name in ("level_mean", "level_ideal"))
    answers = (r.grid(name)[-1] for name in ("level_zero", "level_average"))
    trivial = any(np.allclose(mean, each, rtol=0.1) and (ideal < 0.8 * each).any() for each in answers)
    return trivial or answers_zero(r)
