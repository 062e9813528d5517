"""The level of a noisy curve at a step, and how well it is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Level", "level", "window"]

LEAST = 5  # points of a window, where the curve has them
CORRELATED = 16  # fewer points tell nothing of how alike neighbours are


class Level(NamedTuple):
    """A straight line through a window, at one step.

    Attributes:
        value: Its height there.
        error: Its standard error; NaN under three points.
        freedom: Degrees of freedom of the error.
        noise: Standard deviation of the points about the line; NaN under three points.
    """

    value: float
    error: float
    freedom: float
    noise: float


def window(x: np.ndarray, at: float, share: float) -> slice:
    """The points in the last share of the way to a step, five at least; ``x`` is sorted."""
    end = int(np.searchsorted(x, at, side="right"))
    if not end:
        return slice(0, 0)
    begin = int(np.searchsorted(x[:end], at - share * (at - x[0])))
    return slice(max(0, min(begin, end - LEAST)), end)


def level(x: np.ndarray, y: np.ndarray, at: float) -> Level:
    """Fits a straight line and gives its height at a step.

    The error is that of a regression line, widened by the square root of the autocorrelation time of the residuals
    (1 + 2 Σ ρ, summed while ρ is above 0.1): logged losses are often running means, whose neighbours are alike.

    Args:
        x: ``(point,)`` steps.
        y: ``(point,)`` finite values.
        at: Where the level is wanted.
    """
    count = len(x)
    if count < 3:
        return Level(float(y[-1]) if count else np.nan, np.nan, np.nan, np.nan)
    away = x - x.mean()
    square = float((away**2).sum())
    slope = float((away * y).sum() / square) if square > 0 else 0.0
    residual = y - y.mean() - slope * away
    noise = float(np.sqrt((residual**2).sum() / (count - 2)))
    if noise <= 1e-12 * float(np.abs(y).max()):  # rounding
        noise = 0.0
    alike = _autocorrelation_time(residual) if noise > 0 else 1.0
    reach = (at - x.mean()) ** 2 / square if square > 0 else 0.0
    error = noise * float(np.sqrt(alike * (1 / count + reach)))
    return Level(float(y.mean() + slope * (at - x.mean())), error, max(count / alike - 2, 1.0), noise)


def _autocorrelation_time(residual: np.ndarray) -> float:
    count = len(residual)
    if count < CORRELATED:
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(residual, size)) ** 2
    correlation = np.fft.irfft(power, size)[: count // 3]
    correlation = correlation / correlation[0]
    low = np.flatnonzero(correlation < 0.1)
    kept = correlation[1 : low[0] if len(low) else None]
    return float(min(1 + 2 * kept.sum(), count / 3))
