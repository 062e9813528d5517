"""From single losses to means with honest errors: the unit is the clip, since noise draws of one clip are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "Estimate",
    "by_unit",
    "estimate",
    "finite_mean",
    "log_ratio",
    "relative_to_median",
    "strata",
]


@dataclass(frozen=True)
class Estimate:
    """Means over independent units.

    Attributes:
        mean: Of the units' means; NaN where no value is finite.
        se: Standard error of it; NaN for fewer than two units.
        units: How many units there are.
        count: How many single losses went in.
    """

    mean: np.ndarray
    se: np.ndarray
    units: np.ndarray
    count: np.ndarray


def by_unit(values: np.ndarray) -> np.ndarray:
    """(draw, level, frame, unit): of several clips as they are; of a single clip each draw is a unit of its own."""
    return values.transpose(3, 1, 2, 0) if values.shape[3] == 1 else values


def estimate(losses: np.ndarray, over: tuple[int, ...]) -> Estimate:
    """Averages ``losses`` (draw, level, frame, unit) over draws, units and the axes in ``over``.

    Everything that a unit brings is averaged first, then the units are compared: ``se = std(units) / √units``. Values
    that are not finite are left out.
    """
    known = np.isfinite(losses)
    filled = np.where(known, losses, 0.0)
    axes = (0, *over)
    count = known.sum(axes)
    per_unit = filled.sum(axes) / np.where(count, count, np.nan)
    return _over_units(per_unit, count.sum(-1))


def _over_units(per_unit: np.ndarray, count: np.ndarray) -> Estimate:
    known = np.isfinite(per_unit)
    units = known.sum(-1)
    safe = np.where(units, units, np.nan)
    mean = np.where(known, per_unit, 0.0).sum(-1) / safe
    squares = np.where(known, (per_unit - mean[..., None]) ** 2, 0.0).sum(-1)
    return Estimate(mean, np.sqrt(squares / np.where(units > 1, units - 1, np.nan) / safe), units, count)


def finite_mean(values: np.ndarray) -> float:
    """The mean of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def relative_to_median(cells: np.ndarray) -> np.ndarray:
    """(frame) geometric mean over levels of a frame's loss over that of the median frame, from cells (level, frame)."""
    known = np.isfinite(cells) & (cells > 0)
    logs = np.full(cells.shape, np.nan)
    for level, here in enumerate(known):
        if here.any():
            logs[level, here] = np.log(cells[level, here] / np.median(cells[level, here]))
    return np.exp([finite_mean(logs[:, frame]) for frame in range(cells.shape[1])])


def log_ratio(other: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """The mean over levels of log(other / base), and its standard error by the delta method.

    Both are (level, unit) and of the same units under the same noise, so that what units have in common cancels.
    Levels at which either mean is not above 0 are left out.
    """
    with np.errstate(invalid="ignore"):
        above, below = other.mean(-1, keepdims=True), base.mean(-1, keepdims=True)
        usable = (above > 0) & (below > 0) & np.isfinite(above) & np.isfinite(below)
    usable = usable[:, 0]
    if not usable.any():
        return float("nan"), float("nan")
    above, below, other, base = above[usable], below[usable], other[usable], base[usable]
    influence = (other / above - base / below).mean(0)
    units = influence.size
    se = influence.std(ddof=1) / np.sqrt(units) if units > 1 else float("nan")
    return float(np.log(above / below).mean()), float(se)


def strata(lengths: np.ndarray, most: int = 6) -> np.ndarray:
    """(unit) int; the length of each unit's stratum: its own where there are few, else the next power of 2."""
    if len(np.unique(lengths)) <= most:
        return lengths
    up: np.ndarray = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return up
