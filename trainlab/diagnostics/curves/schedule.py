"""Which schedule does a learning rate follow? The known shapes are laid over it, and the nearest is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.curves.curve import Curve

__all__ = ["Schedule", "fit"]

NEAR = 0.02  # of the peak: a shape within this distance of every point fits
POINTS = 400  # that are laid over; a schedule is smooth
RISE = 1.3  # a learning rate that grows by this factor after its peak was started again


@dataclass(frozen=True, eq=False)
class Schedule:
    """What a learning rate does.

    Attributes:
        name: The series.
        kind: ``constant``, ``linear``, ``cosine``, ``trapezoid``, ``exponential``, ``inverse square root``, ``steps``,
            ``restarts``, ``warm-up`` (it only rises) or ``irregular``.
        peak: Its highest value.
        warmup: Share of the run until it is first there.
        floor: Its last value over the peak.
        dead: Share of the run at less than 0.1 % of the peak, warm-up apart.
        horizon: Share of the run at which the shape ends; NaN where it has no end, or none that can be told.
        error: Largest distance from the shape, over the peak; NaN where there is no shape.
        jumps: Where it grew at once from the middle of its way: the points (after) of such steps.
        rises: Where it grew again after its peak: steps.
        x: (point) the points that the shape was laid over.
        shape: (point) the shape at those points, in the learning rate's unit.
    """

    name: str
    kind: str
    peak: float
    warmup: float
    floor: float
    dead: float
    horizon: float
    error: float
    jumps: tuple[int, ...]
    rises: tuple[float, ...]
    x: np.ndarray
    shape: np.ndarray


def fit(rate: Curve, progress: float) -> Schedule:
    """Names the schedule of a learning rate.

    Args:
        rate: Finite values, some above zero.
        progress: The share of the run that the last point stands at.
    """
    x, y = rate.x - min(0.0, float(rate.x[0])), rate.value / rate.value.max()
    whole = x[-1] / progress if progress > 0 else x[-1]
    top = int(np.argmax(y >= 0.999))
    share = x / whole if whole > 0 else x
    after = np.arange(top, len(y))
    rises = after[1:][y[after][1:] > RISE * np.maximum(y[after][:-1], 1e-3)]
    dead = float(np.sum(np.diff(share)[top:][y[1:][top:] < 1e-3])) if len(y) > top + 1 else 0.0
    kind, horizon, error, shape = "warm-up", float("nan"), float("nan"), np.full(len(y), np.nan)
    if len(rises):
        kind = "restarts"
    elif len(after) >= max(3, 0.05 * len(y)):
        kind, horizon, error, shape = _nearest(share, y, top)
    jumps = tuple(int(i) for i in rises if y[i - 1] > 0.1) if len(rises) < 3 else ()
    return Schedule(
        rate.name, kind, float(rate.value.max()), float(share[top]), float(y[-1]), dead, horizon, error, jumps,
        tuple(rate.x[rises].tolist()), rate.x, shape * float(rate.value.max()),
    )  # fmt: skip


def _nearest(share: np.ndarray, y: np.ndarray, top: int) -> tuple[str, float, float, np.ndarray]:
    picked = np.unique(np.linspace(top, len(y) - 1, POINTS).astype(int))
    t, seen = share[picked] - share[top], y[picked]
    best: tuple[str, float, float, Callable[[np.ndarray], np.ndarray]] | None = None
    for kind, horizon, shape in _shapes(t, seen, float(share[top])):
        error = float(np.abs(shape(t) - seen).max())
        if best is None or error < best[2] - 1e-3:  # the plainer one where two fit
            best = (kind, horizon, error, shape)
    assert best is not None
    kind, horizon, error, shape = best
    if error > NEAR:
        levels = len(np.unique(np.round(seen, 4)))
        stepped = levels <= max(3, len(seen) // 8) and (np.diff(seen) <= 1e-9).all()
        return ("steps" if stepped else "irregular"), float("nan"), float("nan"), np.full(len(y), np.nan)
    line = np.full(len(y), np.nan)
    line[top:] = shape(share[top:] - share[top])
    rise = share[: top + 1]
    if top:
        line[: top + 1] = y[0] + (1 - y[0]) * (rise - rise[0]) / max(rise[-1] - rise[0], 1e-12)
    return kind, float(share[top]) + horizon, error, line


def _shapes(
    t: np.ndarray, y: np.ndarray, warmup: float
) -> Iterator[tuple[str, float, Callable[[np.ndarray], np.ndarray]]]:
    """Shapes from 1 downwards over the time since the peak, the plain ones first; and where each ends."""
    nan = float("nan")
    length, floor = float(t[-1]), float(y.min())
    yield "constant", nan, np.ones_like
    if length <= 0 or floor > 0.999:
        return
    reached = float(t[np.argmax(y <= floor + 1e-3)])  # where the floor is reached, if it is
    ends = [reached, length, *np.geomspace(0.2, 5, 161) * length]
    floors = sorted({0.0, 0.01, 0.05, 0.1, floor})
    for kind, fall in (("linear", _linear), ("cosine", _cosine)):
        tried = [
            (float(np.abs(fall(t, end, low) - y).max()), end, low)
            for low in floors
            for end in ends
            if end > 0
        ]
        _, end, low = min(tried)
        known = nan if end > 4.5 * length else end
        yield kind, known, lambda s, end=end, low=low, fall=fall: fall(s, end, low)  # type: ignore[misc]
    begin = float(t[len(y) - 1 - np.argmax(y[::-1] >= 0.999)])
    if begin > 0:
        end = reached if reached > begin else length
        yield "trapezoid", end, lambda s: np.interp(s, [begin, end], [1.0, floor])
    above = y > 0
    slope = float((t[above] * np.log(y[above])).sum() / max((t[above] ** 2).sum(), 1e-30))
    yield "exponential", nan, lambda s: np.exp(slope * s)
    if warmup > 0:
        yield "inverse square root", nan, lambda s: np.sqrt(warmup / (s + warmup))


def _linear(t: np.ndarray, end: float, low: float) -> np.ndarray:
    return 1 - (1 - low) * np.clip(t / end, 0, 1)


def _cosine(t: np.ndarray, end: float, low: float) -> np.ndarray:
    return low + (1 - low) * (1 + np.cos(np.pi * np.clip(t / end, 0, 1))) / 2
