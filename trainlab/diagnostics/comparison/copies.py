"""Which files hold the same run, written with other digits perhaps?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainlab.diagnostics.comparison.measuring import sorted_by_step
from trainlab.subjects.runlog.log import Series

__all__ = ["copies"]

LEAST = 10  # points that agree; 3 where they are written with more than 4 digits
AGREE = 0.95  # of them: rounding twice moves a few
FAR = 0.06  # of the value; no rounding to one digit moves most values so far, and most runs differ by more
MOST = 9  # digits that are looked for


def copies(chosen: Mapping[str, Series], names: Sequence[str], unit: str) -> tuple[str, ...]:
    """For each run the first one with the same points, empty where there is none.

    Values are compared as the coarser of both files writes them: to so many significant digits, or decimals. Points are
    paired by their steps; in the order of the files where those hold equally many, since steps may be rounded too.
    """
    seen: list[tuple[str, np.ndarray, np.ndarray]] = []
    found = []
    for name in names:
        original = ""
        if name in chosen:
            x, order = sorted_by_step(chosen[name], unit)
            y = chosen[name].value[order]
            good = np.isfinite(y)
            x, y = x[good], y[good]
            original = next((other for other, *theirs in seen if _same(x, y, *theirs)), "")
            if not original:
                seen.append((name, x, y))
        found.append(original)
    return tuple(found)


def _same(x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray) -> bool:
    shorter = min(len(x), len(other_x))
    if shorter < 3:
        return False
    if len(x) != len(other_x) or np.median(np.abs(x - other_x)) > 0.01 * np.abs(x).max():
        _, mine, theirs = np.intersect1d(x, other_x, return_indices=True)
        y, other_y = y[mine], other_y[theirs]
    if len(y) < max(3, 0.8 * shorter) or len(np.unique(y)) < 3:
        return False
    if np.median(np.abs(y - other_y)) > FAR * np.median(np.abs(y)):
        return False
    for decimals in (False, True):
        digits = min(_digits(y, decimals=decimals), _digits(other_y, decimals=decimals))
        if len(y) >= (3 if digits > 4 else LEAST) and digits:
            one, two = (_rounded(each, digits, decimals=decimals) for each in (y, other_y))
            if np.isclose(one, two, rtol=1e-12, atol=1e-12).mean() >= AGREE:
                return True
    return False


def _digits(values: np.ndarray, *, decimals: bool) -> int:
    """The significant digits, or the decimals, with which all of these are written."""
    return next(
        (
            d
            for d in range(1, MOST)
            if np.allclose(_rounded(values, d, decimals=decimals), values, rtol=1e-12, atol=1e-15)
        ),
        MOST,
    )


def _rounded(values: np.ndarray, digits: int, *, decimals: bool) -> np.ndarray:
    if decimals:
        return np.round(values, digits)
    size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros(len(values))))
    unit = 10.0 ** (size - digits + 1)
    rounded: np.ndarray = np.round(values / unit) * unit
    return rounded
