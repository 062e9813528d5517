"""One run's metric in numbers: best, last, tail, the value at a step, and the points for its curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainlab.diagnostics.comparison.choosing import positions
from trainlab.diagnostics.comparison.noise import level, window
from trainlab.subjects.runlog.log import RunLog, Series

__all__ = ["Envelope", "Measured", "envelope", "measure", "sorted_by_step"]


class Measured(NamedTuple):
    """The columns of a run that its metric gives; told in `ComparisonResult`."""

    points: int = 0
    bad: int = 0
    bad_step: float = np.nan
    bad_line: int = 0
    first: float = np.nan
    first_step: float = np.nan
    reached: float = np.nan
    best: float = np.nan
    best_step: float = np.nan
    best_line: int = 0
    last: float = np.nan
    last_step: float = np.nan
    last_line: int = 0
    tail_mean: float = np.nan
    tail_spread: float = np.nan
    tail_noise: float = np.nan
    tail_from: float = np.nan
    tail_points: int = 0
    value: float = np.nan
    value_step: float = np.nan
    value_line: int = 0
    level: float = np.nan
    error: float = np.nan
    freedom: float = np.nan


class Envelope(NamedTuple):
    """A curve's points, thinned; (point) float64 each; told in `ComparisonResult`."""

    step: np.ndarray
    epoch: np.ndarray
    time: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def measure(
    series: Series | None, log: RunLog, unit: str, at: float, tail: float, *, lower: bool
) -> Measured:
    """Measures a run's metric.

    Args:
        series: The metric; None where the run has none.
        log: The run.
        unit: What steps count.
        at: The step of the ranking.
        tail: Share of the run that makes its tail.
        lower: Whether lower values are better.
    """
    reached, stride = _furthest(log, unit)
    if series is None:
        return Measured(reached=reached)
    x, order = sorted_by_step(series, unit)
    if not len(x):
        return Measured(reached=reached)
    y, line = series.value[order], series.line[order]
    good = np.isfinite(y)
    bad = np.flatnonzero(~good)
    found = Measured(
        points=len(y),
        bad=len(bad),
        bad_step=float(x[bad[0]]) if len(bad) else np.nan,
        bad_line=int(line[bad[0]]) if len(bad) else 0,
        first=float(y[0]),
        first_step=float(x[0]),
        reached=max(reached, float(x[-1])),
        last=float(y[-1]),
        last_step=float(x[-1]),
        last_line=int(line[-1]),
    )
    here = int(np.searchsorted(x, at, side="right")) - 1
    # a run whose last line is of step 14 990 of 15 000, or counts from 0, has reached it
    if here >= 0 and found.reached + stride >= at:
        found = found._replace(value=float(y[here]), value_step=float(x[here]), value_line=int(line[here]))
    if not good.any():
        return found
    best = int(np.flatnonzero(good)[np.argmin(y[good]) if lower else np.argmax(y[good])])
    own = window(x, float(x[-1]), tail)
    inside = y[own][good[own]]
    found = found._replace(
        best=float(y[best]),
        best_step=float(x[best]),
        best_line=int(line[best]),
        tail_mean=float(inside.mean()) if len(inside) else np.nan,
        tail_spread=float(inside.std(ddof=1)) if len(inside) > 1 else np.nan,
        tail_noise=level(x[own][good[own]], inside, float(x[-1])).noise,
        tail_from=float(x[own][0]),
        tail_points=len(inside),
    )
    if not np.isfinite(found.value):
        return found
    near = window(x, at, tail)
    told = level(x[near][good[near]], y[near][good[near]], at)
    return found._replace(level=told.value, error=told.error, freedom=told.freedom)


def sorted_by_step(series: Series, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that are told, in order, and the points that they belong to."""
    x = positions(series, unit)
    told = np.flatnonzero(np.isfinite(x))
    order = told[np.argsort(x[told], kind="stable")]
    return x[order], order


def _furthest(log: RunLog, unit: str) -> tuple[float, float]:
    """The furthest step of a run and the finest stride of its series; 0 and 0 where it tells neither."""
    furthest, stride = np.nan, np.inf
    for series in log.series.values():
        x = positions(series, unit)
        x = x[np.isfinite(x)]
        if len(x):
            furthest = float(np.nanmax([furthest, x.max()]))
        gaps = np.diff(x)
        if (gaps > 0).any():
            stride = min(stride, float(np.median(gaps[gaps > 0])))
    return furthest, stride if np.isfinite(stride) else 0.0


def envelope(series: Series | None, unit: str, kept: int, *, lower: bool) -> Envelope:
    """The curve in so many points at most: first, last and best exact, the others means of bins of equal counts."""
    if series is None:
        none = np.zeros(0)
        return Envelope(none, none, none, none, none, none)
    x, order = sorted_by_step(series, unit)
    y = series.value[order]
    columns = (x, series.epoch[order], series.time[order])
    finite = np.where(np.isfinite(y), y, np.nan)
    if len(x) <= kept:
        return Envelope(*columns, finite, finite, finite)
    best = int(np.nanargmin(finite) if lower else np.nanargmax(finite)) if np.isfinite(finite).any() else 0
    exact = [0, 1, best, best + 1, len(x) - 1]
    starts = np.unique(
        [*np.linspace(1, len(x) - 1, kept - 3).astype(np.int64), *(i for i in exact if i < len(x))]
    )
    size = np.diff(starts, append=len(x))
    count = np.add.reduceat(np.isfinite(finite).astype(np.float64), starts)
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(np.nan_to_num(finite), starts) / np.where(count > 0, count, np.nan)
    step, epoch, time = (np.add.reduceat(each, starts) / size for each in columns)
    return Envelope(
        step,
        epoch,
        time,
        mean,
        np.fmin.reduceat(finite, starts),
        np.fmax.reduceat(finite, starts),
    )
