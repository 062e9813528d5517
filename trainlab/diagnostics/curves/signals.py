"""Robust numbers of noisy curves: levels by running medians, noise by median deviations, stretches that are flat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "Flat",
    "after_median",
    "end_level",
    "flattest",
    "level",
    "middle_mean",
    "noise",
    "smooth",
    "start_level",
    "window",
]

GAUSS = 1.4826  # a median absolute deviation of a normal distribution times this is its standard deviation
BLOCKS = 60  # of a run, to find what is flat


def window(count: int) -> int:
    """How many points a running median spans: a twentieth of the series, 3 to 101, odd."""
    return int(np.clip(count // 20, 3, 101)) | 1


def smooth(value: np.ndarray, width: int | None = None) -> np.ndarray:
    """The centred running median of finite values.

    The window shrinks towards the first point, so that a steep start is kept, and is cut off at the last, which is
    noise more often than news.
    """
    count = len(value)
    half = min((window(count) if width is None else width) // 2, (count - 1) // 2)
    if half < 1:
        return value.copy()
    middle = np.median(np.lib.stride_tricks.sliding_window_view(value, 2 * half + 1), axis=1)
    head = [np.median(value[: 2 * i + 1]) for i in range(half)]
    tail = [np.median(value[count - 2 * half + i :]) for i in range(half)]
    return np.concatenate([head, middle, tail])


def after_median(value: np.ndarray, width: int) -> np.ndarray:
    """The median of the ``width`` points before each point; NaN for the first ``width``."""
    if len(value) <= width:
        return np.full(len(value), np.nan)
    before = np.median(np.lib.stride_tricks.sliding_window_view(value, width)[:-1], axis=1)
    return np.concatenate([np.full(width, np.nan), before])


def level(value: np.ndarray) -> float:
    """The median of finite values; NaN where there are none."""
    return float(np.median(value)) if len(value) else float("nan")


def middle_mean(value: np.ndarray) -> float:
    """The mean of the middle half of the values: nearly as exact as the mean, and no spike moves it."""
    quarter = len(value) // 4
    return float(np.sort(value)[quarter : len(value) - quarter].mean()) if len(value) else float("nan")


def start_level(value: np.ndarray) -> float:
    """Where a curve begins: the median of its first three values."""
    return level(value[:3])


def end_level(value: np.ndarray) -> float:
    """Where a curve ends: the median of its last tenth, 3 to 100 points."""
    return level(value[-int(np.clip(len(value) // 10, 3, 100)) :])


def noise(value: np.ndarray) -> float:
    """The robust standard deviation of a curve about its running median, or about the mean of both neighbours.

    The larger of the two: a median of 3 or 5 points follows their noise, and neighbours may be alike. Exact values have
    about 0.
    """
    if len(value) < 5:
        return 0.0
    between = (value[1:-1] - (value[:-2] + value[2:]) / 2) / np.sqrt(1.5)
    return max(
        float(GAUSS * np.median(np.abs(away - np.median(away)))) for away in (value - smooth(value), between)
    )


class Flat(NamedTuple):
    """A stretch of a curve that does not change: from ``first`` to ``last`` (points), at ``level``."""

    first: int
    last: int
    level: float
    share: float


def flattest(x: np.ndarray, value: np.ndarray, change: float) -> Flat | None:
    """The longest stretch in which a curve neither falls nor rises by more than ``change`` of its level.

    The run is cut into blocks of equal length along ``x``; a stretch is flat where the medians of its blocks stay within
    ``change`` of the level and four of their standard errors, and a straight line through them ends where it began, within
    ``change``.

    Args:
        x: (point,) where the points stand, ascending.
        value: (point,) finite.
        change: As a share of the level.
    """
    if len(x) < 20 or x[-1] <= x[0]:
        return None
    edges = np.linspace(x[0], x[-1], min(BLOCKS, len(x) // 3) + 1)
    cuts = np.unique(np.searchsorted(x, edges[1:-1]))
    blocks = [block for block in np.split(np.arange(len(x)), cuts) if len(block)]
    medians = np.array([np.median(value[block]) for block in blocks])
    counts = np.array([len(block) for block in blocks])
    error = 1.25 * noise(value) / np.sqrt(counts)
    best: tuple[float, int, int] = (0.0, 0, 0)
    for first in range(len(blocks) - 2):
        rest = medians[first:]
        extent = np.maximum.accumulate(rest) - np.minimum.accumulate(rest)
        widest = 2 * (change * np.maximum.accumulate(np.abs(rest)) + 4 * np.maximum.accumulate(error[first:]))
        for last in (first + np.flatnonzero(extent <= widest)[::-1]).tolist():
            length = x[blocks[last][-1]] - x[blocks[first][0]]
            if last < first + 3 or length <= best[0]:
                break
            inside = medians[first : last + 1]
            away = np.abs(inside - np.median(inside))
            middle = abs(float(np.median(inside)))
            if (away <= change * middle + 4 * error[first : last + 1]).all() and _drift(
                inside
            ) <= change * middle:
                best = (length, first, last)
                break
    length, first, last = best
    if length == 0:
        return None
    middle, wide = float(np.median(medians[first : last + 1])), noise(value)
    # the edges of blocks are coarse: the onset is the last point of the way there that is off, seen through a short median
    least, most = int(blocks[max(0, first - 1)][0]), int(blocks[(first + last) // 2][0])
    way = np.abs(smooth(value[least:most], 9) - middle) > change * abs(middle) / 2 + wide
    begin = least + (int(np.flatnonzero(way)[-1]) + 1 if way.any() else 0)
    end = int(blocks[last][-1])
    return Flat(begin, end, middle, float((x[end] - x[begin]) / (x[-1] - x[0])))


def _drift(medians: np.ndarray) -> float:
    """How far a straight line through the medians moves from first to last."""
    place = np.arange(len(medians)) - (len(medians) - 1) / 2
    slope = float((place * medians).sum() / (place**2).sum())
    return abs(slope) * (len(medians) - 1)
