"""Runs that differ in their seed alone are one group; the spread between them is the noise that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainlab.diagnostics.comparison.measuring import Measured
from trainlab.diagnostics.comparison.settings import group

__all__ = ["groups"]


def groups(
    names: Sequence[str],
    configs: Sequence[Mapping[str, str]],
    measured: Sequence[Measured],
    copy_of: Sequence[str],
    *,
    lower: bool,
) -> dict[str, Any]:
    """The columns of the table of groups, the best value first, and the group of each run; a copy is no repeat."""
    member, titles = group(names, configs)
    runs = [[i for i, each in enumerate(member) if each == place] for place in range(len(titles))]
    able = [_once([i for i in each if np.isfinite(measured[i].value)], copy_of) for each in runs]
    level = [np.array([measured[i].level for i in each]) for each in able]
    value = np.array([np.mean([measured[i].value for i in each]) if each else np.nan for each in able])
    share = all((each > 0).all() for each in level)
    scale = [each.mean() if share and len(each) else 1.0 for each in level]
    spread, freedom = _pooled([each / size for each, size in zip(level, scale, strict=True)])
    rows = [
        _error([measured[i] for i in each], spread * size, freedom)
        for each, size in zip(able, scale, strict=True)
    ]
    order = np.argsort(np.where(np.isfinite(value), value if lower else -value, np.inf), kind="stable")
    place = np.argsort(order)
    return {
        "run_group": np.array([place[each] for each in member], np.int32),
        "group_name": tuple(titles[i] for i in order),
        "group_value": value[order],
        "group_level": np.array([each.mean() if len(each) else np.nan for each in level])[order],
        "group_error": np.array([error for error, _ in rows])[order],
        "group_freedom": np.array([freedom for _, freedom in rows])[order],
        "group_runs": np.array([len(each) for each in able], np.int64)[order],
        "seed_spread": spread,
        "seed_spread_is_share": bool(share),
    }


def _once(runs: list[int], copy_of: Sequence[str]) -> list[int]:
    """Without the copies, unless there is nothing else."""
    return [i for i in runs if not copy_of[i]] or runs[:1]


def _pooled(levels: Sequence[np.ndarray]) -> tuple[float, float]:
    """The standard deviation between repeats, from all groups that have some, and its degrees of freedom."""
    repeated = [each for each in levels if len(each) > 1]
    freedom = float(sum(len(each) - 1 for each in repeated))
    if not freedom:
        return np.nan, 0.0
    return float(np.sqrt(sum(((each - each.mean()) ** 2).sum() for each in repeated) / freedom)), freedom


def _error(runs: Sequence[Measured], spread: float, freedom: float) -> tuple[float, float]:
    """The standard error of a group's level and its degrees of freedom.

    The spread between repeats holds the noise within a run, so that is counted only where nothing was repeated, or
    where it is the larger.
    """
    if not runs:
        return np.nan, np.nan
    within = np.sqrt(np.mean([each.error**2 for each in runs]))
    if np.isfinite(spread) and not within > spread:
        return spread / np.sqrt(len(runs)), freedom
    return float(within / np.sqrt(len(runs))), float(np.sum([each.freedom for each in runs]))
